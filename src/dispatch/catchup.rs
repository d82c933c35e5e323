//! How a lane that fell behind, or must start over, is brought up to the replica: pure, and owned
//! by the hub.
//!
//! While a lane is behind nothing more is queued for it. What changes meanwhile is remembered by
//! name only, so that the memory a slow handler takes is bounded by the number of rows, and it is
//! given each row's newest state once.

use std::collections::HashSet;

use super::Filter;
use crate::event::EventBatch;
use crate::handler::SyncReason;
use crate::replica::{Replica, RowKey};

/// Rows given at a time: the hub's lock is held for so many.
const CHUNK: usize = 256;

/// Changed rows remembered beyond the number of rows there are, for objects that are gone. With
/// more it takes less to start over.
const GONE_REMEMBERED: usize = 4096;

/// What a handler is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// The newest state of every row; intermediate states may be left out.
    #[default]
    State,
    /// Every event in order, or else a resync.
    Events,
}

/// What the lane must do next.
#[derive(Debug)]
pub enum Step {
    /// Call `begin_sync`.
    Begin(SyncReason),
    /// Give these to `apply`.
    Rows(EventBatch),
    /// Call `end_sync`.
    End,
    /// Open a bracket, give all of this, close it. Queued events follow on it without a hole.
    Whole(SyncReason, Vec<EventBatch>),
    /// Nothing: the lane is up to date and its queue takes events again.
    UpToDate,
}

/// Where a lane stands.
#[derive(Debug, Default)]
pub struct Catchup {
    delivery: Delivery,
    behind: bool,
    /// A bracket that must be opened.
    wanted: Option<SyncReason>,
    /// Rows still to be given in the open bracket.
    open: Option<std::vec::IntoIter<RowKey>>,
    /// Rows that changed since.
    changed: HashSet<RowKey>,
}

impl Catchup {
    /// A lane that is up to date.
    pub fn new(delivery: Delivery) -> Self {
        Catchup {
            delivery,
            ..Self::default()
        }
    }

    /// Whether events must go to [`Catchup::changed`] and not to the lane's queue.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// How many changed rows are remembered.
    pub fn remembered(&self) -> usize {
        self.changed.len()
    }

    /// The lane's queue is full.
    pub fn fall_behind(&mut self) {
        match self.delivery {
            Delivery::State => self.behind = true,
            Delivery::Events => self.resync(SyncReason::Overflow),
        }
    }

    /// A row changed while the lane is behind. `rows` is how many there are.
    pub fn changed(&mut self, name: RowKey, rows: usize) {
        if self.wanted.is_some() {
            // The bracket to come covers it.
            return;
        }
        self.changed.insert(name);
        if self.changed.len() > rows + GONE_REMEMBERED {
            self.resync(SyncReason::Overflow);
        }
    }

    /// The handler must start over; an open bracket is left for a new one.
    pub fn resync(&mut self, reason: SyncReason) {
        self.behind = true;
        self.wanted = Some(reason);
        // The bracket gives all there is, and a row that is gone by not giving it.
        self.changed = HashSet::new();
    }

    /// The next step. To be called when the lane's queue is empty, until it is up to date.
    pub fn next(&mut self, replica: &Replica, filter: &Filter) -> Step {
        if let Some(reason) = self.wanted.take() {
            let names = replica.keys(|table, topic| filter.wants(table, topic));
            if self.delivery == Delivery::Events {
                self.behind = false;
                let chunks = names
                    .chunks(CHUNK)
                    .map(|names| batch(replica, names))
                    .collect();
                return Step::Whole(reason, chunks);
            }
            self.open = Some(names.into_iter());
            return Step::Begin(reason);
        }
        if let Some(open) = &mut self.open {
            let names: Vec<RowKey> = open.take(CHUNK).collect();
            if names.is_empty() {
                self.open = None;
                return Step::End;
            }
            for name in &names {
                self.changed.remove(name);
            }
            let exists = |name: &RowKey| replica.get(&name.table, &name.key).is_some();
            let existing: Vec<RowKey> = names.into_iter().filter(exists).collect();
            return Step::Rows(batch(replica, &existing));
        }
        if !self.changed.is_empty() {
            let names: Vec<RowKey> = self.changed.iter().take(CHUNK).cloned().collect();
            for name in &names {
                self.changed.remove(name);
            }
            return Step::Rows(batch(replica, &names));
        }
        self.changed = HashSet::new();
        self.behind = false;
        Step::UpToDate
    }
}

fn batch(replica: &Replica, names: &[RowKey]) -> EventBatch {
    names.iter().map(|name| replica.event(name)).collect()
}

#[cfg(test)]
mod tests;
