//! Reading the journal back.

use redb::{Database, ReadableDatabase};

use super::error::Fault;
use super::record::{RecordBuf, Records};
use super::store::JOURNAL;
use super::{History, HistoryError};

/// Journal that one answer is looked for in, bytes: a quiet topic in a long journal must not stop
/// the publisher for long.
const SCAN: usize = 32 << 20;

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
        };
        query
            .run(self.database()?)
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
}

impl Query<'_> {
    fn run(&self, database: &Database) -> Result<Replay, Fault> {
        let journal = database.begin_read()?.open_table(JOURNAL)?;
        let start = match journal.range(..=self.after + 1)?.next_back() {
            Some(entry) => entry?.0.value(),
            None => 0,
        };
        let mut records = RecordBuf::default();
        let (mut upto, mut scanned) = (self.after, 0);
        for entry in journal.range(start..)? {
            let blob = entry?.1;
            for record in Records::new(blob.value()) {
                let seq = record.stamp.seq;
                if seq <= self.after {
                    continue;
                }
                if self.topic.is_some_and(|topic| topic != record.topic) {
                    upto = seq;
                    continue;
                }
                // The first one kept names the last one before it on its topic.
                if records.is_empty() && self.topic.is_some() && record.stamp.prev > self.after {
                    return Ok(Replay::Gone);
                }
                if !records.is_empty() && records.bytes() + record.raw.len() > self.max_bytes {
                    return Ok(Replay::Events { records, upto });
                }
                records.push(&record);
                upto = seq;
                if seq >= self.last {
                    let upto = self.head;
                    return Ok(Replay::Events { records, upto });
                }
            }
            scanned += blob.value().len();
            // Until the first one is found it is not known whether others were trimmed.
            if scanned >= SCAN && !(self.trimmed && records.is_empty()) {
                return Ok(Replay::Events { records, upto });
            }
        }
        Err(Fault::corrupt("the journal ends before its head"))
    }
}
