//! `[[grant]]` tables: which nodes may have which topics.

use figment::value::Value;

use super::fault::unknown_key;
use super::kind::Kind;
use super::layers::Layers;
use super::setting::{Setting, show};
use super::tables::{self, Entry};
use super::{Faults, Known};
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

/// The grants of all sources.
pub(super) fn read(layers: &Layers, known: &Known<'_>, faults: &mut Faults) -> Vec<Grant> {
    let entries = tables::entries(layers, (TABLE, Kind::Grants), known, faults);
    let grants = entries.into_iter().filter_map(|entry| {
        let mut table = Table {
            entry,
            faults: &mut *faults,
        };
        table.grant()
    });
    grants.collect()
}

/// One table.
struct Table<'a> {
    entry: Entry<'a>,
    faults: &'a mut Faults,
}

impl Table<'_> {
    fn grant(&mut self) -> Option<Grant> {
        for key in self.entry.values.keys() {
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
        let (at, path) = (self.entry.locate(key), self.entry.path(key));
        self.faults.add(at, &path, why);
    }

    /// The list under `key`, unless something is wrong with it. `check` is given each name without
    /// the `*` at its end.
    fn names(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Vec<String>> {
        let wanted = r#"a list of names, such as ["a", "b-*"]"#;
        let entries = match self.entry.values.get(key) {
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
