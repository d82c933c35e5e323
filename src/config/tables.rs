//! Lists of tables, such as `[[handler]]`. Those of several files add up; one from the environment or the
//! command line takes the place of all before it.

use figment::value::{Dict, Value};

use super::kind::Kind;
use super::layers::{Layer, Layers, Origin};
use super::{Faults, Known};

/// One table, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub layer: &'a Layer,
    pub values: &'a Dict,
    /// Its number in its layer, from 0, and how many there are.
    pub index: usize,
    pub count: usize,
    /// The key of the list.
    list: &'static str,
}

impl Entry<'_> {
    /// Where `key` of it stands.
    pub fn locate(&self, key: &str) -> String {
        self.layer.locate_in(self.list, self.index, self.count, key)
    }

    /// What `key` of it is called where the table has no name.
    pub fn path(&self, key: &str) -> String {
        format!("{}#{}.{key}", self.list, self.index + 1)
    }
}

/// All tables of the list that `list` is the key of; what is no list of tables is a fault.
pub(super) fn entries<'a>(
    layers: &'a Layers,
    (list, kind): (&'static str, Kind),
    known: &Known<'_>,
    faults: &mut Faults,
) -> Vec<Entry<'a>> {
    let replaces =
        |layer: &Layer| !matches!(layer.origin, Origin::File(_)) && layer.values.contains_key(list);
    let start = layers.0.iter().rposition(replaces).unwrap_or(0);
    let last = layers.effective(list).map(|(last, _)| last);
    let mut entries = Vec::new();
    for layer in &layers.0[start..] {
        let Some(value) = layer.values.get(list) else {
            continue;
        };
        // The value of the last source is checked where every key is; these add up, so all count.
        if !last.is_some_and(|last| std::ptr::eq(last, layer)) {
            for why in kind.check(value, known) {
                faults.add(layer.locate(list), list, why);
            }
        }
        let tables = value.as_array().into_iter().flatten();
        let tables: Vec<&Dict> = tables.filter_map(Value::as_dict).collect();
        let count = tables.len();
        let numbered = tables.into_iter().enumerate();
        entries.extend(numbered.map(|(index, values)| Entry {
            layer,
            values,
            index,
            count,
            list,
        }));
    }
    entries
}
