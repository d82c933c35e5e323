//! How a lane that fell behind, or must start over, is brought up to the replica: pure, and owned
//! by the hub.
//!
//! While a lane is behind nothing more is queued for it. What changes meanwhile is remembered by
//! name only, so that the memory a slow handler takes is bounded by the number of rows, and it is
//! given each row's newest state once.

use super::Filter;
use crate::event::{Event, EventBatch};
use crate::handler::SyncReason;
use crate::replica::{Cursor, Replica, RowKey};
use changed::Changed;

mod changed;

/// Rows given at a time, and bytes of them after which no more are: the hub's lock is held for so
/// many.
const CHUNK: usize = 256;
const STEP_BYTES: usize = 1 << 20;

/// Times so many rows that are looked at for one that the handler wants before the lock is let go.
const LOOKS: usize = 16;

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
    /// Nothing: the lane is up to date and its queue takes events again.
    UpToDate,
}

/// Where a lane stands.
#[derive(Debug, Default)]
pub struct Catchup {
    delivery: Delivery,
    behind: bool,
    /// A bracket that must be opened, after the one that is open.
    wanted: Option<SyncReason>,
    /// Rows still to be given in the open bracket.
    open: Option<Cursor>,
    /// Rows that changed since.
    changed: Changed,
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
        if self.wanted.is_some() && self.open.is_none() {
            // The bracket to come covers it.
            return;
        }
        self.changed.insert(name);
        if self.changed.len() > rows + GONE_REMEMBERED {
            self.restart(SyncReason::Overflow);
        }
    }

    /// Rows that must be given again, in the order of things: what is queued is older. Only a lane
    /// that is promised no more than the newest state can be given them this way.
    pub fn again(&mut self, names: impl IntoIterator<Item = RowKey>, rows: usize) {
        self.behind = true;
        for name in names {
            self.changed(name, rows);
        }
    }

    /// The handler must start over. A bracket that is open goes on, and another follows it:
    /// otherwise a publisher that comes and goes would keep a slow handler at its first rows.
    pub fn resync(&mut self, reason: SyncReason) {
        self.behind = true;
        self.wanted = Some(reason);
        if self.open.is_none() {
            self.changed = Changed::default();
        }
    }

    /// The handler must start over now, because it is another one or can no longer be told what
    /// changed; an open bracket is left for a new one.
    pub fn restart(&mut self, reason: SyncReason) {
        self.open = None;
        self.resync(reason);
    }

    /// The next step. To be called only when the lane's queue is empty, until it is up to date:
    /// what is queued is older than what is given here.
    pub fn next(&mut self, replica: &Replica, filter: &Filter) -> Step {
        if let Some(open) = &mut self.open {
            let (mut rows, mut seen, mut more) = (EventBatch::new(), 0, true);
            for _ in 0..CHUNK * LOOKS {
                more = replica.walk(open, 1, |name, row| {
                    if filter.holds(&name.table, &row.topic) {
                        seen += 1;
                        self.changed.remove(name);
                        give(&mut rows, filter, row.event(name));
                    }
                });
                if !more || seen == CHUNK || rows.text_len() >= STEP_BYTES {
                    break;
                }
            }
            if more || seen > 0 {
                return Step::Rows(rows);
            }
            // Events that follow the bracket follow it without a hole only if it holds all that
            // was not queued.
            if self.delivery == Delivery::State || self.changed.is_empty() {
                self.open = None;
                self.behind = self.delivery == Delivery::State || self.wanted.is_some();
                return Step::End;
            }
        } else if let Some(reason) = self.wanted.take() {
            self.open = Some(replica.cursor());
            // The bracket gives all there is, and a row that is gone by not giving it.
            self.changed = Changed::default();
            return Step::Begin(reason);
        }
        if self.changed.is_empty() {
            self.changed = Changed::default();
            self.behind = false;
            return Step::UpToDate;
        }
        let (mut rows, mut looks) = (EventBatch::new(), CHUNK * LOOKS);
        for _ in 0..CHUNK {
            let Some(name) = self.changed.next(&mut looks) else {
                break;
            };
            // It was one of the handler's before or is now: where it is not now, it is gone.
            let event = replica.event(&name);
            let event = match filter.holds(&name.table, event.topic_or_all()) {
                true => event,
                false => Event::delete(&name.table, &name.key),
            };
            give(&mut rows, filter, event);
            if rows.text_len() >= STEP_BYTES {
                break;
            }
        }
        Step::Rows(rows)
    }
}

fn give(rows: &mut EventBatch, filter: &Filter, event: Event<'_>) {
    if filter.acts(&event) {
        // It fits: a step ends far below what a batch holds.
        rows.push(&event);
    }
}

#[cfg(test)]
mod tests;
