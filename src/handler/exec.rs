//! `module = "exec"`: a command for each event, or for each settled batch of them.
//!
//! The command gets JSON on its standard input and names in its environment. No shell is involved.
//! Exit status 0 means done; anything else means that it may work later. Its standard output goes
//! nowhere, the end of its standard error into the report of a failure.
//!
//! It runs in a process group of its own, which is killed when the command runs too long or when
//! the agent stops. What it leaves running in the background when it exits is left alone.

mod batch;
mod each;

use std::time::Duration;

use super::command::{self, run::Runner};
use super::{BuildError, Handler, Module, Settings};
use crate::util::stop::StopToken;
use batch::{Batch, Times};
use each::Each;

/// Longest run of a command when `timeout` is not set.
const TIMEOUT: Duration = Duration::from_secs(10);
const MIN_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
const SETTLE: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Most commands of one handler at a time.
const MAX_CONCURRENCY: usize = 64;

/// The registry's entry. Keys: `batch` (whether a command gets all rows that changed together,
/// default false), `command` (required; program and arguments as a list), `concurrency` (commands
/// at a time, 1 to 64, default 1; not with `batch`), `max_delay` (seconds after which a batch is
/// given however unsettled, 0.01 to 86400, default 5), `settle` (seconds without a change before a
/// batch is given, 0.01 to 86400, default 0.5), `sync_events` (whether the command is also given
/// `begin_sync` and `end_sync`, default false), `timeout` (seconds, 0.01 to 86400, default 10).
pub const MODULE: Module = Module {
    name: "exec",
    about: "runs a command for each event or batch, as JSON on its standard input",
    keys: &[
        "batch",
        "command",
        "concurrency",
        "max_delay",
        "settle",
        "sync_events",
        "timeout",
    ],
    build,
};

fn build(
    _name: &str,
    settings: &Settings,
    stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    match settings.get("batch")?.unwrap_or(false) {
        true => Ok(Box::new(batch(settings, stop)?)),
        false => Ok(Box::new(each(settings, stop)?)),
    }
}

fn runner<T>(settings: &Settings, stop: &StopToken) -> Result<Runner<T>, BuildError> {
    let command = command::required(settings)?;
    let timeout = settings.seconds("timeout", TIMEOUT, MIN_TIMEOUT, MAX_TIMEOUT)?;
    Runner::new(command, timeout, stop.clone())
}

fn each(settings: &Settings, stop: &StopToken) -> Result<Each, BuildError> {
    let runner = runner(settings, stop)?;
    let concurrency = settings.get("concurrency")?.unwrap_or(1);
    if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
        let why = format_args!("{concurrency} is not between 1 and {MAX_CONCURRENCY}");
        return Err(BuildError::setting("concurrency", why));
    }
    for key in ["settle", "max_delay"] {
        if settings.keys().any(|set| set == key) {
            settings.seconds(key, SETTLE, MIN_TIMEOUT, MAX_TIMEOUT)?;
            return Err(BuildError::setting(
                key,
                "means something only with batch = true",
            ));
        }
    }
    let sync_events = settings.get("sync_events")?.unwrap_or(false);
    Ok(Each::new(runner, concurrency, sync_events))
}

fn batch(settings: &Settings, stop: &StopToken) -> Result<Batch, BuildError> {
    let runner = runner(settings, stop)?;
    if settings.keys().any(|key| key == "concurrency") {
        let why = "means something only without batch = true";
        return Err(BuildError::setting("concurrency", why));
    }
    let settle = settings.seconds("settle", SETTLE, MIN_TIMEOUT, MAX_TIMEOUT)?;
    let max_delay =
        settings.seconds("max_delay", MAX_DELAY.max(settle), MIN_TIMEOUT, MAX_TIMEOUT)?;
    if max_delay < settle {
        return Err(BuildError::setting("max_delay", "is shorter than settle"));
    }
    let sync_events = settings.get("sync_events")?.unwrap_or(false);
    Ok(Batch::new(runner, Times { settle, max_delay }, sync_events))
}

/// Environments hold no NUL; everything else is safe in one.
fn has_nul(texts: &[&str]) -> Option<String> {
    let found = texts.iter().find(|text| text.contains('\0'))?;
    let shown = crate::util::printable::name(found, 64);
    Some(format!(
        "cannot be given to a command, it contains NUL: {shown}"
    ))
}
