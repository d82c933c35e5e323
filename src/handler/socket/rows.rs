//! The rows that clients are given: pure.
//!
//! The module keeps them itself, each once as the text that is sent, shared by all clients. To ask
//! the agent's replica instead would save this copy, but every client that attaches, and every slow
//! one, would then hold the lock under which all publishers' events meet: a local program in a loop
//! could slow down the whole agent. `tables` and `topics` of the handler keep the copy small.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::event::{Action, Event};
use crate::handler::json;

/// Names a row: table and key. Its order is that of a snapshot.
pub(super) type Name = Arc<(Box<str>, Box<str>)>;

/// One state of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub name: Name,
    pub topic: Box<str>,
    pub is_gone: bool,
    /// The fields of its line.
    pub body: Box<str>,
}

impl Row {
    /// The state that `event` gives; `None` when it is no change of a row. To a receiver `create`
    /// and `set` are the same, so that clients see `set` only.
    pub fn of(event: &Event<'_>) -> Option<Row> {
        let action = match event.action {
            Action::Create | Action::Set => Action::Set,
            Action::Delete => Action::Delete,
            Action::Other(_) => return None,
        };
        let event = Event { action, ..*event };
        Some(Row {
            name: Arc::new((event.table.into(), event.key.into())),
            topic: event.topic_or_all().into(),
            is_gone: action == Action::Delete,
            body: format!("{}{}", json::fields(&event), json::version(&event)).into(),
        })
    }

    /// The state after this one when the object is gone.
    fn gone(&self) -> Arc<Row> {
        let (table, key) = &*self.name;
        let event = Event::delete(table, key).on(&self.topic);
        Arc::new(Row {
            name: Arc::clone(&self.name),
            topic: self.topic.clone(),
            is_gone: true,
            body: json::fields(&event).into(),
        })
    }
}

/// A row that changed.
#[derive(Debug)]
pub(super) struct Change {
    pub old: Option<Arc<Row>>,
    pub new: Arc<Row>,
}

impl Change {
    /// The old row as gone: for a client that saw it and must not see the new one.
    pub fn gone(&self) -> Option<Arc<Row>> {
        self.old.as_ref().map(|old| old.gone())
    }
}

/// All rows. A resync is not passed on: it shows what differs, and that is.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<Name, Arc<Row>>,
    /// The rows that the open resync named.
    seen: Option<HashSet<Name>>,
    complete: bool,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a resync has ended: before, the rows are only a part.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// A resync begins.
    pub fn begin(&mut self) {
        self.seen = Some(HashSet::new());
    }

    /// Takes a state; `None` when it changes nothing.
    pub fn apply(&mut self, row: Row) -> Option<Change> {
        if let Some(seen) = &mut self.seen {
            seen.insert(Arc::clone(&row.name));
        }
        let old = self.rows.get(&row.name);
        if old.map_or(row.is_gone, |old| **old == row) {
            return None;
        }
        let new = Arc::new(row);
        let old = match new.is_gone {
            true => self.rows.remove(&new.name),
            false => self.rows.insert(Arc::clone(&new.name), Arc::clone(&new)),
        };
        Some(Change { old, new })
    }

    /// The resync has ended: what it did not name is gone.
    pub fn end(&mut self) -> Vec<Change> {
        self.complete = true;
        let Some(seen) = self.seen.take() else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        self.rows.retain(|name, row| {
            let is_there = seen.contains(name);
            if !is_there {
                gone.push(Change {
                    new: row.gone(),
                    old: Some(Arc::clone(row)),
                });
            }
            is_there
        });
        gone
    }

    /// The row after `name`, the first one without a name.
    pub fn after(&self, name: Option<&Name>) -> Option<&Arc<Row>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = name.map_or(Unbounded, Excluded);
        let mut rest = self.rows.range::<Name, _>((start, Unbounded));
        rest.next().map(|(_, row)| row)
    }
}
