//! The publisher's journal and current rows: version → stamp → journal, and only then is an event
//! sent or acknowledged.
//!
//! Owned by one thread; it has no socket, no thread and no clock of its own.
//!
//! * All events of one [`History::commit`] are one write, and one fsync, to the end of the journal:
//!   `publisher.redb.tail`, which is only appended to. From time to time they are moved to
//!   `publisher.redb`, in blobs: an insert per event would cost more than all the rest, and a commit
//!   per group would be eight pages where one event needs a line.
//! * Current rows are in memory. [`History::maintain`] writes the changed ones to the database from
//!   time to time, and always before it trims the journal that holds them.
//! * After an error the state in memory is that of the last successful commit and can be read, but
//!   nothing more is taken: [`History::reopen`] until it works. Whether the failed group is in the
//!   journal is known only then; if it is, agents find it as missed and producers that send it
//!   again are told [`Outcome::AlreadyDone`].

mod aside;
mod backend;
mod commit;
mod disk;
mod error;
mod flush;
mod identity;
mod index;
mod maintain;
mod open;
mod peers;
mod record;
mod replay;
mod rows;
mod state;
mod store;
mod tail;
mod trim;
mod version;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use commit::{Outcome, Submission};
pub use error::HistoryError;
pub use identity::boot_id;
pub use maintain::Maintained;
pub use peers::Merged;
pub use record::{Record, RecordBuf, Records};
pub use replay::Replay;

use crate::replica::Replica;
use backend::SyncSwitch;
use disk::Disk;
use error::Fault;
use open::Past;
use state::State;

/// Who publishes; the same over restarts.
pub type PublisherId = [u8; 16];

/// Who hands events over; each numbers its own from 1.
pub type ProducerId = [u8; 16];

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: every commit waits until it is on the disk.
    #[default]
    Sync,
    /// The end of every process, by kill -9 too. A power cut or a crash of the kernel may lose the
    /// last seconds; the incarnation then rises and agents fetch snapshots.
    Os,
}

/// What a history is told. To be made by [`Options::new`] and changed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file; its folder must exist.
    pub path: PathBuf,
    /// Who this publisher is; `None` for the kept id, at first a random one.
    pub id: Option<PublisherId>,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// Events kept in the journal.
    pub max_events: u64,
    /// Bytes kept in the journal.
    pub max_bytes: u64,
    /// For how long an event is kept in the journal.
    pub max_age: Duration,
    /// For how long it is remembered that an object was deleted.
    pub tombstone_ttl: Duration,
    /// Whether this publisher knows all rows there are, whatever its history; see
    /// [`History::complete_since`].
    pub authoritative: bool,
    /// Whether a database that is a copy of the one last written, or was restored from a backup,
    /// gets a higher incarnation: its original may be at work, or have sent more than it knows.
    pub notice_copies: bool,
    /// This boot of the machine; [`boot_id`] unless a test pretends a power cut.
    pub boot: Option<[u8; 16]>,
    /// How large the file for the end of the journal becomes before it is moved to the database,
    /// bytes; with 0 every group goes to the database by itself, which takes longer.
    pub tail_bytes: u64,
    #[cfg(test)]
    pub(super) faults: tests::faults::Faults,
}

impl Options {
    /// Kept id, `Durability::Os`, a journal of a million events, 512 MiB and a day, the last 4 MiB of
    /// it in a file of their own, tombstones of a day.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Options {
            path: path.into(),
            id: None,
            durability: Durability::Os,
            max_events: 1_000_000,
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(86_400),
            tombstone_ttl: Duration::from_secs(86_400),
            authoritative: false,
            notice_copies: true,
            boot: boot_id(),
            tail_bytes: tail::BYTES,
            #[cfg(test)]
            faults: tests::faults::Faults::default(),
        }
    }
}

/// The time, as the owner of the history sees it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Microseconds since the Unix epoch.
    pub unix_micros: u64,
    /// The same moment on the clock that never steps.
    pub instant: Instant,
}

impl Moment {
    /// Now, by the clocks of the system.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros();
        Moment {
            unix_micros: u64::try_from(micros).unwrap_or(u64::MAX),
            instant: Instant::now(),
        }
    }

    fn unix_secs(&self) -> u64 {
        self.unix_micros / 1_000_000
    }
}

/// Journal, current rows and what is known of producers; see the module.
#[derive(Debug)]
pub struct History {
    options: Options,
    sync: SyncSwitch,
    /// `None` after a reopening failed.
    disk: Option<Disk>,
    state: State,
    /// Why nothing is taken until it is reopened.
    broken: Option<String>,
    chores: maintain::Chores,
    scratch: commit::Scratch,
}

impl History {
    fn with(options: Options, sync: SyncSwitch, disk: Disk, state: State, now: Moment) -> Self {
        History {
            options,
            sync,
            disk: Some(disk),
            state,
            broken: None,
            chores: maintain::Chores::new(now),
            scratch: commit::Scratch::default(),
        }
    }

    /// Reads everything from the disk again, to be called after any error until it succeeds. As a
    /// rule id, incarnation and head are as before, or head has risen by the group that failed; a
    /// damaged database is moved aside as at the start, and then [`History::incarnation`] rises.
    ///
    /// Gives how many events of the group that failed are in the journal all the same: all that
    /// would have been stamped or none, since a group is one entry or one transaction. They are the last ones
    /// before [`History::head`] and were never sent.
    pub fn reopen(&mut self, now: Moment) -> Result<u64, HistoryError> {
        let past = Past {
            incarnation: self.state.meta.incarnation,
            head: self.state.head,
            failed: self.broken.is_some(),
            copied: false,
            lost: false,
        };
        self.broken
            .get_or_insert_with(|| "being opened again".into());
        // The lock goes with it.
        self.disk = None;
        let mut options = self.options.clone();
        options.id = Some(self.state.meta.id);
        let (disk, mut state) = open::open(&options, &self.sync, now, past)?;
        // Those who are followed give their rows once, and not all of them were written.
        state.merge_all_of(&self.state, now);
        self.disk = Some(disk);
        self.state = state;
        self.chores = maintain::Chores::new(now);
        self.scratch.clear();
        self.broken = None;
        // After a break of continuity the head is another's, or leapt.
        Ok(match self.incarnation() == past.incarnation {
            true => self.head().saturating_sub(past.head),
            false => 0,
        })
    }

    /// Why the history takes nothing until [`History::reopen`] succeeds; `None` when it is well.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Who publishes.
    pub fn id(&self) -> PublisherId {
        self.state.meta.id
    }

    /// The number of this unbroken life.
    pub fn incarnation(&self) -> u64 {
        self.state.meta.incarnation
    }

    /// The incarnation since which all that was stamped is known: a row that was stamped in it or
    /// later, and that is not here, is gone. The one in which the history began, or in which its end
    /// may have been lost; 0 where the operator says that this publisher knows everything, which
    /// does not hold for one that was begun anew: agents would drop all that it has lost.
    pub fn complete_since(&self) -> u64 {
        match self.options.authoritative && !self.state.begun_anew {
            true => 0,
            false => self.state.meta.complete_since,
        }
    }

    /// Whether it was found to be a copy when it was opened: another publisher may have its id.
    pub fn was_copied(&self) -> bool {
        self.state.copied
    }

    /// Whether it was begun anew after a damaged one, which still lay beside it when it was opened.
    pub fn was_begun_anew(&self) -> bool {
        self.state.begun_anew
    }

    /// Seq of the last event; 0 when there was none.
    pub fn head(&self) -> u64 {
        self.state.head
    }

    /// Oldest seq in the journal; `head() + 1` when it is empty.
    pub fn floor(&self) -> u64 {
        self.state.floor
    }

    /// What the journal holds, bytes.
    pub fn journal_bytes(&self) -> u64 {
        self.state.bytes
    }

    /// Seq of the last event on `topic`, which is the `prev` of the next one; 0 when there was none.
    pub fn topic_head(&self, topic: &str) -> u64 {
        self.state.topic_head(topic)
    }

    /// Topics and the seq of their last events, in no order.
    #[cfg(test)]
    fn topic_heads(&self) -> impl Iterator<Item = (&str, u64)> {
        self.state.heads.iter().map(|(topic, seq)| (&**topic, *seq))
    }

    /// Current rows and tombstones as of [`History::head`].
    pub fn rows(&self) -> &Replica {
        &self.state.rows
    }

    /// The highest number that was taken from `producer`, unless it was long ago.
    pub fn last_number(&self, producer: &ProducerId) -> Option<u64> {
        self.state.producers.get(producer).map(|last| last.number)
    }

    /// The events that the last successful [`History::commit`] journalled, ready to be sent.
    pub fn committed(&self) -> &RecordBuf {
        &self.scratch.records
    }

    /// What is on the disk, unless something failed before.
    fn disk(&self) -> Result<&Disk, HistoryError> {
        match (&self.disk, &self.broken) {
            (Some(disk), None) => Ok(disk),
            (_, why) => {
                let why = why.as_deref().unwrap_or("not open");
                Err(Fault::Stuck(format!("to be reopened after: {why}")).at(&self.options.path))
            }
        }
    }

    /// Notes that what was done failed, and makes the caller's error of it.
    fn fail(&mut self, fault: Fault) -> HistoryError {
        self.broken = Some(fault.describe());
        // Damage met in use is found again, and moved aside, when it is reopened.
        fault.at(&self.options.path)
    }
}

#[cfg(test)]
mod tests;
