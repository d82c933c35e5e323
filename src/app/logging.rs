//! Where log lines go: standard error, which the service manager keeps.
//!
//! Lines are written by a thread of their own. A reader or a handler that logs must not wait for a
//! terminal that is paused or a journal that is stuck; what does not fit is counted and said later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::util::thread::Thread;

/// Lines that may wait to be written.
const WAITING: usize = 4096;

/// How long the end of the process waits for lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Keeps the log going; what waits is written when it is dropped.
#[must_use = "the log ends with it"]
pub struct Log {
    lines: Option<Sender<Line>>,
    writer: Thread,
}

enum Line {
    Text(Vec<u8>),
    /// No more lines are wanted.
    End,
}

/// Starts logging. The flag wins over `RUST_LOG`, which wins over the configuration. Fails only
/// when there is no thread to be had.
pub fn start(flag: Option<&str>, configured: &str) -> io::Result<Log> {
    let environment = std::env::var("RUST_LOG").ok();
    let filter = flag.or(environment.as_deref()).unwrap_or(configured);
    let (lines, waiting) = bounded(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let queue = Queue {
        lines: lines.clone(),
        lost: Arc::clone(&lost),
    };
    let writer = Thread::spawn("log", move || write(&waiting, &lost))?;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    builder.target(env_logger::Target::Pipe(Box::new(queue)));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has its own times.
        builder.format_timestamp(None);
    } else {
        builder.format_timestamp_millis();
    }
    if builder.try_init().is_err() {
        log::debug!("logging was started by the program already");
    }
    Ok(Log {
        lines: Some(lines),
        writer,
    })
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            let deadline = Instant::now() + LAST_WORDS;
            // When nothing is written any more, nobody reads these words either.
            if lines.send_deadline(Line::End, deadline).is_ok() {
                self.writer.join_by(deadline);
            }
        }
    }
}

/// What env_logger writes to: one call for each line.
struct Queue {
    lines: Sender<Line>,
    lost: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64) {
    let mut stderr = io::stderr();
    while let Ok(Line::Text(line)) = lines.recv() {
        // Where standard error is closed there is nobody to tell.
        let _ = stderr.write_all(&line);
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            n => tell(format_args!("({n} log lines were not written in time)")),
        }
    }
}

/// Tells the one who started the program, before there is a log.
pub fn tell(text: impl std::fmt::Display) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}
