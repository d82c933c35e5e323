//! The thread that owns the ROUTER socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use zmq::Socket;

use super::desk::Desk;
use super::reply_to::{Command, ReplyTo, Waiting};
use super::{RequestMetrics, Submitted};
use crate::publisher::submit::{Reply, SubmitError};
use crate::pubsub::driver::zmq::bound::Bound;
use crate::pubsub::driver::zmq::frames::Frames;
use crate::pubsub::driver::zmq::{router, wait};
use crate::pubsub::subscriber::Received;
use crate::util::poll;
use crate::util::pulse::Pulse;
use crate::util::rate::RateLimit;
use crate::util::waker::{Commands, Inbox};

/// Messages read before answers and the stop are looked at again.
const ROUND: usize = 64;

/// How soon the service's channel is tried again while it is full and no answer rings the bell.
const FULL: Duration = Duration::from_millis(2);

/// How often it is looked who was turned away; and a sign of life is given.
const LOOK: Duration = Duration::from_millis(500);

/// The wait after an error of the socket, which has no known cause.
const BROKEN: Duration = Duration::from_millis(100);

pub(super) struct Parts {
    /// Open; watched where not everybody may connect.
    pub bound: Bound,
    pub uri: String,
    pub inbox: Inbox<Command>,
    pub commands: Arc<Commands<Command>>,
    pub sink: Sender<Submitted>,
    pub desk: Desk,
    pub max_waiting: usize,
    pub metrics: Arc<RequestMetrics>,
    pub pulse: Arc<Pulse>,
}

pub(super) struct Server {
    parts: Parts,
    frames: Frames,
    /// What the service had no room for.
    held: Option<Submitted>,
    /// Bytes of requests that await an answer.
    waiting: Arc<AtomicUsize>,
    out: Vec<u8>,
    lines: RateLimit,
}

impl Server {
    pub fn new(parts: Parts) -> Self {
        Server {
            parts,
            frames: Frames::new(),
            held: None,
            waiting: Arc::default(),
            out: Vec::new(),
            lines: RateLimit::new(5, Duration::from_secs(60)),
        }
    }

    /// Runs until [`Command::Stop`].
    pub fn run(mut self) {
        while self.take_commands() {
            // Never at rest: whoever watches it is to notice that it is gone, too.
            self.parts.pulse.beat();
            let mut reading = self.has_room();
            for _ in 0..ROUND {
                if !reading || !self.receive() {
                    break;
                }
                reading = self.has_room();
            }
            self.look();
            self.wait(reading);
        }
    }

    /// Looks who was turned away.
    fn look(&mut self) {
        let Parts {
            bound,
            metrics,
            uri,
            ..
        } = &mut self.parts;
        let Some(watch) = bound.watch() else { return };
        if let Err(error) = watch.look() {
            log::error!("{error}");
        }
        watch.take_gone();
        let refused = watch.take().refused;
        metrics.request_connections_refused_total.add(refused);
        if refused > 0
            && let Some(permit) = self.lines.permit(Instant::now())
        {
            log::warn!(
                "{uri}: {refused} connections not taken, of users who are not in \
                 socket_users{permit}"
            );
        }
    }

    /// Sends the answers that were given; `false` when it is time to end.
    fn take_commands(&mut self) -> bool {
        let Parts {
            bound,
            inbox,
            metrics,
            ..
        } = &mut self.parts;
        let Some(socket) = bound.socket() else {
            return false;
        };
        for command in inbox.drain() {
            match command {
                Command::Answer(client, answer) => {
                    answer.encode(&mut self.out);
                    send(socket, metrics, &client, &self.out);
                }
                Command::Stop => return false,
                #[cfg(test)]
                Command::Break => panic!("as the test wants it"),
            }
        }
        true
    }

    /// Whether another request may be read.
    fn has_room(&mut self) -> bool {
        if let Some(submitted) = self.held.take() {
            self.hand_on(submitted);
        }
        self.held.is_none() && self.waiting.load(Ordering::Relaxed) < self.parts.max_waiting
    }

    fn hand_on(&mut self, submitted: Submitted) {
        match self.parts.sink.try_send(submitted) {
            Ok(()) => self.parts.metrics.requests_total.inc(),
            Err(TrySendError::Full(submitted)) => self.held = Some(submitted),
            Err(TrySendError::Disconnected(submitted)) => submitted.reply.send(Reply::Busy {
                retry_after_ms: 500,
                reason: "the service is stopping".into(),
            }),
        }
    }

    /// Reads one message; `false` when none is waiting.
    fn receive(&mut self) -> bool {
        let Parts {
            bound,
            desk,
            uri,
            metrics,
            ..
        } = &self.parts;
        let Some(socket) = bound.socket() else {
            return false;
        };
        let (client, payload) = match self.frames.receive(socket, uri) {
            Ok(Received::Message { topic, payload }) => (topic, payload),
            Ok(Received::Malformed(_)) => {
                // Whose it was is not known any more, so it gets no answer.
                desk.malformed(&[], SubmitError::FrameCount);
                return true;
            }
            Ok(Received::Nothing) => return false,
            Err(error) => {
                log::error!("{error}");
                std::thread::sleep(BROKEN);
                return false;
            }
        };
        match desk.take(payload) {
            Err(answer) => {
                answer.encode(&mut self.out);
                send(socket, metrics, client, &self.out);
            }
            Ok(taken) => {
                let reply = ReplyTo {
                    commands: Arc::clone(&self.parts.commands),
                    client: client.into(),
                    tag: taken.head.tag,
                    first: taken.head.first,
                    refused: taken.refused,
                    waiting: Waiting::new(&self.waiting, taken.events.bytes()),
                };
                let submitted = Submitted {
                    producer: taken.head.producer,
                    floor: taken.head.floor,
                    first: taken.head.first,
                    events: taken.events,
                    versions: taken.versions,
                    reply,
                };
                self.hand_on(submitted);
            }
        }
        true
    }

    fn wait(&self, reading: bool) {
        let Parts {
            bound, inbox, uri, ..
        } = &self.parts;
        let waited = match bound.socket().filter(|_| reading) {
            Some(socket) => {
                wait(socket, None, inbox.fd(), Some(LOOK), uri).map_err(|error| error.to_string())
            }
            None => poll::readable([inbox.fd()], Some(FULL))
                .map(drop)
                .map_err(|error| error.to_string()),
        };
        if let Err(error) = waited {
            log::error!("{error}");
            std::thread::sleep(BROKEN);
        }
    }
}

/// Sends an answer without waiting for anybody: a client that is gone or does not read loses it,
/// and asks again when it comes back.
fn send(socket: &Socket, metrics: &RequestMetrics, client: &[u8], answer: &[u8]) {
    match router::send(socket, client, answer) {
        Ok(()) => metrics.replies_total.inc(),
        Err(error) => {
            metrics.replies_lost_total.inc();
            log::debug!("an answer is lost: {error}");
        }
    }
}
