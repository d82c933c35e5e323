//! What stands where, by topic: without it, whoever asks for one topic would have the whole journal
//! and all rows searched, on the thread that publishes.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::state::Map;
use crate::replica::{Replica, Row, RowKey};

/// See the module. At most an entry per event of the journal and one per row.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Per topic the first seqs of the journal's blobs that hold events of it, rising. Some of the
    /// first may have been trimmed.
    blobs: Map<Arc<str>, VecDeque<u64>>,
    /// Per topic the names of its rows, tombstones too. In order, so that they can be walked in
    /// slices while they change.
    rows: Map<Arc<str>, BTreeSet<RowKey>>,
}

impl Index {
    /// An event of `topic` stands in the blob that begins with `first`.
    pub(super) fn journalled(&mut self, topic: &str, first: u64) {
        let blobs = entry(&mut self.blobs, topic);
        if blobs.back().is_none_or(|last| *last < first) {
            blobs.push_back(first);
        }
    }

    /// The blobs that hold the events of `topic` after `after`, by their first seqs. The first one
    /// named may end before them.
    pub(super) fn blobs(&self, topic: &str, after: u64) -> impl Iterator<Item = u64> {
        let blobs = self.blobs.get(topic);
        let from = blobs.map_or(0, |blobs| {
            let begun = blobs.partition_point(|first| *first <= after.saturating_add(1));
            begun.saturating_sub(1)
        });
        blobs
            .into_iter()
            .flat_map(move |blobs| blobs.range(from..).copied())
    }

    /// Nothing before `floor` is in the journal.
    pub(super) fn trimmed(&mut self, floor: u64) {
        self.blobs.retain(|_, blobs| {
            while blobs.front().is_some_and(|first| *first < floor) {
                blobs.pop_front();
            }
            // Most are short; one that was long and is not any more gives its memory back.
            blobs.shrink_to(2 * blobs.len());
            !blobs.is_empty()
        });
    }

    /// Nothing is in the journal.
    pub(super) fn emptied(&mut self) {
        self.blobs.clear();
    }

    /// A row is new, or has come from the topic `from`.
    pub(super) fn placed(&mut self, name: RowKey, topic: &str, from: Option<&str>) {
        if let Some(from) = from {
            self.forgotten(&name, from);
        }
        entry(&mut self.rows, topic).insert(name);
    }

    /// A row of `topic` is no more.
    pub(super) fn forgotten(&mut self, name: &RowKey, topic: &str) {
        if let Some(names) = self.rows.get_mut(topic) {
            names.remove(name);
            if names.is_empty() {
                self.rows.remove(topic);
            }
        }
    }

    /// Names of rows of `topic`, those after `after`.
    pub(super) fn names(
        &self,
        topic: &str,
        after: Option<&RowKey>,
    ) -> impl Iterator<Item = &RowKey> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.rows.get(topic);
        names
            .into_iter()
            .flat_map(move |names| names.range((from, Bound::Unbounded)))
    }

    /// How many rows of `topic` there are.
    pub(super) fn rows(&self, topic: &str) -> usize {
        self.rows.get(topic).map_or(0, BTreeSet::len)
    }

    /// The topics after `after` that have rows, in no order.
    pub(super) fn topics(&self, after: &str) -> impl Iterator<Item = &Arc<str>> {
        self.rows.keys().filter(move |topic| ***topic > *after)
    }

    /// Takes in all rows.
    pub(super) fn read(&mut self, rows: &Replica) {
        for name in rows.keys_any(|_| true) {
            if let Some(row) = rows.get_any(&name.table, &name.key) {
                self.placed(name, &row.topic, None);
            }
        }
    }
}

/// Whether `row` has to be placed when an event of `topic` changes it, and where it stood.
pub(super) fn moves<'a>(row: Option<&'a Row>, topic: &str) -> Option<Option<&'a Arc<str>>> {
    match row {
        Some(row) if *row.topic == *topic => None,
        row => Some(row.map(|row| &row.topic)),
    }
}

fn entry<'a, V: Default>(map: &'a mut Map<Arc<str>, V>, topic: &str) -> &'a mut V {
    if !map.contains_key(topic) {
        map.insert(topic.into(), V::default());
    }
    map.entry(topic.into()).or_default()
}
