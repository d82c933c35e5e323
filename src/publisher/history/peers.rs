//! Rows of other publishers that are followed: merged into the current ones with the stamps they
//! have, so that a snapshot of this publisher has them too, and a write here gets a version above
//! them. They are no events of this publisher: neither journalled nor sent.
//!
//! They are in memory at once and in the database with the next flush. What a crash takes is loaded
//! again from who stamped it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Map, State};
use super::version::normal;
use super::{History, Moment, rows};
use crate::event::{Action, Event, EventBatch, Stamp, topic};
use crate::replica::{Row, RowKey, Verdict};

/// What became of the events of another publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// The newest states of their rows now.
    pub changed: u64,
    /// As new as, or older than, what is known.
    pub known: u64,
    /// Of this publisher, which knows them better; or none that could be merged.
    pub left_out: u64,
}

/// What is not in the database yet, and what changed.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Rows changed since the last flush began.
    pub(super) dirty: HashSet<RowKey>,
    /// How often each topic's rows were changed.
    changes: Map<Arc<str>, u64>,
}

impl State {
    /// Merges a row of another publisher, which came to be at `at`; whether it is the newest state now.
    fn merge(&mut self, event: &Event<'_>, at: Instant) -> bool {
        let topic = event.topic_or_all();
        let before = self.rows.get_any(event.table, event.key);
        let left = before
            .filter(|row| *row.topic != *topic)
            .map(|row| Arc::clone(&row.topic));
        if self.take(event, at) != Verdict::Applied {
            return false;
        }
        if let Some(name) = self.rows.name(event.table, event.key) {
            self.peers.dirty.insert(name);
        }
        for topic in left.as_deref().into_iter().chain([topic]) {
            match self.peers.changes.get_mut(topic) {
                Some(changes) => *changes += 1,
                None => drop(self.peers.changes.insert(topic.into(), 1)),
            }
        }
        true
    }

    /// Takes over the rows of other publishers that `old` has.
    pub(super) fn merge_all_of(&mut self, old: &State, now: Moment) {
        // A number that was used must not come to stand for other rows.
        self.peers.changes = old.peers.changes.clone();
        // Own ones of a life that this one does not vouch for came back from others too, and the journal
        // may have them no more.
        let (id, since) = (self.meta.id, self.meta.complete_since);
        let kept = |row: &Row| {
            let theirs = |stamp: Stamp| stamp.publisher != id || stamp.incarnation < since;
            row.stamp.is_some_and(theirs)
        };
        for name in old.rows.keys_any(kept) {
            if let Some(row) = old.rows.get_any(&name.table, &name.key) {
                let at = row
                    .stamp
                    .map_or(now.instant, |stamp| now.instant_of(stamp.unix_micros));
                self.merge(&rows::event(&name, row), at);
            }
        }
    }
}

impl History {
    /// Merges events that another publisher stamped: the last version wins. Works also while nothing
    /// can be journalled.
    pub fn merge(&mut self, events: &EventBatch, now: Moment) -> Merged {
        let mut merged = Merged::default();
        for event in events.iter() {
            let at = event
                .stamp
                .map_or(now.instant, |stamp| now.instant_of(stamp.unix_micros));
            if !self.is_foreign_row(&event) {
                merged.left_out += 1;
            } else if self.state.merge(&normal(&event), at) {
                merged.changed += 1;
            } else {
                merged.known += 1;
            }
        }
        merged
    }

    fn is_foreign_row(&self, event: &Event<'_>) -> bool {
        // One without a stamp would win over every version.
        let Some(stamp) = event.stamp else {
            return false;
        };
        // All that this publisher stamped since then it has, or it is gone. What it stamped before may
        // be lost here and kept there.
        let ours = stamp.publisher == self.id() && stamp.incarnation >= self.complete_since();
        let row = !matches!(event.action, Action::Other(_));
        row && !ours && !event.table.is_empty() && topic::check(event.topic_or_all()).is_ok()
    }

    /// Ends those of the next `most` rows of `topic` after `after` that `gone` picks: they get to be
    /// tombstones of the version they have. Gives how many those are and where to go on; `None` at
    /// the end.
    pub fn end_rows(
        &mut self,
        topic: &str,
        after: Option<&RowKey>,
        most: usize,
        gone: impl Fn(&RowKey, &Row) -> bool,
        now: Moment,
    ) -> (u64, Option<RowKey>) {
        let names = self.state.index.names(topic, after).take(most);
        let names: Vec<RowKey> = names.cloned().collect();
        let mut ended = 0;
        for name in &names {
            let row = self.state.rows.get(&name.table, &name.key);
            let Some(row) = row.filter(|row| gone(name, row)) else {
                continue;
            };
            let delete = Event {
                stamp: row.stamp,
                ..Event::delete(&name.table, &name.key).on(topic)
            };
            // It is gone from now on, however old the row was.
            ended += u64::from(self.state.merge(&delete, now.instant));
        }
        let next = names.into_iter().next_back();
        (ended, next)
    }

    /// How often rows of other publishers have changed `topic`.
    pub fn topic_merges(&self, topic: &str) -> u64 {
        self.state.peers.changes.get(topic).copied().unwrap_or(0)
    }

    /// The names of at most `most` topics that have rows, tombstones too, after `after`, in order, and
    /// whether there are others after them.
    pub fn topics(&self, after: &str, most: usize) -> (Vec<String>, bool) {
        let mut names: Vec<&Arc<str>> = self.state.index.topics(after).collect();
        let more = names.len() > most;
        if more {
            // Only those that are given are put in order: there may be very many.
            names.select_nth_unstable(most);
            names.truncate(most);
        }
        names.sort_unstable();
        (names.iter().map(|name| name.to_string()).collect(), more)
    }
}
