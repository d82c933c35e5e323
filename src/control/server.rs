//! The daemon's side of the control socket.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::desk::Desk;
use super::reply::{Code, Greeting, Refusal, Reply, line};
use super::session::Session;
use super::{MAX_CLIENTS, PROTOCOL, socket_path};
use crate::util::group;
use crate::util::lock_file::{LockError, LockFile};
use crate::util::rate::RateLimit;
use crate::util::serve::{Server, Service};
use crate::util::users::Users;

crate::metrics! {
    /// What the control socket counts.
    pub struct ControlMetrics {
        requests_total: Counter = "Requests of operators' tools.",
        requests_malformed_total: Counter = "Lines that are no request; answered and dropped.",
        clients_total: Counter = "Connections of operators' tools.",
        clients_refused_total: Counter = "Connections refused because there were too many.",
        clients_forbidden_total: Counter = "Connections refused because their users may not use the socket.",
        clients_dropped_total: Counter = "Connections ended because the tool neither read nor asked for too long.",
    }
}

/// Which control socket.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder it is made in; made itself where it is missing.
    pub run_dir: PathBuf,
    /// Which daemon this is: `agent` or `publisher`.
    pub daemon: &'static str,
    /// The group whose members may use it beside the daemon's user.
    pub group: String,
    /// Which users may, where not all of that group.
    pub users: Users,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon of this kind has the folder; stop it, or give this one a `run_dir` of its own.
    #[error("{0}; two daemons of one kind need a run_dir each")]
    InUse(LockError),
    /// The folder or the socket cannot be made; the path and the system's reason.
    #[error("cannot make the control socket {}: {error}", path.display())]
    System {
        /// What could not be made.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

/// An open control socket. Dropping it removes the socket, cuts every client off and waits for
/// their threads.
#[derive(Debug)]
pub struct Control {
    // In this order: clients end before the path is free for another daemon.
    _server: Server,
    _path: Bound,
    _lock: LockFile,
    path: PathBuf,
    /// What it counts.
    pub metrics: Arc<ControlMetrics>,
}

/// Removes the socket's path.
#[derive(Debug)]
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!("{} not removed: {error}", self.0.display());
        }
    }
}

impl Control {
    /// Opens the socket and serves clients. A path that a dead daemon left is replaced; that of a
    /// living one never is, because of the lock beside it.
    pub fn open(
        options: &Options,
        metrics: Arc<ControlMetrics>,
        desk: Arc<dyn Desk>,
    ) -> Result<Self, ControlError> {
        let path = socket_path(&options.run_dir, options.daemon);
        let failed = |error: io::Error| ControlError::System {
            path: path.clone(),
            error,
        };
        group::folder(&options.run_dir, Some(&options.group)).map_err(failed)?;
        let lock = LockFile::acquire(&beside(&path, ".lock")).map_err(|error| match error {
            LockError::Held { .. } => ControlError::InUse(error),
            LockError::System { path, error } => ControlError::System { path, error },
        })?;
        let listener = bind(&path, &options.group).map_err(failed)?;
        let path_kept = Bound(path.clone());
        let host = Host {
            greeting: Greeting {
                fanfare: options.daemon.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                protocol: PROTOCOL,
            },
            desk,
            metrics: Arc::clone(&metrics),
            users: options.users.clone(),
            lines: RateLimit::new(5, Duration::from_secs(60)),
        };
        let server =
            Server::start("control", listener, MAX_CLIENTS, Arc::new(host)).map_err(failed)?;
        Ok(Control {
            _server: server,
            _path: path_kept,
            _lock: lock,
            path,
            metrics,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds a path beside the real one and moves it there when its mode is right: nobody can connect
/// before, and what a dead daemon left is replaced in the same step.
fn bind(path: &Path, group: &str) -> io::Result<UnixListener> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    group::share(&new, Some(group), path.display())?;
    fs::rename(&new, path)?;
    Ok(listener)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

struct Host {
    greeting: Greeting,
    desk: Arc<dyn Desk>,
    metrics: Arc<ControlMetrics>,
    users: Users,
    lines: RateLimit,
}

impl Host {
    /// Tells a client that it is not served. Must not wait.
    fn turn_away(&self, mut stream: &UnixStream, refusal: Refusal) {
        let told = [line(&self.greeting), line(&Reply::Failed(refusal))].concat();
        // A new connection has room for it; one that has not is cut all the same.
        if let Err(error) = stream
            .set_nonblocking(true)
            .and_then(|()| stream.write_all(&told))
        {
            log::debug!("a client of the control socket is refused and not told: {error}");
        }
    }
}

impl Service<UnixStream> for Host {
    fn serve(&self, stream: &UnixStream) {
        if let Err(user) = self.users.admit(stream) {
            self.metrics.clients_forbidden_total.inc();
            let user = user.map_or_else(|| "?".to_owned(), |user| user.to_string());
            if let Some(permit) = self.lines.permit(Instant::now()) {
                log::warn!("control socket: user {user} is not in socket_users: refused{permit}");
            }
            let why = format_args!("user {user} may not use this socket (socket_users)");
            return self.turn_away(stream, Refusal::new(Code::Forbidden, why));
        }
        self.metrics.clients_total.inc();
        match Session::new(stream, &*self.desk, &self.metrics) {
            Ok(mut session) => session.run(&self.greeting),
            Err(error) => log::error!("a client of the control socket is not served: {error}"),
        }
    }

    fn refuse(&self, stream: &UnixStream) {
        self.metrics.clients_refused_total.inc();
        let why = format_args!("{MAX_CLIENTS} clients are connected already");
        self.turn_away(stream, Refusal::new(Code::Busy, why));
    }
}

#[cfg(test)]
mod tests;
