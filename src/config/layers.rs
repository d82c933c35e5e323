//! The sources of a configuration laid over one another, each value knowing where it stands.
//!
//! Not `figment::Figment::merge`: that ends at the first source that cannot be read, while all
//! faults of all sources are wanted, and it cannot join the handlers of several files.

use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Value};

use super::keys::{ENV_PREFIX, Key};
use super::lines;
use super::setting::Setting;
use super::{Faults, Known};

/// Where a layer came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    BuiltIn,
    File(PathBuf),
    Environment,
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("built-in default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment => write!(f, "{ENV_PREFIX}*"),
            Origin::CommandLine => f.write_str("--set"),
        }
    }
}

/// One source.
#[derive(Debug)]
pub(super) struct Layer {
    pub origin: Origin,
    pub values: Dict,
    /// The file's text, to find lines in.
    pub text: String,
}

impl Layer {
    /// Where `key` stands.
    pub fn locate(&self, key: &str) -> String {
        match &self.origin {
            Origin::File(path) => at_line(path, lines::of_key(&self.text, key)),
            Origin::Environment => format!("{ENV_PREFIX}{}", key.to_ascii_uppercase()),
            origin => origin.to_string(),
        }
    }

    /// Where `key` of the `[[table]]` number `index` of `count` stands.
    pub fn locate_in(&self, table: &str, index: usize, count: usize, key: &str) -> String {
        match &self.origin {
            Origin::File(path) => {
                let line = lines::of_table_key(&self.text, table, (index, count), key);
                at_line(path, line.or_else(|| lines::of_key(&self.text, table)))
            }
            _ => self.locate(table),
        }
    }
}

fn at_line(path: &std::path::Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    }
}

/// All sources, the built-in defaults first; later ones win.
#[derive(Debug)]
pub(super) struct Layers(pub Vec<Layer>);

impl Layers {
    /// The value of `key` that counts and the layer it stands in.
    pub fn effective(&self, key: &str) -> Option<(&Layer, &Value)> {
        let layers = self.0.iter().rev();
        let mut found = layers.filter_map(|layer| Some((layer, layer.values.get(key)?)));
        found.next()
    }

    /// Where the value of `key` that counts stands.
    pub fn locate(&self, key: &str) -> String {
        match self.effective(key) {
            Some((layer, _)) => layer.locate(key),
            None => Origin::BuiltIn.to_string(),
        }
    }

    /// The value of `key` that counts; the default, and a fault each, where it is not allowed.
    /// A value that a later source replaces is not looked at, so that `--set` can mend a file.
    pub fn setting<T: Setting + Default>(
        &self,
        key: &Key,
        known: &Known<'_>,
        faults: &mut Faults,
    ) -> T {
        let wrong = match self.effective(key.name) {
            None => vec!["has no default".to_owned()],
            Some((_, value)) => {
                let wrong = key.kind.check(value, known);
                match T::from_value(value) {
                    Some(value) if wrong.is_empty() => return value,
                    _ if wrong.is_empty() => {
                        vec![format!("cannot be read as {}", key.kind.wants())]
                    }
                    _ => wrong,
                }
            }
        };
        for why in wrong {
            faults.add(self.locate(key.name), key.name, why);
        }
        let default = self.0.first().and_then(|layer| layer.values.get(key.name));
        default.and_then(T::from_value).unwrap_or_default()
    }
}
