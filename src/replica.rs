//! The local copy of all rows: last version wins.
//!
//! One writer at a time; whoever owns it decides how it is shared. It knows no clock.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::event::{Action, Event, Stamp};
use slab::Slab;

mod slab;

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

    /// Since when the object is gone; `None` where it exists.
    pub fn gone(&self) -> Option<Instant> {
        self.gone
    }

    /// What brings the row called `name` into this state.
    pub fn event<'a>(&'a self, name: &'a RowKey) -> Event<'a> {
        Event {
            table: &name.table,
            key: &name.key,
            action: match self.is_tombstone() {
                true => Action::Delete,
                false => Action::Set,
            },
            value: self.value.as_deref(),
            topic: Some(&self.topic),
            stamp: self.stamp,
        }
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

/// What [`Replica::merge`] did with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Whether it is the newest state now.
    pub verdict: Verdict,
    /// The topic the object stood on until now, where the event names another.
    pub left: Option<Arc<str>>,
}

/// Two of these are looked up per event. Seeded per map, so that keys cannot be made to collide
/// without knowing the seed.
type Map<V> = HashMap<Arc<str>, V, foldhash::quality::RandomState>;

/// A row where it stands.
#[derive(Debug)]
struct Entry {
    name: RowKey,
    row: Row,
}

/// A walk over all rows that can be left and taken up again while rows change. It comes by every
/// row that is there from its start to its end; by others it may or may not.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    next: usize,
    end: usize,
}

/// All rows by table and key.
#[derive(Debug, Default)]
pub struct Replica {
    /// Where each row stands.
    tables: Map<Map<usize>>,
    rows: Slab<Entry>,
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

    fn entry(&self, table: &str, key: &str) -> Option<&Entry> {
        self.rows.get(*self.tables.get(table)?.get(key)?)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        (0..self.rows.end()).filter_map(|place| self.rows.get(place))
    }

    /// The row of an object that exists.
    pub fn get(&self, table: &str, key: &str) -> Option<&Row> {
        self.get_any(table, key).filter(|row| row.gone.is_none())
    }

    /// The row of an object, be it a tombstone.
    pub fn get_any(&self, table: &str, key: &str) -> Option<&Row> {
        Some(&self.entry(table, key)?.row)
    }

    /// The names of all rows, tombstones too, that `wanted` lets through.
    pub fn keys_any(&self, wanted: impl Fn(&Row) -> bool) -> Vec<RowKey> {
        let wanted = self.entries().filter(|entry| wanted(&entry.row));
        wanted.map(|entry| entry.name.clone()).collect()
    }

    /// The names of all objects that exist and that `wanted(table, topic)` lets through. Takes
    /// its time with many rows; see [`Replica::walk`].
    pub fn keys(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<RowKey> {
        let live = self.entries().filter(|entry| entry.row.gone.is_none());
        let wanted = live.filter(|entry| wanted(&entry.name.table, &entry.row.topic));
        wanted.map(|entry| entry.name.clone()).collect()
    }

    /// A walk over the rows there are now.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            next: 0,
            end: self.rows.end(),
        }
    }

    /// Goes on by at most `most` rows and shows those of objects that exist; `false` when the walk
    /// is over.
    pub fn walk(
        &self,
        cursor: &mut Cursor,
        most: usize,
        mut see: impl FnMut(&RowKey, &Row),
    ) -> bool {
        self.walk_any(cursor, most, |name, row| {
            if row.gone.is_none() {
                see(name, row);
            }
        })
    }

    /// As [`Replica::walk`], and shows tombstones too.
    pub fn walk_any(
        &self,
        cursor: &mut Cursor,
        most: usize,
        mut see: impl FnMut(&RowKey, &Row),
    ) -> bool {
        for place in cursor.take(most) {
            if let Some(entry) = self.rows.get(place) {
                see(&entry.name, &entry.row);
            }
        }
        cursor.next < cursor.end
    }

    /// The replica's own name for an object it has heard of.
    pub fn name(&self, table: &str, key: &str) -> Option<RowKey> {
        Some(self.entry(table, key)?.name.clone())
    }

    /// The newest state of `name` as an event; a delete where the object does not exist.
    pub fn event<'a>(&'a self, name: &'a RowKey) -> Event<'a> {
        match self.get(&name.table, &name.key) {
            Some(row) => row.event(name),
            None => Event::delete(&name.table, &name.key),
        }
    }

    /// As [`Replica::merge`], for who does not ask for the topic.
    pub fn apply(&mut self, event: &Event<'_>, now: Instant) -> Verdict {
        self.merge(event, now).verdict
    }

    /// Merges one change of a row. An event without a version is newer than all that was heard
    /// before it; otherwise the higher version wins, and of equal versions a fixed one of the two
    /// contents, so that all replicas agree whatever order they heard them in.
    pub fn merge(&mut self, event: &Event<'_>, now: Instant) -> Merged {
        let deleted = event.action == Action::Delete;
        let known = self.tables.get(event.table);
        let place = known.and_then(|rows| rows.get(event.key)).copied();
        let Some(entry) = place.and_then(|place| self.rows.get_mut(place)) else {
            // Nothing to delete, and without a version nothing to remember.
            if !deleted || event.stamp.is_some() {
                self.insert(event, deleted, now);
            }
            return Merged {
                verdict: Verdict::Applied,
                left: None,
            };
        };
        let row = &mut entry.row;
        let verdict = newer(event, deleted, row);
        if verdict != Verdict::Applied {
            return Merged {
                verdict,
                left: None,
            };
        }
        let existed = row.gone.is_none();
        self.live -= usize::from(existed);
        // What a legacy publisher says has no version; the highest one seen stays, or else an older
        // state could come back.
        row.stamp = event.stamp.or(row.stamp);
        let mut left = None;
        if *row.topic != *event.topic_or_all() {
            let topic = intern(&mut self.topics, event.topic_or_all());
            left = Some(std::mem::replace(&mut row.topic, topic)).filter(|_| existed);
        }
        if deleted && row.stamp.is_none() {
            self.forget(place);
            return Merged { verdict, left };
        }
        self.live += usize::from(!deleted);
        row.gone = deleted.then_some(now);
        match (&mut row.value, event.value.filter(|_| !deleted)) {
            // In place: most values keep their size.
            (Some(old), Some(new)) => {
                old.clear();
                old.push_str(new);
            }
            (old, new) => *old = new.map(str::to_owned),
        }
        Merged { verdict, left }
    }

    fn insert(&mut self, event: &Event<'_>, deleted: bool, now: Instant) {
        let table = match self.tables.get_key_value(event.table) {
            Some((table, _)) => Arc::clone(table),
            None => event.table.into(),
        };
        let key: Arc<str> = event.key.into();
        let row = Row {
            value: event.value.filter(|_| !deleted).map(str::to_owned),
            topic: intern(&mut self.topics, event.topic_or_all()),
            stamp: event.stamp,
            gone: deleted.then_some(now),
        };
        let name = RowKey {
            table: Arc::clone(&table),
            key: Arc::clone(&key),
        };
        let place = self.rows.insert(Entry { name, row });
        self.tables.entry(table).or_default().insert(key, place);
        self.live += usize::from(!deleted);
    }

    /// Takes the row at `place` out, `live` left as it is.
    fn forget(&mut self, place: Option<usize>) -> Option<Entry> {
        let entry = self.rows.remove(place?)?;
        let RowKey { table, key } = &entry.name;
        if let Some(rows) = self.tables.get_mut(table) {
            rows.remove(key);
            if rows.is_empty() {
                self.tables.remove(table);
            }
        }
        Some(entry)
    }

    /// Goes on by at most `most` rows and forgets those that `leave` names, tombstones too, as if
    /// they had never been heard of. Shows each; `false` when the walk is over.
    pub fn drop_rows(
        &mut self,
        cursor: &mut Cursor,
        most: usize,
        leave: impl Fn(&Row) -> bool,
        mut dropped: impl FnMut(RowKey, &Row),
    ) -> bool {
        for place in cursor.take(most) {
            if !self.rows.get(place).is_some_and(|entry| leave(&entry.row)) {
                continue;
            }
            if let Some(entry) = self.forget(Some(place)) {
                self.live -= usize::from(entry.row.gone.is_none());
                dropped(entry.name, &entry.row);
            }
        }
        if cursor.next < cursor.end {
            return true;
        }
        self.topics.retain(|topic| Arc::strong_count(topic) > 1);
        false
    }

    /// Forgets tombstones of objects that are gone since before `before`; names each one and its topic.
    pub fn expire_each(&mut self, before: Instant, forgotten: impl FnMut(RowKey, &str)) {
        self.expire_some(&mut self.cursor(), usize::MAX, before, forgotten);
    }

    /// As [`Replica::expire_each`], by at most `most` rows; `false` when the walk is over.
    pub fn expire_some(
        &mut self,
        cursor: &mut Cursor,
        most: usize,
        before: Instant,
        mut forgotten: impl FnMut(RowKey, &str),
    ) -> bool {
        let expired = |row: &Row| row.gone.is_some_and(|gone| gone < before);
        self.drop_rows(cursor, most, expired, |name, row| {
            forgotten(name, &row.topic);
        })
    }
}

impl Cursor {
    /// The next places, at most `most`.
    fn take(&mut self, most: usize) -> std::ops::Range<usize> {
        let until = self.next.saturating_add(most).min(self.end);
        std::mem::replace(&mut self.next, until)..until
    }
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
