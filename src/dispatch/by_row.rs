//! A map whose keys are table and key, looked up without making a [`RowKey`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::replica::RowKey;

/// A value for each of some rows.
#[derive(Debug)]
pub struct ByRow<V> {
    tables: HashMap<Arc<str>, HashMap<Arc<str>, V>>,
    len: usize,
}

impl<V> Default for ByRow<V> {
    fn default() -> Self {
        ByRow {
            tables: HashMap::new(),
            len: 0,
        }
    }
}

impl<V> ByRow<V> {
    /// How many rows have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row has one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row's value.
    pub fn get(&self, table: &str, key: &str) -> Option<&V> {
        self.tables.get(table)?.get(key)
    }

    /// The row's value, to be changed.
    pub fn get_mut(&mut self, table: &str, key: &str) -> Option<&mut V> {
        self.tables.get_mut(table)?.get_mut(key)
    }

    /// Gives the row a value; returns the one it had.
    pub fn insert(&mut self, row: RowKey, value: V) -> Option<V> {
        let old = self
            .tables
            .entry(row.table)
            .or_default()
            .insert(row.key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the row's value.
    pub fn remove(&mut self, table: &str, key: &str) -> Option<V> {
        let rows = self.tables.get_mut(table)?;
        let value = rows.remove(key)?;
        if rows.is_empty() {
            self.tables.remove(table);
        }
        self.len -= 1;
        Some(value)
    }

    /// Every row that has a value, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (RowKey, &V)> {
        self.tables.iter().flat_map(|(table, rows)| {
            rows.iter().map(|(key, value)| {
                let (table, key) = (Arc::clone(table), Arc::clone(key));
                (RowKey { table, key }, value)
            })
        })
    }

    /// Keeps the rows whose value `keep` says so of.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        for rows in self.tables.values_mut() {
            rows.retain(|_, value| keep(value));
        }
        self.tables.retain(|_, rows| !rows.is_empty());
        self.len = self.tables.values().map(HashMap::len).sum();
    }
}
