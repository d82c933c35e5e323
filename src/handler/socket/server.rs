//! The thread that serves the clients: it owns the rows, the socket and every client's connection.
//! Nothing in it waits but one `poll`.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::client::{Client, refusal};
use super::listen::Listener;
use super::rows::{Row, Rows};
use crate::handler::command::process::wait;
use crate::util::rate::RateLimit;
use crate::util::users::Users;
use crate::util::waker::Inbox;

/// How long nobody is accepted after that failed, as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep; nothing depends on it.
const LONG: Duration = Duration::from_secs(3600);
/// Reads from one client before the others are looked at again.
const MAX_READS: usize = 4;
/// Lines of the log about clients that come and go.
const LOG_LINES: u32 = 20;
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the handler tells the thread.
#[derive(Debug)]
pub(super) enum Command {
    Begin,
    Row(Row),
    End,
    Stop,
}

crate::metrics! {
    /// What a socket counts.
    pub struct SocketMetrics {
        clients: Gauge = "Clients that are attached.",
        clients_total: Counter = "Clients that were attached.",
        clients_refused_total: Counter = "Clients that were refused: too many, or a faulty filter.",
        clients_forbidden_total: Counter = "Clients that were refused because their users may not attach.",
        clients_restarted_total: Counter = "Times slow clients were to be given all rows anew, because more had changed than there are rows.",
        states_skipped_total: Counter = "States that slow clients were not given because newer ones followed.",
    }
}

pub(super) struct Server {
    pub name: String,
    pub listener: Listener,
    pub inbox: Inbox<Command>,
    pub users: Users,
    pub max_clients: usize,
    pub filter_wait: Duration,
    pub rows: Rows,
    pub connections: Vec<Connection>,
    pub metrics: Arc<SocketMetrics>,
}

/// One client with its stream.
pub(super) struct Connection {
    stream: UnixStream,
    client: Client,
    /// It may still send.
    reads: bool,
    over: bool,
}

impl Server {
    /// Serves until told to stop.
    pub fn run(mut self) {
        let limit = RateLimit::new(LOG_LINES, LOG_INTERVAL);
        let foreign = RateLimit::new(LOG_LINES, LOG_INTERVAL);
        let mut accept_from = Instant::now();
        loop {
            let ready = match self.wait(accept_from) {
                Ok(ready) => ready,
                Err(error) => {
                    log::error!(
                        "handler {}: cannot wait for its clients: {error}",
                        self.name
                    );
                    return;
                }
            };
            let go_on = self.obey();
            if ready && self.accept(&foreign).is_err() {
                accept_from = Instant::now() + ACCEPT_PAUSE;
            }
            let now = Instant::now();
            for connection in &mut self.connections {
                connection.serve(&self.rows, now);
            }
            self.part(&limit);
            if !go_on {
                return;
            }
        }
    }

    /// Waits until there is something to do; says whether clients wait to be accepted.
    fn wait(&self, accept_from: Instant) -> io::Result<bool> {
        let now = Instant::now();
        let deadlines = self.connections.iter().filter_map(|c| c.client.deadline());
        let paused = (accept_from > now).then_some(accept_from);
        let until = deadlines.chain(paused).min().unwrap_or(now + LONG);
        let mut watched = vec![PollFd::from_borrowed_fd(self.inbox.fd(), PollFlags::IN)];
        watched.extend(self.connections.iter().map(Connection::watched));
        if paused.is_none() {
            watched.push(PollFd::new(&self.listener.socket, PollFlags::IN));
        }
        match wait(&mut watched, until) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => {
                let last = watched.last().filter(|_| paused.is_none());
                Ok(last.is_some_and(|fd| !fd.revents().is_empty()))
            }
        }
    }

    /// Takes what the handler says; `false` when it says stop.
    fn obey(&mut self) -> bool {
        for command in self.inbox.drain() {
            let changes = match command {
                Command::Begin => {
                    self.rows.begin();
                    continue;
                }
                Command::Row(row) => self.rows.apply(row).into_iter().collect(),
                Command::End => self.rows.end(),
                Command::Stop => return false,
            };
            for change in changes {
                for connection in &mut self.connections {
                    if connection.client.offer(&change, self.rows.len()) {
                        self.metrics.clients_restarted_total.inc();
                    }
                }
            }
        }
        true
    }

    fn accept(&mut self, foreign: &RateLimit) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::warn!("handler {}: cannot accept a client: {error}", self.name);
                    return Err(error);
                }
            };
            stream.set_nonblocking(true)?;
            if let Err(user) = self.users.admit(&stream) {
                self.metrics.clients_forbidden_total.inc();
                let user = user.map_or_else(|| "?".to_owned(), |user| user.to_string());
                if let Some(permit) = foreign.permit(Instant::now()) {
                    log::warn!(
                        "handler {}: user {user} may not attach: refused{permit}",
                        self.name
                    );
                }
                let why = refusal(&format!("user {user} may not attach"));
                let _ = writeln!(stream, "{why}");
                continue;
            }
            if self.connections.len() >= self.max_clients {
                self.metrics.clients_refused_total.inc();
                let why = refusal(&format!(
                    "{} clients are attached already",
                    self.max_clients
                ));
                // It has just connected, so there is room for a line; if not, it sees the end.
                let _ = writeln!(stream, "{why}");
                continue;
            }
            self.metrics.clients_total.inc();
            self.connections.push(Connection {
                stream,
                client: Client::new(&self.name, Instant::now(), self.filter_wait),
                reads: true,
                over: false,
            });
        }
    }

    /// Takes leave of clients that are gone or refused.
    fn part(&mut self, limit: &RateLimit) {
        let (name, metrics) = (&self.name, &self.metrics);
        self.connections.retain(|connection| {
            let client = &connection.client;
            if client.is_refused() {
                metrics.clients_refused_total.inc();
            } else if !connection.over {
                return true;
            }
            metrics.states_skipped_total.add(client.skipped());
            if let Some(permit) = limit.permit(Instant::now()) {
                log::info!(
                    "handler {name}: a client has left, {} states were left out for it{permit}",
                    client.skipped()
                );
            }
            false
        });
        self.metrics.clients.set(self.connections.len() as u64);
    }
}

impl Connection {
    fn watched(&self) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.reads);
        flags.set(PollFlags::OUT, !self.client.output().is_empty());
        PollFd::from_borrowed_fd(self.stream.as_fd(), flags)
    }

    /// Reads, writes and makes output until nothing more can be done without waiting.
    fn serve(&mut self, rows: &Rows, now: Instant) {
        self.read();
        self.client.tick(now);
        loop {
            self.client.fill(rows);
            if self.client.output().is_empty() || !self.write() {
                break;
            }
        }
        // Without reading and writing, its end is seen only so.
        if !self.reads && self.client.output().is_empty() {
            let mut watched = [PollFd::new(&self.stream, PollFlags::empty())];
            self.over |= wait(&mut watched, now).is_err() || !watched[0].revents().is_empty();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..MAX_READS {
            if !self.reads {
                return;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    // It may have closed only its own direction, as `echo | nc -U` does.
                    self.client.input_ended();
                    self.reads = false;
                }
                Ok(n) => self.client.input(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => (self.reads, self.over) = (false, true),
            }
        }
    }

    /// Whether everything was written.
    fn write(&mut self) -> bool {
        while !self.client.output().is_empty() {
            match self.stream.write(self.client.output()) {
                Ok(n) => self.client.wrote(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.over = true;
                    return false;
                }
            }
        }
        true
    }
}
