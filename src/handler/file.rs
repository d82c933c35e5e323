//! `module = "file"`: the rows as files, for programs that only want to read.
//!
//! With `path` it is one JSON file, with `folder` a file per row.

mod json_file;
mod names;
mod notify;
mod tree;

use std::time::Duration;

use super::mode::mode;
use super::{BuildError, Handler, Module, Settings, command};
use crate::util::stop::StopToken;
use json_file::JsonFile;
use notify::Notify;
use tree::Tree;

/// Seconds between two writes when `interval` is not set.
const INTERVAL: Duration = Duration::from_secs(1);
const MIN_TIME: Duration = Duration::from_millis(10);
const MAX_TIME: Duration = Duration::from_secs(86_400);
/// Longest run of the command when `notify_timeout` is not set.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The registry's entry. Keys: `folder` or `path` (one of them; while the folder around it is not there
/// the handler cannot be made), `interval` (seconds between two writes of the one file, and between two runs of `notify`, 0.01
/// to 86400, default 1), `mode` (permissions in octal, default "0644"), `notify` (a command, run
/// when something changed), `notify_timeout` (seconds, 0.01 to 86400, default 10).
pub const MODULE: Module = Module {
    name: "file",
    about: "mirrors the rows into one JSON file or a file per row, each replaced in one step",
    keys: &[
        "folder",
        "interval",
        "mode",
        "notify",
        "notify_timeout",
        "path",
    ],
    build,
};

/// What both forms have in common.
struct Common {
    interval: Duration,
    mode: u32,
    notify: Option<Notify>,
}

impl Common {
    fn new(settings: &Settings, stop: &StopToken) -> Result<Self, BuildError> {
        let interval = settings.seconds("interval", INTERVAL, MIN_TIME, MAX_TIME)?;
        let mode = mode(settings, 0o644)?;
        let timeout = settings.seconds("notify_timeout", NOTIFY_TIMEOUT, MIN_TIME, MAX_TIME)?;
        let notify = command::arguments(settings, "notify")?
            .map(|command| Notify::new(command, timeout, interval, stop.clone()))
            .transpose()?;
        Ok(Common {
            interval,
            mode,
            notify,
        })
    }
}

fn build(
    _name: &str,
    settings: &Settings,
    stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    let common = Common::new(settings, stop)?;
    let folder: Option<String> = settings.get("folder")?;
    match folder {
        None => Ok(Box::new(JsonFile::new(settings, common)?)),
        Some(_) if settings.keys().any(|key| key == "path") => {
            let why = "means something only without path: it is one file or a file per row";
            Err(BuildError::setting("folder", why))
        }
        Some(folder) => Ok(Box::new(Tree::new(&folder, common)?)),
    }
}
