//! What the history holds in memory: all of it can be read back from the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{ReadableTable, WriteTransaction};

use super::error::Fault;
use super::index::{self, Index};
use super::peers::Peers;
use super::record::{Record, Records};
use super::store::{JOURNAL, Meta, PRODUCERS, ROWS, TOPICS};
use super::{Moment, ProducerId};
use crate::event::{Action, Event, Stamp, codec};
use crate::replica::{Replica, Verdict};

pub(super) type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// The last of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) number: u64,
    pub(super) unix_secs: u64,
}

/// The state after the last successful commit.
#[derive(Debug)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) rows: Replica,
    /// Seq of the last event per topic.
    pub(super) heads: Map<Arc<str>, u64>,
    pub(super) producers: Map<ProducerId, Producer>,
    pub(super) index: Index,
    pub(super) peers: Peers,
    pub(super) head: u64,
    pub(super) floor: u64,
    /// Bytes of all blobs.
    pub(super) bytes: u64,
    /// Whether it was read from a copy; see `identity::place`.
    pub(super) copied: bool,
    /// Whether a damaged one lies beside it; see `aside`.
    pub(super) begun_anew: bool,
}

impl State {
    /// An empty history.
    pub(super) fn new(meta: Meta) -> Self {
        State {
            rows: Replica::new(),
            heads: Map::default(),
            producers: Map::default(),
            index: Index::default(),
            peers: Peers::default(),
            head: meta.base,
            floor: meta.base + 1,
            bytes: 0,
            copied: false,
            begun_anew: false,
            meta,
        }
    }

    /// Seq of the last event on `topic`. Where it was forgotten, or never known, it is the highest
    /// seq of all forgotten ones: at most that many events can have been on it, which makes whoever
    /// asks for them fetch a snapshot rather than believe that there were none.
    pub(super) fn topic_head(&self, topic: &str) -> u64 {
        self.heads
            .get(topic)
            .copied()
            .unwrap_or(self.meta.forgotten)
    }

    /// Reads the database: the rows as they were last flushed, then the journal after them.
    pub(super) fn load(
        transaction: &WriteTransaction,
        meta: Meta,
        now: Moment,
    ) -> Result<Self, Fault> {
        let mut state = State::new(meta);
        let rows = transaction.open_table(ROWS)?;
        for entry in rows.iter()? {
            let (_, record) = entry?;
            let mut records = Records::new(record.value());
            match (records.next(), records.is_whole()) {
                (Some(record), true) => state.apply(&record, now)?,
                _ => return Err(Fault::corrupt("a row has an unknown form")),
            }
        }
        for entry in transaction.open_table(TOPICS)?.iter()? {
            let (topic, seq) = entry?;
            state.heads.insert(topic.value().into(), seq.value());
        }
        for entry in transaction.open_table(PRODUCERS)?.iter()? {
            let (id, last) = entry?;
            let (number, unix_secs) = last.value();
            let last = Producer { number, unix_secs };
            state.producers.insert(id.value(), last);
        }
        state.load_journal(transaction, now)?;
        state.index.read(&state.rows);
        Ok(state)
    }

    fn load_journal(&mut self, transaction: &WriteTransaction, now: Moment) -> Result<(), Fault> {
        let journal = transaction.open_table(JOURNAL)?;
        let mut first = true;
        for entry in journal.iter()? {
            let (seq, blob) = entry?;
            let (seq, blob) = (seq.value(), blob.value());
            if std::mem::take(&mut first) {
                self.floor = seq;
                self.head = seq.saturating_sub(1);
            }
            let mut records = Records::new(blob);
            let mut next = seq;
            for record in records.by_ref() {
                if record.stamp.seq != next || next != self.head + 1 {
                    return Err(Fault::corrupt(format!("the journal has a hole at {next}")));
                }
                self.index.journalled(record.topic, seq);
                if next > self.meta.rows_seq {
                    self.apply(&record, now)?;
                    self.set_head(record.topic, next);
                }
                self.head = next;
                next += 1;
            }
            if !records.is_whole() || next == seq {
                return Err(Fault::corrupt(format!(
                    "unknown form of the journal at {next}"
                )));
            }
            self.bytes += blob.len() as u64;
        }
        if self.head < self.meta.rows_seq {
            return Err(Fault::corrupt("the end of the journal is missing"));
        }
        Ok(())
    }

    pub(super) fn set_head(&mut self, topic: &str, seq: u64) {
        match self.heads.get_mut(topic) {
            Some(head) => *head = seq,
            None => {
                self.heads.insert(topic.into(), seq);
            }
        }
    }

    /// Merges an event into the rows, and keeps the index.
    pub(super) fn take(&mut self, event: &Event<'_>, now: Instant) -> Verdict {
        let topic = event.topic_or_all();
        let row = self.rows.get_any(event.table, event.key);
        let moves = index::moves(row, topic).map(|from| from.cloned());
        let verdict = self.rows.apply(event, now);
        if let Some(from) = moves
            && let Some(row) = self.rows.get_any(event.table, event.key)
            && *row.topic == *topic
            && let Some(name) = self.rows.name(event.table, event.key)
        {
            self.index.placed(name, topic, from.as_deref());
        }
        verdict
    }

    /// Ends the row that `event` brings to another topic, on the one where it stands.
    pub(super) fn leave(&mut self, event: &Event<'_>, stamp: Stamp, now: Instant) {
        let Some(row) = self.rows.get_any(event.table, event.key) else {
            return;
        };
        let topic = Arc::clone(&row.topic);
        let delete = Event {
            stamp: Some(stamp),
            ..Event::delete(event.table, event.key).on(&topic)
        };
        self.rows.apply(&delete, now);
    }

    fn apply(&mut self, record: &Record<'_>, now: Moment) -> Result<(), Fault> {
        let event = codec::decode(record.payload)
            .map_err(|error| Fault::corrupt(format!("event {}: {error}", record.stamp.seq)))?;
        if !matches!(event.action, Action::Other(_)) {
            let at = now.instant_of(record.stamp.unix_micros);
            self.rows.apply(&event, at);
        }
        Ok(())
    }
}

impl Moment {
    /// The instant of a wall-clock time that is not after this moment; this moment where it is.
    pub(super) fn instant_of(&self, unix_micros: u64) -> Instant {
        let age = Duration::from_micros(self.unix_micros.saturating_sub(unix_micros));
        self.instant.checked_sub(age).unwrap_or(self.instant)
    }
}
