//! An agent with a module of its own beside those in the box.
//!
//!     cargo run --example custom-agent -- --config agent.toml
//!
//! `[[handler]]` with `module = "ports"` and, if wanted, `greeting = "…"` chooses it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use fanfare::event::Event;
use fanfare::handler::registry::Registry;
use fanfare::handler::{BuildError, Handler, HandlerError, Module, Settings, SyncReason};
use fanfare::util::stop::StopToken;

/// Counts the ports of each table; a real one would program a switch.
struct Ports {
    greeting: String,
    tables: BTreeMap<String, Vec<String>>,
}

impl Handler for Ports {
    fn begin_sync(&mut self, _reason: SyncReason) -> Result<(), HandlerError> {
        self.tables.clear(); // start over: all rows follow
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let keys = self.tables.entry(event.table.to_owned()).or_default();
        keys.retain(|key| key != event.key); // the same state may come twice
        if event.value.is_some() {
            keys.push(event.key.to_owned());
        }
        println!("{}: {} of {}", self.greeting, keys.len(), event.table);
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        println!("{}: {} tables", self.greeting, self.tables.len());
        Ok(())
    }
}

fn build(_: &str, settings: &Settings, _: &StopToken) -> Result<Box<dyn Handler>, BuildError> {
    Ok(Box::new(Ports {
        greeting: settings.get("greeting")?.unwrap_or_else(|| "ports".into()),
        tables: BTreeMap::new(),
    }))
}

fn main() -> ExitCode {
    let ports = Module {
        name: "ports",
        about: "counts ports",
        keys: &["greeting"],
        build,
    };
    fanfare::app::agent::run(Registry::builtin().with(ports))
}
