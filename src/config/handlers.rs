//! `[[handler]]` tables: what is common to all modules; the rest is the module's.

use std::time::Duration;

use figment::value::Value;

use super::kind::Kind;
use super::layers::Layers;
use super::setting::Setting;
use super::table::Table;
use super::tables;
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

/// The handlers of all sources; one of a later file takes the place of one of the same name. `warnings` tells of
/// what may mend itself until the handlers are made.
pub(super) fn read(
    layers: &Layers,
    known: &Known<'_>,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Vec<HandlerConfig> {
    let mut handlers: Vec<HandlerConfig> = Vec::new();
    // Of one source.
    let mut names: Vec<String> = Vec::new();
    for entry in tables::entries(layers, (TABLE, Kind::Handlers), known, faults) {
        if entry.index == 0 {
            names.clear();
        }
        let mut table = Table {
            entry,
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
    handlers
}
