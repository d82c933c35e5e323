//! `module = "socket"`: local programs attach to a unix socket.
//!
//! A client may send a filter line, is given all rows and then what changes, as JSON lines
//! (docs/handlers.md). A slow one is given the newest state of each row when it reads again, and is
//! told how many states were left out. The lane hands rows to a thread of the module's own, which
//! never waits for a client.

mod client;
mod filter;
mod listen;
mod rows;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mode::mode;
use super::{BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason, folder};
use crate::event::Event;
use crate::metrics::Counts;
use crate::util::group;
use crate::util::stop::StopToken;
use crate::util::thread::Thread;
use crate::util::users::Users;
use crate::util::waker::{Commands, bounded_channel};
use listen::Listener;
use rows::{Row, Rows};
use server::{Command, Server};

pub use server::SocketMetrics;

const MAX_CLIENTS: usize = 64;
const MOST_CLIENTS: usize = 1024;
const FILTER_WAIT: Duration = Duration::from_millis(200);
const MAX_FILTER_WAIT: Duration = Duration::from_secs(10);
/// Longest path of a unix socket, bytes.
const MAX_PATH: usize = 107;
/// Changes that may wait for the thread; it takes them as fast as it can merge them.
const QUEUE: usize = 1024;
/// How long the thread may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The registry's entry. Keys: `filter_wait` (seconds within which a client may send a filter, 0 to
/// 10, default 0.2), `group` (its members may attach, default none), `max_clients` (1 to 1024,
/// default 64), `mode` (permissions in octal, default "0660"), `path` (required; its folder must
/// exist), `users` (names or numbers of those who may attach beside root and the agent's own user;
/// default all whom mode and group let in).
pub const MODULE: Module = Module {
    name: "socket",
    about: "a unix socket where local programs get all rows and then what changes",
    keys: &[
        "filter_wait",
        "group",
        "max_clients",
        "mode",
        "path",
        "users",
    ],
    build,
};

struct Socket {
    name: String,
    path: PathBuf,
    mode: u32,
    group: Option<String>,
    users: Vec<String>,
    max_clients: usize,
    filter_wait: Duration,
    metrics: Arc<SocketMetrics>,
    /// From the first call on.
    serving: Option<Serving>,
}

struct Serving {
    commands: Commands<Command>,
    thread: Thread,
}

fn build(
    name: &str,
    settings: &Settings,
    _stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    Ok(Box::new(Socket::new(name, settings)?))
}

impl Socket {
    fn new(name: &str, settings: &Settings) -> Result<Self, BuildError> {
        let filter_wait =
            settings.seconds("filter_wait", FILTER_WAIT, Duration::ZERO, MAX_FILTER_WAIT)?;
        let group: Option<String> = settings.get("group")?;
        let users = settings.get("users")?.unwrap_or_default();
        let max_clients = settings.get("max_clients")?.unwrap_or(MAX_CLIENTS);
        if !(1..=MOST_CLIENTS).contains(&max_clients) {
            let why = format_args!("{max_clients} is not between 1 and {MOST_CLIENTS}");
            return Err(BuildError::setting("max_clients", why));
        }
        let mode = mode(settings, 0o660)?;
        let path: String = settings.require("path")?;
        let fault = |why: String| Err(BuildError::setting("path", why));
        if !path.starts_with('/') || path.contains('\0') || path.len() > MAX_PATH {
            return fault(format!(
                "{path:?} is no absolute path of at most {MAX_PATH} bytes"
            ));
        }
        let path = PathBuf::from(path);
        if path.is_dir() {
            return fault(format!("{} is a folder; name a file in it", path.display()));
        }
        folder::is_there(path.parent().unwrap_or(Path::new("/")), "path")?;
        Ok(Socket {
            name: name.to_owned(),
            path,
            mode,
            group,
            users,
            max_clients,
            filter_wait,
            metrics: Arc::default(),
            serving: None,
        })
    }

    fn tell(&mut self, command: Command) -> Result<(), HandlerError> {
        let serving = match &self.serving {
            Some(serving) => serving,
            None => {
                let started = self.start().map_err(HandlerError::Lost)?;
                self.serving.insert(started)
            }
        };
        match serving.commands.send(command) {
            true => Ok(()),
            false => Err(HandlerError::Lost("its thread has ended".into())),
        }
    }

    fn start(&self) -> Result<Serving, String> {
        let gid = match &self.group {
            None => None,
            Some(name) => {
                let gid = group::number(name).map_err(|error| format!("/etc/group: {error}"))?;
                Some(gid.ok_or_else(|| format!("there is no group {name:?}"))?)
            }
        };
        let users = Users::told(&self.users, &format!("handler {}: users", self.name))
            .map_err(|error| format!("/etc/passwd: {error}"))?;
        let listener = Listener::open(&self.path, self.mode, gid)?;
        let (commands, inbox) =
            bounded_channel(QUEUE).map_err(|error| format!("cannot make a channel: {error}"))?;
        let server = Server {
            name: self.name.clone(),
            listener,
            inbox,
            users,
            max_clients: self.max_clients,
            filter_wait: self.filter_wait,
            rows: Rows::default(),
            connections: Vec::new(),
            metrics: Arc::clone(&self.metrics),
        };
        let thread = Thread::spawn(self.name.clone(), move || server.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Serving { commands, thread })
    }

    fn end(&mut self, deadline: Instant) -> bool {
        self.serving.take().is_none_or(|mut serving| {
            serving.commands.send(Command::Stop);
            serving.thread.join_by(deadline)
        })
    }
}

impl Handler for Socket {
    fn begin_sync(&mut self, _reason: SyncReason) -> Result<(), HandlerError> {
        self.tell(Command::Begin)
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        match Row::of(event) {
            Some(row) => self.tell(Command::Row(row)),
            None => Err(HandlerError::Permanent("it is no change of a row".into())),
        }
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.tell(Command::End)
    }

    fn counts(&self) -> Option<Arc<dyn Counts>> {
        Some(Arc::clone(&self.metrics) as _)
    }

    fn close(&mut self, closing: Closing) -> Result<(), HandlerError> {
        match self.end(closing.deadline) {
            true => Ok(()),
            false => Err(HandlerError::Retry("its thread does not end".into())),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.end(Instant::now() + PATIENCE) {
            log::warn!("handler {}: its thread does not end", self.name);
        }
    }
}

#[cfg(test)]
mod tests;
