//! Signals as messages.

use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

/// What the operator asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGINT or SIGTERM: stop in order.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Signals waiting to be seen; more of the same kind add nothing.
const WAITING: usize = 8;

/// Turns SIGINT, SIGTERM and SIGHUP into [`Request`]s. To be called once per process.
pub fn requests() -> io::Result<Receiver<Request>> {
    let (sender, receiver) = bounded(WAITING);
    let on_int = sender.clone();
    ctrlc::set_handler(move || send(&on_int, Request::Stop)).map_err(io::Error::other)?;
    // ctrlc's `termination` feature would take SIGHUP for a stop, so those two come from here.
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let request = match signal {
                    SIGHUP => Request::Reload,
                    _ => Request::Stop,
                };
                send(&sender, request);
            }
        })?;
    Ok(receiver)
}

fn send(sender: &Sender<Request>, request: Request) {
    if sender.try_send(request).is_err() {
        log::debug!("{request:?} is asked for already");
    }
}
