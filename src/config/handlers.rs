//! `[[handler]]` tables: what is common to all modules; the rest is the module's (design §7).

use std::time::Duration;

use figment::value::{Dict, Value};

use super::kind::Kind;
use super::layers::{Layer, Layers, Origin};
use super::setting::Setting;
use super::table::Table;
use super::{Faults, Known};
use crate::dispatch::{Actions, Delivery};
use crate::handler::Settings;

/// The key of the tables.
pub(super) const TABLE: &str = "handler";

/// The keys every `[[handler]]` table knows, beside its module's own.
pub const HANDLER_KEYS: &[&str] = &[
    "actions",
    "delivery",
    "module",
    "name",
    "tables",
    "time_limit",
    "topics",
];

impl Setting for Delivery {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "state" => Some(Delivery::State),
            "events" => Some(Delivery::Events),
            _ => None,
        }
    }
}

impl Setting for Actions {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "all" => Some(Actions::All),
            "set" => Some(Actions::Set),
            "delete" => Some(Actions::Delete),
            _ => None,
        }
    }
}

/// One handler.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerConfig {
    /// Unique among the handlers; the module's name unless given.
    pub name: String,
    /// The module's name; it is known.
    pub module: String,
    /// The tables whose events it is given; empty for all.
    pub tables: Vec<String>,
    /// The topics whose events it is given; empty for all.
    pub topics: Vec<String>,
    /// The actions it is told of.
    pub actions: Actions,
    /// What it is promised.
    pub delivery: Delivery,
    /// Longest that one call may take; zero for ever.
    pub time_limit: Duration,
    /// The module's own settings; its `build` took them.
    pub settings: Settings,
}

impl Setting for Vec<HandlerConfig> {
    // The tables of several files add up, which one value cannot show; `read` fills this.
    fn from_value(_: &Value) -> Option<Self> {
        Some(Vec::new())
    }
}

/// The handlers of all sources. The tables of the files add up; one of a later file takes the
/// place of one of the same name. A list from the environment or the command line replaces them
/// all. `warnings` tells of what may mend itself until the handlers are made.
pub(super) fn read(
    layers: &Layers,
    known: &Known<'_>,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Vec<HandlerConfig> {
    let mut handlers: Vec<HandlerConfig> = Vec::new();
    let replaces = |layer: &Layer| {
        !matches!(layer.origin, Origin::File(_)) && layer.values.contains_key(TABLE)
    };
    let start = layers.0.iter().rposition(replaces).unwrap_or(0);
    for layer in layers.0.iter().skip(start) {
        let Some(value) = layer.values.get(TABLE) else {
            continue;
        };
        // The value of the last source is checked where every key is; these add up, so all count.
        let is_last = layers
            .effective(TABLE)
            .is_some_and(|(last, _)| std::ptr::eq(last, layer));
        if !is_last {
            for why in Kind::Handlers.check(value, known) {
                faults.add(layer.locate(TABLE), TABLE, why);
            }
        }
        let tables = value.as_array().into_iter().flatten();
        let tables: Vec<&Dict> = tables.filter_map(Value::as_dict).collect();
        let mut names: Vec<String> = Vec::new();
        for (index, values) in tables.iter().enumerate() {
            let mut table = Table {
                layer,
                values,
                index,
                count: tables.len(),
                faults: &mut *faults,
                warnings: &mut *warnings,
            };
            let Some(handler) = table.handler(known, &names) else {
                continue;
            };
            names.push(handler.name.clone());
            handlers.retain(|earlier| earlier.name != handler.name);
            handlers.push(handler);
        }
    }
    handlers
}
