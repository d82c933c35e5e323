//! The local copy of all rows: last version wins (design §6).
//!
//! One writer at a time; whoever owns it decides how it is shared. It knows no clock.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::event::{Action, Event, Stamp};

/// The newest known state of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The value; `None` when the publisher sent nil, and in a tombstone.
    pub value: Option<String>,
    /// The topic it was published on.
    pub topic: Arc<str>,
    /// Who sent it and its version; `None` from a legacy publisher.
    pub stamp: Option<Stamp>,
    /// Since when the object is gone. Such a row is a tombstone: it keeps an older version, heard
    /// late from another publisher, from bringing the object back.
    gone: Option<Instant>,
}

/// Names a row. Cheap to clone: it shares the replica's own texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// The table.
    pub table: Arc<str>,
    /// The key within the table.
    pub key: Arc<str>,
}

impl Row {
    /// Whether the object is gone and this row only remembers its last version.
    pub fn is_tombstone(&self) -> bool {
        self.gone.is_some()
    }
}

impl RowKey {
    /// A name of its own, for an object the replica does not know.
    pub fn new(table: &str, key: &str) -> Self {
        RowKey {
            table: table.into(),
            key: key.into(),
        }
    }
}

/// What [`Replica::apply`] did with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the newest state now.
    Applied,
    /// It was the newest state already.
    Duplicate,
    /// A higher version is known; it was dropped.
    Older,
}

/// Two of these are looked up per event. Seeded per map, so that keys cannot be made to collide
/// without knowing the seed.
type Map<V> = HashMap<Arc<str>, V, foldhash::quality::RandomState>;

type Rows = Map<Row>;

/// All rows by table and key.
#[derive(Debug, Default)]
pub struct Replica {
    tables: Map<Rows>,
    topics: HashSet<Arc<str>>,
    live: usize,
}

impl Replica {
    /// A replica without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects exist; tombstones do not count.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no object exists.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The row of an object that exists.
    pub fn get(&self, table: &str, key: &str) -> Option<&Row> {
        self.tables
            .get(table)?
            .get(key)
            .filter(|row| row.gone.is_none())
    }

    /// The row of an object, be it a tombstone.
    pub fn get_any(&self, table: &str, key: &str) -> Option<&Row> {
        self.tables.get(table)?.get(key)
    }

    /// The names of all rows, tombstones too, that `wanted` lets through.
    pub fn keys_any(&self, wanted: impl Fn(&Row) -> bool) -> Vec<RowKey> {
        let mut keys = Vec::new();
        for (table, rows) in &self.tables {
            let wanted = rows.iter().filter(|(_, row)| wanted(row));
            keys.extend(wanted.map(|(key, _)| RowKey {
                table: Arc::clone(table),
                key: Arc::clone(key),
            }));
        }
        keys
    }

    /// The names of all objects that exist and that `wanted(table, topic)` lets through.
    pub fn keys(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<RowKey> {
        let mut keys = Vec::new();
        for (table, rows) in &self.tables {
            let live = rows.iter().filter(|(_, row)| row.gone.is_none());
            let wanted = live.filter(|(_, row)| wanted(table, &row.topic));
            keys.extend(wanted.map(|(key, _)| RowKey {
                table: Arc::clone(table),
                key: Arc::clone(key),
            }));
        }
        keys
    }

    /// The replica's own name for an object it has heard of.
    pub fn name(&self, table: &str, key: &str) -> Option<RowKey> {
        let (table, rows) = self.tables.get_key_value(table)?;
        let (key, _) = rows.get_key_value(key)?;
        Some(RowKey {
            table: Arc::clone(table),
            key: Arc::clone(key),
        })
    }

    /// The newest state of `name` as an event; a delete where the object does not exist.
    pub fn event<'a>(&'a self, name: &'a RowKey) -> Event<'a> {
        match self.get(&name.table, &name.key) {
            Some(row) => Event {
                table: &name.table,
                key: &name.key,
                action: Action::Set,
                value: row.value.as_deref(),
                topic: Some(&row.topic),
                stamp: row.stamp,
            },
            None => Event::delete(&name.table, &name.key),
        }
    }

    /// Merges one change of a row. An event without a version is newer than all that was heard
    /// before it; otherwise the higher version wins, and of equal versions a fixed one of the two
    /// contents, so that all replicas agree whatever order they heard them in.
    pub fn apply(&mut self, event: &Event<'_>, now: Instant) -> Verdict {
        let (topics, live) = (&mut self.topics, &mut self.live);
        match self.tables.get_mut(event.table) {
            Some(rows) => merge(rows, topics, live, event, now),
            None => {
                let rows = self.tables.entry(event.table.into()).or_default();
                merge(rows, topics, live, event, now)
            }
        }
    }

    /// Forgets tombstones of objects that are gone since before `before`; says how many.
    pub fn expire(&mut self, before: Instant) -> usize {
        let mut forgotten = 0;
        self.expire_each(before, |_, _| forgotten += 1);
        forgotten
    }

    /// As [`Replica::expire`], and names each one forgotten and its topic.
    pub fn expire_each(&mut self, before: Instant, mut forgotten: impl FnMut(RowKey, &str)) {
        for (table, rows) in &mut self.tables {
            rows.retain(|key, row| {
                let keep = row.gone.is_none_or(|gone| gone >= before);
                if !keep {
                    let name = RowKey {
                        table: Arc::clone(table),
                        key: Arc::clone(key),
                    };
                    forgotten(name, &row.topic);
                }
                keep
            });
        }
        self.tables.retain(|_, rows| !rows.is_empty());
        self.topics.retain(|topic| Arc::strong_count(topic) > 1);
    }
}

/// Merges `event` into the rows of its table and keeps `live` true.
fn merge(
    rows: &mut Rows,
    topics: &mut HashSet<Arc<str>>,
    live: &mut usize,
    event: &Event<'_>,
    now: Instant,
) -> Verdict {
    let deleted = event.action == Action::Delete;
    let value = event.value.filter(|_| !deleted);
    let Some(row) = rows.get_mut(event.key) else {
        if deleted && event.stamp.is_none() {
            // Nothing to delete, and without a version nothing to remember.
            return Verdict::Applied;
        }
        let row = Row {
            value: value.map(str::to_owned),
            topic: intern(topics, event.topic_or_all()),
            stamp: event.stamp,
            gone: deleted.then_some(now),
        };
        rows.insert(event.key.into(), row);
        *live += usize::from(!deleted);
        return Verdict::Applied;
    };
    let verdict = newer(event, deleted, row);
    if verdict != Verdict::Applied {
        return verdict;
    }
    *live -= usize::from(row.gone.is_none());
    // What a legacy publisher says has no version; the highest one seen stays, or else an older
    // state could come back.
    row.stamp = event.stamp.or(row.stamp);
    if deleted && row.stamp.is_none() {
        rows.remove(event.key);
        return Verdict::Applied;
    }
    *live += usize::from(!deleted);
    row.gone = deleted.then_some(now);
    match (&mut row.value, value) {
        // In place: most values keep their size.
        (Some(old), Some(new)) => {
            old.clear();
            old.push_str(new);
        }
        (old, new) => *old = new.map(str::to_owned),
    }
    if *row.topic != *event.topic_or_all() {
        row.topic = intern(topics, event.topic_or_all());
    }
    Verdict::Applied
}

/// Whether `event` is newer than `row`.
fn newer(event: &Event<'_>, deleted: bool, row: &Row) -> Verdict {
    let (Some(new), Some(old)) = (event.stamp, row.stamp) else {
        return Verdict::Applied;
    };
    let theirs = (deleted, event.value.filter(|_| !deleted));
    let ours = (row.gone.is_some(), row.value.as_deref());
    match new
        .version
        .cmp(&old.version)
        .then_with(|| theirs.cmp(&ours))
    {
        Ordering::Greater => Verdict::Applied,
        Ordering::Equal => Verdict::Duplicate,
        Ordering::Less => Verdict::Older,
    }
}

/// The one shared copy of `topic`: there are few topics and many rows.
fn intern(topics: &mut HashSet<Arc<str>>, topic: &str) -> Arc<str> {
    match topics.get(topic) {
        Some(known) => Arc::clone(known),
        None => {
            let new: Arc<str> = topic.into();
            topics.insert(Arc::clone(&new));
            new
        }
    }
}

#[cfg(test)]
mod tests;
