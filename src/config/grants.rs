//! `[[grant]]` tables: which nodes may have which topics.

use figment::value::{Dict, Value};

use super::Faults;
use super::fault::unknown_key;
use super::layers::{Layer, Layers, Origin};
use super::setting::{Setting, show};
use crate::event::topic;
use crate::security::file::is_name;
use crate::security::grants::Grant;

/// The key of the tables.
const TABLE: &str = "grant";

const NODES: &str = "nodes";
const TOPICS: &str = "topics";

/// The keys of a `[[grant]]` table.
const KEYS: &[&str] = &[NODES, TOPICS];

impl Setting for Vec<Grant> {
    // The tables of several files add up, which one value cannot show; `read` fills this.
    fn from_value(_: &Value) -> Option<Self> {
        Some(Vec::new())
    }
}

/// The grants of all sources. The tables of the files add up; a list from the environment or the
/// command line replaces them all.
pub(super) fn read(layers: &Layers, faults: &mut Faults) -> Vec<Grant> {
    let mut grants = Vec::new();
    let replaces = |layer: &Layer| {
        !matches!(layer.origin, Origin::File(_)) && layer.values.contains_key(TABLE)
    };
    let start = layers.0.iter().rposition(replaces).unwrap_or(0);
    for layer in layers.0.iter().skip(start) {
        let tables = layer.values.get(TABLE).and_then(Value::as_array);
        let tables = tables.into_iter().flatten();
        let tables: Vec<&Dict> = tables.filter_map(Value::as_dict).collect();
        for (index, values) in tables.iter().enumerate() {
            let mut table = Table {
                layer,
                values,
                index,
                count: tables.len(),
                faults: &mut *faults,
            };
            grants.extend(table.grant());
        }
    }
    grants
}

/// The table number `index` of the `count` in `layer`.
struct Table<'a> {
    layer: &'a Layer,
    values: &'a Dict,
    index: usize,
    count: usize,
    faults: &'a mut Faults,
}

impl Table<'_> {
    fn grant(&mut self) -> Option<Grant> {
        for key in self.values.keys() {
            if !KEYS.contains(&key.as_str()) {
                self.fault(key, unknown_key(key, KEYS.iter().copied()));
            }
        }
        let nodes = self.names(NODES, |name| match name {
            "" => Ok(()),
            name if is_name(name) => Ok(()),
            _ => Err("is no name of a node: letters, digits, - _ and .".into()),
        });
        let topics = self.names(TOPICS, |name| match name {
            "" => Ok(()),
            name => topic::check(name).map_err(|error| error.to_string()),
        });
        Some(Grant::new(nodes?, topics?))
    }

    fn fault(&mut self, key: &str, why: impl std::fmt::Display) {
        let at = self.layer.locate_in(TABLE, self.index, self.count, key);
        let key = format!("{TABLE}#{}.{key}", self.index + 1);
        self.faults.add(at, &key, why);
    }

    /// The list under `key`, unless something is wrong with it. `check` is given each name without
    /// the `*` at its end.
    fn names(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Vec<String>> {
        let wanted = r#"a list of names, such as ["a", "b-*"]"#;
        let entries = match self.values.get(key) {
            None => {
                self.fault(key, format_args!("must be set, to {wanted}"));
                return None;
            }
            Some(value) => match value.as_array() {
                Some(entries) if !entries.is_empty() => entries,
                _ => {
                    let shown = show(value);
                    self.fault(key, format_args!("{shown} is not {wanted}"));
                    return None;
                }
            },
        };
        let mut names = Vec::new();
        for entry in entries {
            let Some(name) = entry.as_str() else {
                let shown = show(entry);
                self.fault(
                    key,
                    format_args!("{shown} is not a text; write it in quotes"),
                );
                continue;
            };
            let stem = name.strip_suffix('*');
            let checked = match stem.unwrap_or(name) {
                "" if stem.is_none() => Err("is empty".into()),
                stem if stem.contains('*') => Err("has * elsewhere than at its end".into()),
                stem => check(stem),
            };
            match checked {
                Ok(()) => names.push(name.to_owned()),
                Err(why) => self.fault(key, format_args!("{name:?} {why}")),
            }
        }
        (names.len() == entries.len()).then_some(names)
    }
}
