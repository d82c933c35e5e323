//! Reading the journal back.

use redb::{Database, ReadableDatabase};

use super::disk::Disk;
use super::error::Fault;
use super::index::Index;
use super::record::{RecordBuf, Records};
use super::store::JOURNAL;
use super::{History, HistoryError};

/// Journal that one answer is looked for in, bytes: it must not stop the publisher for more than a
/// millisecond or two.
const SCAN: usize = 2 << 20;

/// What the journal holds after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The events after the position, in order, perhaps not all.
    Events {
        /// The events.
        records: RecordBuf,
        /// The position to ask for next; when it is not below the head that is wanted, that was
        /// all.
        upto: u64,
    },
    /// Events after the position were trimmed; only a snapshot helps.
    Gone,
}

impl History {
    /// The journalled events after `after`, of all topics or of one, about `max_bytes` of them, at
    /// least one if there is one. [`Replay::Gone`] exactly when one of them was trimmed (or may have
    /// been: on topics that were forgotten). An error breaks nothing in memory, but unless it is
    /// the history's being broken already, the database is to be reopened.
    pub fn replay(
        &self,
        topic: Option<&str>,
        after: u64,
        max_bytes: usize,
    ) -> Result<Replay, HistoryError> {
        let last = topic.map_or(self.state.head, |topic| self.state.topic_head(topic));
        if last <= after {
            return Ok(Replay::Events {
                records: RecordBuf::default(),
                upto: after.max(self.state.head),
            });
        }
        #[cfg(test)]
        let faults = self.options.faults.before_replay();
        #[cfg(test)]
        faults.map_err(|error| Fault::Io(error).at(&self.options.path))?;
        let floor = self.state.floor;
        if last < floor || (topic.is_none() && after + 1 < floor) {
            return Ok(Replay::Gone);
        }
        let query = Query {
            topic,
            after,
            last,
            head: self.state.head,
            max_bytes,
            trimmed: after + 1 < floor,
            index: &self.state.index,
        };
        query
            .run(self.disk()?)
            .map_err(|fault| fault.at(&self.options.path))
    }
}

struct Query<'a> {
    topic: Option<&'a str>,
    after: u64,
    /// The last event that is wanted.
    last: u64,
    head: u64,
    max_bytes: usize,
    /// Whether events after `after` were trimmed, of whatever topic.
    trimmed: bool,
    index: &'a Index,
}

impl Query<'_> {
    fn run(&self, disk: &Disk) -> Result<Replay, Fault> {
        let mut found = Found {
            records: RecordBuf::default(),
            upto: self.after,
            scanned: 0,
        };
        // What is wanted most often is the newest, and is in memory.
        let newest = disk.tail.blobs().first();
        if self.after + 1 < newest
            && let Some(replay) = self.run_database(&disk.database, newest, &mut found)?
        {
            return Ok(replay);
        }
        match self.topic {
            Some(topic) => {
                for first in self.index.blobs(topic, self.after.max(newest - 1)) {
                    if let Some(blob) = disk.tail.blobs().get(first)
                        && let Some(replay) = self.look(blob, &mut found)
                    {
                        return Ok(replay);
                    }
                }
            }
            None => {
                for (_, blob) in disk.tail.blobs().after(self.after) {
                    if let Some(replay) = self.look(blob, &mut found) {
                        return Ok(replay);
                    }
                }
            }
        }
        Err(Fault::corrupt("the journal ends before its head"))
    }

    /// Looks in what was moved to the database, which ends before `newest`.
    fn run_database(
        &self,
        database: &Database,
        newest: u64,
        found: &mut Found,
    ) -> Result<Option<Replay>, Fault> {
        let journal = database.begin_read()?.open_table(JOURNAL)?;
        match self.topic {
            Some(topic) => {
                let blobs = self.index.blobs(topic, self.after);
                for first in blobs.take_while(|first| *first < newest) {
                    // Those before the floor are trimmed; that is found by `prev`.
                    if let Some(blob) = journal.get(first)?
                        && let Some(replay) = self.look(blob.value(), found)
                    {
                        return Ok(Some(replay));
                    }
                }
            }
            None => {
                let start = match journal.range(..=self.after + 1)?.next_back() {
                    Some(entry) => entry?.0.value(),
                    None => 0,
                };
                for entry in journal.range(start..)? {
                    if let Some(replay) = self.look(entry?.1.value(), found) {
                        return Ok(Some(replay));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes what is wanted out of the next blob; the answer when that is complete.
    fn look(&self, blob: &[u8], found: &mut Found) -> Option<Replay> {
        for record in Records::new(blob) {
            let seq = record.stamp.seq;
            if seq <= self.after {
                continue;
            }
            if self.topic.is_some_and(|topic| topic != record.topic) {
                found.upto = seq;
                continue;
            }
            let records = &mut found.records;
            // The first one kept names the last one before it on its topic.
            if records.is_empty() && self.topic.is_some() && record.stamp.prev > self.after {
                return Some(Replay::Gone);
            }
            if !records.is_empty() && records.bytes() + record.raw.len() > self.max_bytes {
                return Some(found.until(found.upto));
            }
            records.push(&record);
            found.upto = seq;
            if seq >= self.last {
                return Some(found.until(self.head));
            }
        }
        found.scanned += blob.len();
        // Until the first one is found it is not known whether others were trimmed. Nor is it an
        // answer that nothing was found where none was looked for.
        let known = found.upto > self.after && !(self.trimmed && found.records.is_empty());
        (found.scanned >= SCAN && known).then(|| found.until(found.upto))
    }
}

/// What was found so far.
struct Found {
    records: RecordBuf,
    /// Where was looked.
    upto: u64,
    /// Bytes of journal that were read.
    scanned: usize,
}

impl Found {
    fn until(&mut self, upto: u64) -> Replay {
        Replay::Events {
            records: std::mem::take(&mut self.records),
            upto,
        }
    }
}
