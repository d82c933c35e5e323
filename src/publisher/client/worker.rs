//! The client's thread: owns the connection, sends what the window gives, takes the answers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::link::Link;
use super::shared::Shared;
use crate::pubsub::PubSubError;
use crate::pubsub::subscriber::Signal;
use crate::util::backoff::Backoff;
use crate::util::poll;
use crate::util::rate::RateLimit;
use crate::util::waker::Inbox;

/// Waits between attempts to connect: short, because it is the same host and its service restarts
/// in little time.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Time for a connection to be made, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Log lines about the connection.
const LINES: u32 = 6;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

/// Answers taken before the window is looked at again.
const ROUND: usize = 64;

enum State {
    /// No connection; an attempt from then on.
    Down(Instant),
    /// An attempt that has until then.
    Opening(Link, Instant),
    Up(Link),
}

pub(super) struct Worker {
    context: zmq::Context,
    uri: String,
    shared: Arc<Shared>,
    inbox: Inbox<()>,
    state: State,
    backoff: Backoff,
    lines: RateLimit,
    out: Vec<u8>,
}

impl Worker {
    pub fn new(
        context: zmq::Context,
        socket: &Path,
        shared: Arc<Shared>,
        inbox: Inbox<()>,
    ) -> Self {
        Worker {
            context,
            uri: format!("ipc://{}", socket.display()),
            shared,
            inbox,
            state: State::Down(Instant::now()),
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, Rng::new()),
            lines: RateLimit::new(LINES, LINES_INTERVAL),
            out: Vec::new(),
        }
    }

    /// Runs until the client is closed.
    pub fn run(mut self) {
        loop {
            // The bell only wakes; what is to be done stands in the window.
            self.inbox.drain().for_each(drop);
            // After the bell is silenced, so that closing is not overlooked.
            if self.shared.lock().closing {
                return;
            }
            let done = self
                .signals()
                .and_then(|()| self.answers())
                .and_then(|()| self.send());
            match done {
                Ok(Some(until)) => self.sleep(until),
                Ok(None) => {}
                Err(error) => self.lost(&error.to_string()),
            }
        }
    }

    /// Takes what has become of the connection.
    fn signals(&mut self) -> Result<(), PubSubError> {
        loop {
            let now = Instant::now();
            let signal = match &mut self.state {
                State::Down(_) => return Ok(()),
                State::Opening(link, until) => match link.signal()? {
                    None if now >= *until => Signal::ConnectFailed("no handshake".into()),
                    None => return Ok(()),
                    Some(signal) => signal,
                },
                State::Up(link) => match link.signal()? {
                    None => return Ok(()),
                    Some(signal) => signal,
                },
            };
            match signal {
                Signal::Up => self.connected(),
                Signal::Down => self.lost("the connection was lost"),
                Signal::ConnectFailed(why) | Signal::BrokenOff(why) | Signal::Refused(why) => {
                    self.lost(&why);
                }
                // Only of sockets that are bound.
                Signal::TurnedAway(_) => {}
            }
        }
    }

    fn connected(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Down(Instant::now())) {
            State::Opening(link, _) => State::Up(link),
            other => other,
        };
        log::debug!("connected to {}", self.uri);
        let mut state = self.shared.lock();
        state.trouble = None;
        state.window.rewind();
    }

    /// Gives up the connection; what is not acknowledged will be sent again.
    fn lost(&mut self, why: &str) {
        let now = Instant::now();
        self.state = State::Down(now + self.backoff.wait());
        let trouble = format!("no publisher service at {}: {why}", self.uri);
        self.complain(&trouble);
        let mut state = self.shared.lock();
        state.window.rewind();
        state.trouble = Some(trouble);
    }

    fn complain(&self, trouble: &str) {
        if let Some(permit) = self.lines.permit(Instant::now()) {
            log::warn!("{trouble}{permit}");
        }
    }

    fn answers(&mut self) -> Result<(), PubSubError> {
        let mut settled = false;
        for _ in 0..ROUND {
            let State::Up(link) = &mut self.state else {
                break;
            };
            let answer = match link.receive()? {
                None => break,
                Some(Ok(answer)) => answer,
                Some(Err(error)) => {
                    self.complain(&format!("{} sent what is no answer: {error}", self.uri));
                    continue;
                }
            };
            let mut state = self.shared.lock();
            let effect = state.window.answer(answer, Instant::now());
            self.shared.add_refusals(&mut state, effect.refused);
            if effect.progress {
                settled = true;
                state.trouble = None;
            }
            state.trouble = effect.trouble.clone().or(state.trouble.take());
            drop(state);
            if effect.progress {
                self.backoff.reset();
            }
            if let Some(trouble) = effect.trouble {
                self.complain(&trouble);
            }
        }
        if settled {
            self.shared.notify();
        }
        Ok(())
    }

    /// Sends what may be sent. Gives until when to sleep, `Some(None)` being without end, or `None`
    /// when there is more to do.
    fn send(&mut self) -> Result<Option<Option<Instant>>, PubSubError> {
        let now = Instant::now();
        match &self.state {
            State::Down(from) => {
                let mut state = self.shared.lock();
                if state.window.is_empty() {
                    state.wants_bell = true;
                    return Ok(Some(None));
                }
                drop(state);
                if now < *from {
                    return Ok(Some(Some(*from)));
                }
                let link = Link::open(&self.context, &self.uri)?;
                self.state = State::Opening(link, now + CONNECT_TIMEOUT);
                Ok(None)
            }
            State::Opening(_, until) => Ok(Some(Some(*until))),
            State::Up(link) => loop {
                let mut state = self.shared.lock();
                if state.window.timed_out(now) {
                    drop(state);
                    self.lost("it does not answer");
                    return Ok(None);
                }
                if !state.window.request(now, &mut self.out) {
                    state.wants_bell = state.window.is_open(now);
                    return Ok(Some(state.window.deadline()));
                }
                drop(state);
                if !link.send(&self.out)? {
                    self.lost("it takes nothing");
                    return Ok(None);
                }
            },
        }
    }

    fn sleep(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wake = self.inbox.fd();
        let slept = match &self.state {
            State::Down(_) => poll::readable([wake], timeout)
                .map(drop)
                .map_err(|error| error.to_string()),
            State::Opening(link, _) | State::Up(link) => {
                link.wait(wake, timeout).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = slept {
            self.lost(&error);
        }
    }
}
