//! Rows that a handler will not be given again as they are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use super::by_row::ByRow;
use crate::event::{Action, Event, EventBatch};
use crate::replica::RowKey;
use crate::util::printable;

/// Longest reason kept, bytes.
const MAX_REASON: usize = 256;

/// Tells one state of a row from another. A lane is given the states of a row in their order, so
/// that another state is a newer one, versions or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    /// That of the state `event` brings.
    pub fn of(event: &Event<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        let version = event.stamp.map(|stamp| stamp.version);
        let gone = event.action == Action::Delete;
        (version, gone, event.value.filter(|_| !gone)).hash(&mut hasher);
        Print(hasher.finish())
    }
}

/// A row in quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Why, at most 256 bytes, as the handler put it: printable only after escaping.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// The version of the state that failed, where it had one.
    pub version: Option<u64>,
    /// Whether it stays over a resync, because it brought the handler down.
    pub lasting: bool,
    pub(super) print: Print,
    /// The event itself, where every one was promised.
    pub(super) event: Option<EventBatch>,
}

impl Quarantined {
    /// A row whose newest state is that of `event`.
    pub(super) fn new(event: &Event<'_>, reason: &str, lasting: bool, now: Instant) -> Self {
        Quarantined {
            reason: printable::cut(reason, MAX_REASON).into(),
            since: now,
            version: event.stamp.map(|stamp| stamp.version),
            lasting,
            print: Print::of(event),
            event: None,
        }
    }
}

/// At most so many rows; of further ones it is only known that there were some.
#[derive(Debug)]
pub struct Quarantine {
    rows: ByRow<Quarantined>,
    most: usize,
    most_bytes: usize,
    bytes: usize,
    unlisted: bool,
}

impl Quarantine {
    /// Room for `most` rows and `most_bytes` of their events.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Quarantine {
            rows: ByRow::default(),
            most,
            most_bytes,
            bytes: 0,
            unlisted: false,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, in no particular order.
    pub fn list(&self) -> Vec<(RowKey, Quarantined)> {
        let rows = self.rows.iter();
        rows.map(|(row, held)| (row, held.clone())).collect()
    }

    /// Whether this row is held back as it is.
    pub fn has(&self, row: &RowKey) -> bool {
        self.rows.get(&row.table, &row.key).is_some()
    }

    /// Takes a row in, without its event where that is too much; `false` when there is no room.
    pub(super) fn insert(&mut self, row: RowKey, mut held: Quarantined) -> bool {
        self.remove(&row.table, &row.key);
        if self.rows.len() >= self.most {
            self.unlisted = true;
            return false;
        }
        let room = self.most_bytes - self.bytes;
        held.event = held.event.filter(|event| event.bytes() <= room);
        self.bytes += bytes(&held);
        self.rows.insert(row, held);
        true
    }

    /// Whether `event` is held back; a newer state releases its row.
    pub(super) fn holds(&mut self, event: &Event<'_>) -> bool {
        let Some(held) = self.rows.get(event.table, event.key) else {
            return false;
        };
        if held.print == Print::of(event) {
            return true;
        }
        self.remove(event.table, event.key);
        false
    }

    /// Lets a row go.
    pub(super) fn remove(&mut self, table: &str, key: &str) -> Option<Quarantined> {
        let held = self.rows.remove(table, key)?;
        self.bytes -= bytes(&held);
        Some(held)
    }

    /// Whether rows were let in beyond those listed; asked once.
    pub(super) fn take_unlisted(&mut self) -> bool {
        std::mem::take(&mut self.unlisted)
    }

    /// The handler starts over: only what brought it down is held back further.
    pub(super) fn start_over(&mut self) {
        self.rows.retain(|held| held.lasting);
        self.bytes = self.rows.iter().map(|(_, held)| bytes(held)).sum();
        self.unlisted = false;
    }
}

fn bytes(held: &Quarantined) -> usize {
    held.event.as_ref().map_or(0, EventBatch::bytes)
}
