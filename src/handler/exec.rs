//! `module = "exec"`: a command for each event.
//!
//! The command gets the event as one line of JSON ([`json::event`]) on its standard input, and in
//! its environment FANFARE_TABLE, FANFARE_KEY, FANFARE_ACTION, FANFARE_TOPIC and FANFARE_SYNC
//! (`true` for a row of a resync). No shell is involved. Exit status 0 means done; anything else
//! means that it may work later. Its standard output goes nowhere, the end of its standard error
//! into the report of a failure.
//!
//! It runs in a process group of its own, which is killed when the command runs too long or when
//! the agent stops. What it leaves running in the background when it exits is left alone.

use std::time::{Duration, Instant};

use super::command::{self, run::Runner};
use super::{BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason, json};
use crate::event::Event;
use crate::util::printable;
use crate::util::stop::StopToken;

/// Longest run of a command when `timeout` is not set.
const TIMEOUT: Duration = Duration::from_secs(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
/// Time between two looks after a process that was killed but is not gone.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// The registry's entry. Keys: `command` (required; program and arguments as a list), `timeout`
/// (seconds, 0.01 to 86400, default 10), `sync_events` (whether the command is also run with the
/// actions `begin_sync` and `end_sync`, default false).
pub const MODULE: Module = Module {
    name: "exec",
    about: "runs a command for each event, the event as JSON on its standard input",
    keys: &["command", "sync_events", "timeout"],
    build,
};

struct Exec {
    runner: Runner<()>,
    sync_events: bool,
    in_sync: bool,
}

fn build(
    _name: &str,
    settings: &Settings,
    stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    Ok(Box::new(Exec::new(settings, stop)?))
}

impl Exec {
    fn new(settings: &Settings, stop: &StopToken) -> Result<Self, BuildError> {
        let command = command::required(settings)?;
        let timeout = settings.seconds("timeout", TIMEOUT, MIN_TIMEOUT, MAX_TIMEOUT)?;
        let sync_events = settings.get("sync_events")?.unwrap_or(false);
        Ok(Exec {
            runner: Runner::new(command, timeout, stop.clone())?,
            sync_events,
            in_sync: false,
        })
    }

    fn run(
        &mut self,
        [table, key, action, topic]: [&str; 4],
        sync: bool,
        mut input: String,
    ) -> Result<(), HandlerError> {
        input.push('\n');
        let environment = [
            ("FANFARE_TABLE", table),
            ("FANFARE_KEY", key),
            ("FANFARE_ACTION", action),
            ("FANFARE_TOPIC", topic),
            ("FANFARE_SYNC", if sync { "true" } else { "false" }),
        ];
        for (name, value) in environment {
            if value.contains('\0') {
                return Err(HandlerError::Permanent(format!(
                    "{name} cannot be given to a command, it contains NUL: {}",
                    printable::name(value, 64)
                )));
            }
        }
        self.runner.run(&environment, input.into_bytes())
    }

    fn mark(&mut self, action: &str, reason: Option<&str>) -> Result<(), HandlerError> {
        if !self.sync_events {
            return Ok(());
        }
        self.run(["", "", action, ""], true, json::sync_mark(action, reason))
    }
}

impl Handler for Exec {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.in_sync = true;
        self.mark("begin_sync", Some(reason.as_str()))
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let sync = self.in_sync;
        let topic = event.topic_or_all();
        let names = [event.table, event.key, event.action.as_str(), topic];
        self.run(names, sync, json::event(event, sync))
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.in_sync = false;
        self.mark("end_sync", None)
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        // Only to be rid of a process that did not go when it was killed; no event failed here.
        Ok(self.runner.reap().err().map(|_| now + REAP_INTERVAL))
    }

    fn close(&mut self, _closing: Closing) -> Result<(), HandlerError> {
        self.runner.reap()
    }
}

#[cfg(test)]
mod tests;
