//! Differences of one polled table; pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Action, Event};
use crate::store::{NbStore, StoreError};

/// One look at a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Its rows by key.
    pub rows: BTreeMap<String, String>,
    /// Keys of which it is not sure whether they exist: listed, but not to be read, twice.
    pub unsure: BTreeSet<String>,
}

impl Rows {
    /// Reads a table. A row that was listed and is not there when it is read may just be being
    /// replaced; so it is looked for again after all others, and is absent only if it is then
    /// neither found nor listed.
    ///
    /// # Errors
    /// The first of the store's; a part of a table is no table.
    pub fn read(store: &dyn NbStore, table: &str) -> Result<Self, StoreError> {
        let mut seen = Rows::default();
        let mut missing = Vec::new();
        for key in store.keys(table)? {
            match store.get(table, &key)? {
                Some(value) => drop(seen.rows.insert(key, value)),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(seen);
        }
        let listed: BTreeSet<String> = store.keys(table)?.into_iter().collect();
        for key in missing {
            match store.get(table, &key)? {
                Some(value) => drop(seen.rows.insert(key, value)),
                None if listed.contains(&key) => drop(seen.unsure.insert(key)),
                None => {}
            }
        }
        Ok(seen)
    }
}

/// What happened to a row between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Create {
        /// The row's key.
        key: String,
        /// Its value.
        value: String,
    },
    /// It has another value.
    Set {
        /// The row's key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// It is gone.
    Delete {
        /// The row's key.
        key: String,
    },
}

impl Change {
    /// The change as an event of `table`, for all agents.
    pub fn event<'a>(&'a self, table: &'a str) -> Event<'a> {
        match self {
            Change::Create { key, value } => Event {
                action: Action::Create,
                ..Event::set(table, key, value)
            },
            Change::Set { key, value } => Event::set(table, key, value),
            Change::Delete { key } => Event::delete(table, key),
        }
    }
}

/// Finds the differences between looks at one table.
#[derive(Debug)]
pub struct TableMonitor {
    /// What is published; `None` until the first look, when nothing was known before.
    known: Option<BTreeMap<String, String>>,
    /// Whether the store has shown rows of it, or never had to. See [`TableMonitor::doubts`].
    believed: bool,
}

impl TableMonitor {
    /// A monitor of a table of which `known` is published already (a publisher's current rows), so
    /// that after a restart only real differences are. With `None` nobody knows, and the first look
    /// is taken as published.
    pub fn new(known: Option<BTreeMap<String, String>>) -> Self {
        TableMonitor {
            known,
            believed: false,
        }
    }

    /// Whether a look is not believed: it finds nothing at all, though rows are published, and no look
    /// before has found any. Then the store is more likely another one, such as the empty one of a new
    /// disk, than all rows are gone; and to end them would empty the table on every node.
    pub fn doubts(&self, look: &Rows) -> bool {
        let found = look.rows.keys().any(|key| !key.is_empty()) || !look.unsure.is_empty();
        !self.believed && !found && !self.is_empty()
    }

    /// How many rows are known.
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, BTreeMap::len)
    }

    /// Whether no row is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What changed since the last look, in the order of keys, deletes last. A failed look changes
    /// nothing, nor does one that is not believed: the next one finds what it would have found. Rows
    /// without a key are left out, for an event cannot name them.
    pub fn observe(&mut self, look: Result<Rows, &StoreError>) -> Vec<Change> {
        let Ok(look) = look else {
            return Vec::new();
        };
        if self.doubts(&look) {
            return Vec::new();
        }
        self.believed = true;
        let Rows { mut rows, unsure } = look;
        rows.remove("");
        let Some(known) = &mut self.known else {
            self.known = Some(rows);
            return Vec::new();
        };
        let gone: Vec<String> = known
            .keys()
            .filter(|key| !rows.contains_key(*key) && !unsure.contains(*key))
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for (key, value) in rows {
            match known.get_mut(&key) {
                Some(old) if *old == value => continue,
                Some(old) => {
                    old.clone_from(&value);
                    changes.push(Change::Set { key, value });
                }
                None => {
                    known.insert(key.clone(), value.clone());
                    changes.push(Change::Create { key, value });
                }
            }
        }
        for key in gone {
            known.remove(&key);
            changes.push(Change::Delete { key });
        }
        changes
    }
}

#[cfg(test)]
mod tests;
