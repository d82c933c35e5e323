//! One `[[handler]]` table.

use std::time::Duration;

use super::fault::unknown_key;
use super::handlers::{HANDLER_KEYS, HandlerConfig, TABLE};
use super::kind::Kind;
use super::setting::{Setting, show};
use super::tables::Entry;
use super::{Faults, Known};
use crate::handler::{BuildError, Module, Settings};
use crate::util::stop::StopToken;

/// Longest name of a handler, bytes: it names a thread, metrics and files.
const MAX_NAME: usize = 64;

const DELIVERIES: Kind = Kind::Choice(&["state", "events"]);
const ACTIONS: Kind = Kind::Choice(&["all", "set", "delete"]);
const TIME_LIMITS: Kind = Kind::Seconds(0.0, 86_400.0);
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// One of them, with what is to be said of it.
pub(super) struct Table<'a> {
    pub entry: Entry<'a>,
    pub faults: &'a mut Faults,
    pub warnings: &'a mut Vec<String>,
}

impl Table<'_> {
    /// The handler, unless it has no usable module or name; `names` are those in use before it.
    pub fn handler(&mut self, known: &Known<'_>, names: &[String]) -> Option<HandlerConfig> {
        let module = self.module(known);
        let name = self.name(module, names);
        let tables = self.get("tables", Kind::Tables, known).unwrap_or_default();
        let topics = self.get("topics", Kind::Topics, known).unwrap_or_default();
        let delivery = self.get("delivery", DELIVERIES, known);
        let actions = self.get("actions", ACTIONS, known);
        let time_limit = self.get("time_limit", TIME_LIMITS, known);
        let module = module?;
        // Checked under a name that cannot be used as well: it may be at fault too.
        let settings = self.settings(module, name.as_deref().unwrap_or(module.name));
        Some(HandlerConfig {
            name: name?,
            module: module.name.into(),
            settings,
            tables,
            topics,
            delivery: delivery.unwrap_or_default(),
            actions: actions.unwrap_or_default(),
            time_limit: time_limit.unwrap_or(TIME_LIMIT),
        })
    }

    fn fault(&mut self, key: &str, why: impl std::fmt::Display) {
        let text = |key| {
            self.entry
                .values
                .get(key)?
                .as_str()
                .filter(|text| is_name(text))
        };
        let key_path = match text("name").or_else(|| text("module")) {
            Some(name) => format!("{TABLE}.{name}.{key}"),
            None => self.entry.path(key),
        };
        self.faults.add(self.entry.locate(key), &key_path, why);
    }

    fn module<'k>(&mut self, known: &'k Known<'_>) -> Option<&'k Module> {
        let names: Vec<&str> = known.modules.names().collect();
        let names = names.join(", ");
        match self.entry.values.get("module") {
            None => self.fault("module", format_args!("must be set; known are {names}")),
            Some(value) => match value.as_str().map(|name| (name, known.modules.find(name))) {
                Some((_, Some(module))) => return Some(module),
                Some((name, None)) => {
                    let near = match known.modules.nearest(name) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("known are {names}"),
                    };
                    self.fault("module", format_args!("{name:?} is not a module; {near}"));
                }
                None => {
                    let shown = show(value);
                    self.fault(
                        "module",
                        format_args!("{shown} is not a module; known are {names}"),
                    );
                }
            },
        }
        None
    }

    fn name(&mut self, module: Option<&Module>, names: &[String]) -> Option<String> {
        let given = self.entry.values.get("name");
        let name = match given {
            None => module?.name,
            Some(value) => match value.as_str().filter(|name| is_name(name)) {
                Some(name) => name,
                None => {
                    let shown = show(value);
                    self.fault(
                        "name",
                        format_args!(
                            "{shown} is not 1 to {MAX_NAME} letters, digits, dots, dashes or underscores, the first a letter or digit"
                        ),
                    );
                    return None;
                }
            },
        };
        if names.iter().any(|other| other == name) {
            let why = format_args!("{name:?} is used twice; give each handler a name of its own");
            self.fault("name", why);
            return None;
        }
        Some(name.into())
    }

    fn get<T: Setting>(&mut self, key: &str, kind: Kind, known: &Known<'_>) -> Option<T> {
        let value = self.entry.values.get(key)?;
        let wrong = kind.check(value, known);
        for why in &wrong {
            self.fault(key, why);
        }
        T::from_value(value).filter(|_| wrong.is_empty())
    }

    /// The module's own settings, checked by making the handler and letting it go.
    fn settings(&mut self, module: &Module, name: &str) -> Settings {
        let mut own = self.entry.values.clone();
        own.retain(|key, _| !HANDLER_KEYS.contains(&key.as_str()));
        let settings = Settings::new(own.clone());
        let unknown = own
            .keys()
            .filter(|key| !module.keys.contains(&key.as_str()));
        let unknown: Vec<String> = unknown.cloned().collect();
        for key in unknown {
            let all = HANDLER_KEYS.iter().chain(module.keys);
            self.fault(&key, unknown_key(&key, all.copied()));
            own.remove(&key);
        }
        // `build` ends at its first fault. To find the next, the key at fault is left out.
        let mut at_fault: Vec<String> = Vec::new();
        loop {
            match (module.build)(name, &Settings::new(own.clone()), &StopToken::never()) {
                Ok(_) => break,
                Err(BuildError::Environment(why)) => {
                    self.warnings.push(format!("handler {name}: {why}"));
                    break;
                }
                Err(BuildError::Setting { key, why }) => {
                    // Of the key that was left out, it only says that it must be set.
                    if at_fault.contains(&key) {
                        break;
                    }
                    self.fault(&key, why);
                    let was_set = own.remove(&key).is_some();
                    at_fault.push(key);
                    if !was_set {
                        break;
                    }
                }
            }
        }
        settings
    }
}

/// Whether a handler can be called that. Not `..`: it names files.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(known)
}
