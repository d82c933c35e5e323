//! Signals as messages.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use super::thread::Thread;

/// What the operator asks of the process.
#[derive(Debug)]
pub struct Requests {
    /// SIGINT or SIGTERM: stop in order. Given once; a second one ends the process at once.
    pub stop: Receiver<()>,
    /// SIGHUP: read the configuration again.
    pub reload: Receiver<()>,
}

/// Turns SIGINT, SIGTERM and SIGHUP into [`Requests`]. To be called once per process.
///
/// A process that is asked to stop and still runs after `patience` is ended then, with status 0
/// like any other stop: whatever holds it up (a log that nobody reads, a handler, a library) has
/// had its time.
pub fn requests(patience: Duration) -> io::Result<Requests> {
    let (stop_to, stop) = bounded(1);
    let (reload_to, reload) = bounded(1);
    let stopper = Stopper {
        sender: stop_to,
        patience,
    };
    let on_int = stopper.clone();
    ctrlc::set_handler(move || on_int.stop()).map_err(io::Error::other)?;
    // ctrlc's `termination` feature would take SIGHUP for a stop, so those two come from here.
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    Thread::spawn("signals", move || {
        for signal in signals.forever() {
            match signal {
                // One that waits already is as good as two.
                SIGHUP => drop(reload_to.try_send(())),
                _ => stopper.stop(),
            }
        }
    })?;
    Ok(Requests { stop, reload })
}

#[derive(Clone)]
struct Stopper {
    sender: Sender<()>,
    patience: Duration,
}

impl Stopper {
    /// Must not log: the log may be what is stuck.
    fn stop(&self) {
        static STOPPING: AtomicBool = AtomicBool::new(false);
        if STOPPING.swap(true, Ordering::SeqCst) {
            process::exit(0);
        }
        let deadline = Instant::now() + self.patience;
        let watchdog = Thread::spawn("watchdog", move || {
            while let Some(left) = deadline.checked_duration_since(Instant::now()) {
                std::thread::sleep(left);
            }
            process::exit(0);
        });
        if watchdog.is_err() || self.sender.try_send(()).is_err() {
            process::exit(0);
        }
    }
}
