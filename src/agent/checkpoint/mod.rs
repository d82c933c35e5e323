//! Keeps what the agent knows on the disk: a restart or an upgrade then asks only for what it
//! missed.
//!
//! Rows without a stamp are left out: nothing would tell that they are gone when they are. The stamp of a
//! tombstone has the time since when its object is gone, by this machine's clock: restarts do not make it
//! younger, nor do a publisher's clock or the age of a row that was swept make it older.

// Shown for what fuzzes it, and for nothing else.
#[doc(hidden)]
pub mod file;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::follower::Shared;
use super::recovery::Positions;
use crate::dispatch::Hub;
use crate::event::{Event, EventBatch};
use crate::replica::{Cursor, Replica};
use crate::util::atomic_file::AtomicFile;
use crate::util::thread::Thread;

pub use file::BadCheckpoint;

crate::metrics! {
    /// What checkpoints count.
    pub struct CheckpointMetrics {
        written_total: Counter = "Checkpoints written.",
        failed_total: Counter = "Checkpoints that could not be written.",
        rows: Gauge = "Rows in the last checkpoint, tombstones too.",
        unix_seconds: Gauge = "When the last checkpoint was written, seconds since the Unix epoch.",
    }
}

/// Its name in the state directory.
const NAME: &str = "replica.checkpoint";

/// Rows looked at under the hub's lock at once, and bytes of them after which it is let go.
const PIECE: usize = 256;
const PIECE_BYTES: usize = 1 << 20;

/// Times one is begun anew in a row because a topic was left meanwhile.
const ATTEMPTS: u32 = 3;

/// Where checkpoints go, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder, which must exist.
    pub folder: PathBuf,
    /// The time between two.
    pub every: Duration,
}

/// Reads what the checkpoint in `folder` has of `topics` into `hub`; gives the positions. One that is missing, damaged
/// or foreign is as none: everything is then loaded from the publishers.
pub fn restore(folder: &Path, topics: &HashSet<String>, hub: &Hub) -> Vec<Positions> {
    let path = folder.join(NAME);
    let start = Instant::now();
    let (mut rows, now) = (0, Clock::now());
    let read = file::read(&path, |batch| {
        // Rows of a topic that is wanted no longer would stay for ever.
        let wanted = |event: &Event<'_>| topics.contains(event.topic_or_all());
        let wanted: EventBatch = batch.iter().filter(wanted).collect();
        rows += wanted.len();
        hub.restore(wanted, |stamp| now.instant_of(stamp.unix_micros));
    });
    match read {
        Ok(mut positions) => {
            for publisher in &mut positions {
                publisher
                    .topics
                    .retain(|(topic, _)| topics.contains(&**topic));
            }
            log::info!(
                "{rows} rows of {} publishers restored from {} in {:?}",
                positions.len(),
                path.display(),
                start.elapsed()
            );
            positions
        }
        Err(BadCheckpoint::Missing) => Vec::new(),
        Err(why) => {
            log::warn!(
                "the checkpoint {} is not used, all rows are loaded from the publishers: {why}",
                path.display()
            );
            Vec::new()
        }
    }
}

/// Writes checkpoints on a thread of its own. Dropping it ends that, after a last one.
#[derive(Debug)]
pub struct Checkpoints {
    stop: Option<Sender<()>>,
    thread: Thread,
    /// What it counts.
    pub metrics: Arc<CheckpointMetrics>,
}

impl Checkpoints {
    /// Writes what `hub` and `shared` hold from time to time.
    pub fn start(options: Options, hub: &Arc<Hub>, shared: &Arc<Shared>) -> std::io::Result<Self> {
        let file = AtomicFile::new(options.folder.join(NAME), 0o600)?;
        if let Err(error) = file.remove_leftovers() {
            log::warn!("{}: {error}", options.folder.display());
        }
        let metrics = Arc::new(CheckpointMetrics::default());
        let mut worker = Worker {
            file,
            hub: Arc::clone(hub),
            shared: Arc::clone(shared),
            last: None,
            metrics: Arc::clone(&metrics),
        };
        let (stop, stopped) = bounded::<()>(0);
        let thread = Thread::spawn("checkpoint", move || {
            while stopped.recv_timeout(options.every) == Err(RecvTimeoutError::Timeout) {
                worker.write();
            }
            worker.write();
        })?;
        Ok(Checkpoints {
            stop: Some(stop),
            thread,
            metrics,
        })
    }

    /// Whether its thread runs; one that has ended does not begin again.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends the thread, as a panic would.
    #[cfg(test)]
    pub(super) fn break_down(&self) {
        assert!(self.stop.as_ref().is_some_and(|stop| stop.send(()).is_ok()));
    }

    /// Writes the last one; to be followed by [`Checkpoints::join_by`].
    pub fn finish(&mut self) {
        self.stop = None;
    }

    /// Waits for the last one until `deadline`; one that takes longer is given up, and the one
    /// before it stays.
    pub fn join_by(&mut self, deadline: Instant) -> bool {
        self.thread.join_by(deadline)
    }
}

/// The wall clock beside the one that instants are of.
#[derive(Debug, Clone, Copy)]
struct Clock {
    unix_micros: u64,
    instant: Instant,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Clock {
            unix_micros: micros(unix.unwrap_or_default()),
            instant: Instant::now(),
        }
    }

    /// The instant of a wall-clock time; this one where it is yet to come.
    fn instant_of(&self, unix_micros: u64) -> Instant {
        let age = Duration::from_micros(self.unix_micros.saturating_sub(unix_micros));
        self.instant.checked_sub(age).unwrap_or(self.instant)
    }

    fn unix_micros_of(&self, instant: Instant) -> u64 {
        let age = self.instant.saturating_duration_since(instant);
        self.unix_micros.saturating_sub(micros(age))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct Worker {
    file: AtomicFile,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    last: Option<Vec<Positions>>,
    metrics: Arc<CheckpointMetrics>,
}

impl Worker {
    fn write(&mut self) {
        for _ in 0..ATTEMPTS {
            if self.attempt() {
                return;
            }
        }
        self.metrics.failed_total.inc();
        log::warn!("topics are left all the time: the checkpoint before stays");
    }

    /// `false` when rows went meanwhile with their topic.
    fn attempt(&mut self) -> bool {
        // First the positions: rows that are newer than these do no harm. Rows that went do.
        let forgotten = self.shared.forgotten();
        let positions = self.shared.positions();
        if self.last.as_ref() == Some(&positions) || positions.is_empty() {
            return true;
        }
        let mut rows = 0;
        let (hub, now) = (&self.hub, Clock::now());
        let written = self.file.replace(|out| {
            let mut writer = file::Writer::new(out)?;
            for positions in &positions {
                writer.positions(positions)?;
            }
            let mut cursor = hub.with_replica(|replica| replica.cursor());
            loop {
                let (piece, more) = hub.with_replica(|replica| take(replica, &mut cursor, now));
                rows += piece.len() as u64;
                writer.rows(piece.iter())?;
                if !more {
                    break;
                }
            }
            if self.shared.forgotten() != forgotten {
                return Err(std::io::Error::other("a topic was left meanwhile"));
            }
            writer.finish()
        });
        match written {
            Ok(()) => {
                self.metrics.written_total.inc();
                self.metrics.rows.set(rows);
                self.metrics.unix_seconds.set(unix_seconds());
                self.last = Some(positions);
            }
            Err(_) if self.shared.forgotten() != forgotten => return false,
            Err(error) => {
                self.metrics.failed_total.inc();
                let path = self.file.path().display();
                log::error!("cannot write the checkpoint {path}: {error}");
            }
        }
        true
    }
}

/// The next rows that are kept; `false` when there are no more.
fn take(replica: &Replica, cursor: &mut Cursor, now: Clock) -> (EventBatch, bool) {
    let (mut piece, mut more) = (EventBatch::new(), true);
    for _ in 0..PIECE {
        more = replica.walk_any(cursor, 1, |name, row| {
            if let Some(mut stamp) = row.stamp {
                if let Some(gone) = row.gone() {
                    stamp.unix_micros = now.unix_micros_of(gone);
                }
                // It fits: what is there already is short, and so is what comes in one message.
                piece.push(&Event {
                    stamp: Some(stamp),
                    ..row.event(name)
                });
            }
        });
        if !more || piece.text_len() >= PIECE_BYTES {
            break;
        }
    }
    (piece, more)
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
