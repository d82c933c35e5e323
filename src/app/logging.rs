//! Where log lines go: standard error, which the service manager keeps.
//!
//! Lines are written by a thread of their own. A reader or a handler that logs must not wait for a
//! terminal that is paused or a journal that is stuck; what does not fit is counted and said later.

mod journal;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
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
    level: Level,
}

enum Line {
    Text(Vec<u8>),
    /// No more lines are wanted.
    End,
}

/// What is logged, to be changed while the program runs. Cheap to clone.
#[derive(Clone)]
pub struct Level(Arc<Switch>);

struct Switch {
    logger: RwLock<(String, env_logger::Logger)>,
    /// Whether the one who started the program said what to log.
    fixed: bool,
    queue: Queue,
}

/// Starts logging. The flag wins over `RUST_LOG`, which wins over the configuration. Fails only
/// when there is no thread to be had.
pub fn start(flag: Option<&str>, configured: &str) -> io::Result<Log> {
    let environment = std::env::var("RUST_LOG").ok();
    let told = flag.or(environment.as_deref());
    let filter = told.unwrap_or(configured);
    let (lines, waiting) = bounded(WAITING);
    let queue = Queue {
        lines: lines.clone(),
        lost: Arc::default(),
        lost_total: Arc::default(),
    };
    let lost = Arc::clone(&queue.lost);
    let writer = Thread::spawn("log", move || write(&waiting, &lost))?;
    let logger = queue.logger(filter);
    let most = logger.filter();
    let level = Level(Arc::new(Switch {
        logger: RwLock::new((filter.to_owned(), logger)),
        fixed: told.is_some(),
        queue,
    }));
    match log::set_boxed_logger(Box::new(level.clone())) {
        Ok(()) => log::set_max_level(most),
        Err(_) => log::debug!("logging was started by the program already"),
    }
    Ok(Log {
        lines: Some(lines),
        writer,
        level,
    })
}

impl Log {
    /// What is logged.
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// What is logged, as `log_level` in the configuration.
    pub fn get(&self) -> String {
        self.read().0.clone()
    }

    /// Logs by `filter` from now on, which is one that the configuration would take.
    pub fn set(&self, filter: &str) {
        let logger = self.0.queue.logger(filter);
        let most = logger.filter();
        let mut held = self
            .0
            .logger
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = (filter.to_owned(), logger);
        drop(held);
        log::set_max_level(most);
    }

    /// Whether the command line or `RUST_LOG` said what to log, so that the configuration does not.
    pub fn is_fixed(&self) -> bool {
        self.0.fixed
    }

    /// Lines that could not be written in time.
    pub fn lost(&self) -> u64 {
        self.0.queue.lost_total.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, (String, env_logger::Logger)> {
        self.0.logger.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Level {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.read().1.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        self.read().1.log(record);
    }

    fn flush(&self) {}
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
#[derive(Clone)]
struct Queue {
    lines: Sender<Line>,
    /// Since the last line that was written.
    lost: Arc<AtomicU64>,
    lost_total: Arc<AtomicU64>,
}

impl Queue {
    fn logger(&self, filter: &str) -> env_logger::Logger {
        let mut builder = env_logger::Builder::new();
        builder.parse_filters(filter);
        builder.target(env_logger::Target::Pipe(Box::new(self.clone())));
        if journal::is_stderr() {
            builder.format(journal::record);
        } else {
            builder.format_timestamp_millis();
        }
        builder.build()
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                self.lost_total.fetch_add(1, Ordering::Relaxed);
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
            n => tell_as(
                log::Level::Warn,
                format_args!("({n} log lines were not written in time)"),
            ),
        }
    }
}

/// Tells the one who started the program why it does not do what it was started for, without the log.
pub fn tell(text: impl std::fmt::Display) {
    tell_as(log::Level::Error, text);
}

/// As [`tell`], what is no reason to end.
pub fn tell_as(level: log::Level, text: impl std::fmt::Display) {
    let mut stderr = io::stderr();
    // Where standard error is closed there is nobody to tell.
    let _ = match journal::is_stderr() {
        true => journal::lines(&mut stderr, level, &text.to_string()),
        false => writeln!(stderr, "{text}"),
    };
}
