//! A store in memory, with faults on demand: for trials, and for tests of everything above.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{NbStore, StoreError};

/// The driver's alias.
pub const ALIAS: &str = "memory";

/// Rows in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// What happened, for tests that must know that their fault did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happened {
    /// Calls, failed ones too.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls of `get` that were made to find nothing.
    pub hidden: u64,
    /// Rows removed right after they were listed.
    pub vanished: u64,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    failing: u64,
    hiding: HashMap<(String, String), u64>,
    vanishing: Vec<(String, String)>,
    happened: Happened,
}

impl MemoryStore {
    /// A store without rows.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `count` calls fail; 0 ends it.
    pub fn fail_next(&self, count: u64) {
        self.state().failing = count;
    }

    /// The next `count` calls of `get` for this row find nothing, while `keys` lists it.
    pub fn hide(&self, table: &str, key: &str, count: u64) {
        let name = (table.to_owned(), key.to_owned());
        self.state().hiding.insert(name, count);
    }

    /// Removes this row right after the next `keys` of its table.
    pub fn vanish_after_keys(&self, table: &str, key: &str) {
        let name = (table.to_owned(), key.to_owned());
        self.state().vanishing.push(name);
    }

    /// What happened so far.
    pub fn happened(&self) -> Happened {
        self.state().happened
    }

    /// The state, for one call named `what`, or the failure that was asked for.
    fn call(&self, what: &str) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        state.happened.calls += 1;
        if state.failing == 0 {
            return Ok(state);
        }
        state.failing -= 1;
        state.happened.failed += 1;
        Err(StoreError::Retry {
            what: format!("memory store: {what}"),
            why: "told to fail".into(),
        })
    }
}

impl State {
    fn remove(&mut self, table: &str, key: &str) -> bool {
        let Some(rows) = self.tables.get_mut(table) else {
            return false;
        };
        let existed = rows.remove(key).is_some();
        if rows.is_empty() {
            self.tables.remove(table);
        }
        existed
    }
}

impl NbStore for MemoryStore {
    fn tables(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.call("tables")?.tables.keys().cloned().collect())
    }

    fn keys(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let mut state = self.call("keys")?;
        let rows = state.tables.get(table);
        let keys = rows.map_or_else(Vec::new, |rows| rows.keys().cloned().collect());
        let (now, later) = std::mem::take(&mut state.vanishing)
            .into_iter()
            .partition(|(of, _)| of == table);
        state.vanishing = later;
        let now: Vec<(String, String)> = now;
        for (table, key) in now {
            let vanished = state.remove(&table, &key);
            state.happened.vanished += u64::from(vanished);
        }
        Ok(keys)
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        let mut state = self.call("get")?;
        if !state.hiding.is_empty() {
            let name = (table.to_owned(), key.to_owned());
            if let Some(left) = state.hiding.get_mut(&name)
                && *left > 0
            {
                *left -= 1;
                state.happened.hidden += 1;
                return Ok(None);
            }
        }
        let rows = state.tables.get(table);
        Ok(rows.and_then(|rows| rows.get(key)).cloned())
    }

    fn set(&self, table: &str, key: &str, value: &str) -> Result<(), StoreError> {
        let mut state = self.call("set")?;
        let rows = state.tables.entry(table.to_owned()).or_default();
        rows.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn delete(&self, table: &str, key: &str) -> Result<bool, StoreError> {
        Ok(self.call("delete")?.remove(table, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_as_often_as_told_and_are_counted() {
        let store = MemoryStore::new();
        for key in ["a", "b"] {
            store.set("t", key, "1").unwrap();
        }
        store.fail_next(1);
        assert!(store.keys("t").is_err());
        store.hide("t", "a", 1);
        store.vanish_after_keys("t", "b");
        store.vanish_after_keys("u", "x");
        assert_eq!(store.keys("t").unwrap(), ["a", "b"]);
        assert_eq!(store.get("t", "a").unwrap(), None);
        assert_eq!(store.get("t", "a").unwrap().as_deref(), Some("1"));
        assert_eq!(store.get("t", "b").unwrap(), None);
        let happened = store.happened();
        assert_eq!(
            (happened.failed, happened.hidden, happened.vanished),
            (1, 1, 1)
        );
    }
}
