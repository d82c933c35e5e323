//! The thread that owns the ROUTER socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use zmq::Message;

use super::ask::{Asked, Told};
use super::desk::{Action, Desk};
use super::door::Door;
use super::pace::{Pace, Permit};
use super::waiters::Waiter;
use super::{Command, SyncMetrics};
use crate::event::codec::Malformed;
use crate::publisher::permits::Permits;
use crate::publisher::reach::Reach;
use crate::pubsub::driver::zmq::frames::Frames;
use crate::pubsub::driver::zmq::sender::Sender as Peer;
use crate::pubsub::driver::zmq::{router, wait};
use crate::pubsub::subscriber::Received;
use crate::sync::{Request, answer, request};
use crate::util::printable;
use crate::util::pulse::Pulse;
use crate::util::rate::RateLimit;
use crate::util::waker::{Commands, Inbox};

/// Requests read before what the history says, and the stop, are looked at again.
const ROUND: usize = 64;

/// How often places, memory and connections are looked after.
const TICK: Duration = Duration::from_millis(100);

/// How often it is tried to bind the address again after all connections were cut.
const REBIND: Duration = Duration::from_millis(10);

/// The wait after an error of the socket, which has no known cause.
const BROKEN: Duration = Duration::from_millis(100);

pub(super) struct Parts {
    pub door: Door,
    pub uri: String,
    pub inbox: Inbox<Command>,
    pub commands: Arc<Commands<Command>>,
    pub asks: Sender<Asked>,
    pub desk: Desk,
    pub metrics: Arc<SyncMetrics>,
    pub pulse: Arc<Pulse>,
    pub permits: Arc<Permits>,
    pub reach: Arc<Reach>,
    pub pace: Pace,
}

impl Parts {
    /// Whether a request is to be answered; whoever asks too fast is told so or ended. Who hangs up after it has
    /// asked all the same.
    fn hears(&mut self, sender: &Peer, client: &[u8], payload: &[u8], now: Instant) -> bool {
        let here = self.door.hears(sender);
        if here {
            self.door.asked(client, sender);
        }
        let (owner, address) = (owner(sender, client), unknown(sender));
        match (self.pace.permit(owner, address, now), here) {
            (Permit::Go, here) => return here,
            (Permit::Hurried, true) => self.desk.hurried(client, request::tag(payload)),
            (Permit::Hurried, false) => {}
            (Permit::Flood, here) => {
                self.metrics.sync_hurried_total.inc();
                match here {
                    true => self.door.spurn(sender),
                    false => self.door.shun(sender),
                }
            }
        }
        false
    }
}

pub(super) struct Server {
    parts: Parts,
    frames: Frames,
    refusals: RateLimit,
    beyond: RateLimit,
    /// Requests since the connections were looked at.
    received: usize,
}

impl Server {
    pub(super) fn new(parts: Parts) -> Self {
        Server {
            parts,
            frames: Frames::new(),
            refusals: RateLimit::new(5, Duration::from_secs(60)),
            beyond: RateLimit::new(5, Duration::from_secs(60)),
            received: 0,
        }
    }

    /// Runs until [`Command::Stop`].
    pub(super) fn run(mut self) {
        let mut due = Instant::now();
        while self.take_commands() {
            // Never at rest: whoever watches it is to notice that it is gone, too.
            self.parts.pulse.beat();
            let mut quiet = false;
            for _ in 0..ROUND {
                if !self.receive() {
                    quiet = true;
                    break;
                }
                self.received += 1;
            }
            self.act();
            let now = Instant::now();
            if now >= due {
                self.parts.desk.tick(now);
                self.parts.pace.tick(now);
                self.guard(now, quiet);
                due = now
                    + if self.parts.door.is_open() {
                        TICK
                    } else {
                        REBIND
                    };
            }
            if quiet {
                self.parts.pace.idle(now);
                self.wait(due.saturating_duration_since(now));
            }
        }
        // What was not received any more is nobody's harm.
        self.police(false);
    }

    /// Hears what the history says; `false` when it is time to end.
    fn take_commands(&mut self) -> bool {
        let now = Instant::now();
        for command in self.parts.inbox.drain() {
            match command {
                Command::Told(ticket, told) => self.parts.desk.told(ticket, told, now),
                Command::Stop => return false,
                #[cfg(test)]
                Command::Break => panic!("as the test wants it"),
            }
        }
        self.act();
        true
    }

    /// Reads one request; `false` when none is waiting.
    fn receive(&mut self) -> bool {
        let Parts { door, uri, .. } = &self.parts;
        let Some(socket) = door.socket() else {
            return false;
        };
        match self.frames.receive(socket, uri) {
            Ok(Received::Message { .. }) => {}
            Ok(Received::Malformed(error)) => {
                self.refuse_frames(&error);
                return true;
            }
            Ok(Received::Nothing) => return false,
            Err(error) => {
                log::error!("{error}");
                std::thread::sleep(BROKEN);
                return false;
            }
        }
        // libzmq tells nothing of those who speak ZMTP 1 or 2, so nobody could end them.
        let Some(sender) = self.frames.sender(self.parts.door.knows()) else {
            self.parts.metrics.sync_refused_total.inc();
            return true;
        };
        let now = Instant::now();
        let (client, payload) = self.frames.message();
        if !self.parts.hears(&sender, client, payload, now) {
            return true;
        }
        match request::decode(payload) {
            Ok((tag, request)) => {
                self.check_reach(&request, &sender, now);
                let Parts { desk, permits, .. } = &mut self.parts;
                match granted(permits, sender.node.as_deref(), request) {
                    Some(granted) => {
                        let waiter = Waiter {
                            client: client.into(),
                            owner: owner(&sender, client).into(),
                            address: unknown(&sender),
                            tag,
                        };
                        desk.request(waiter, granted, now);
                    }
                    None => desk.forbid(client, tag),
                }
            }
            Err(error) => {
                self.complain(error, now);
                self.parts.desk.malformed(client, error);
            }
        }
        true
    }

    /// Says so where who asks has more than there is.
    fn check_reach(&self, request: &Request, sender: &Peer, now: Instant) {
        let Some((incarnation, seq)) = furthest(request) else {
            return;
        };
        let Parts { reach, metrics, .. } = &self.parts;
        let Some(last) = reach.falls_short(incarnation, seq) else {
            return;
        };
        metrics.sync_beyond_total.inc();
        if let Some(permit) = self.beyond.permit(now) {
            let who = who(sender.node.as_deref(), sender.address);
            log::error!(
                "{who} has events up to {seq} of incarnation {incarnation}, of which the last here is {last}: \
                 this state is older than what was sent (was a backup written over it in place?), or the \
                 node lies{permit}"
            );
        }
    }

    /// A message of one frame, or of too many. It gets no answer: there is no tag to answer with.
    fn refuse_frames(&mut self, error: &Malformed) {
        let Some(sender) = self.frames.sender(self.parts.door.knows()) else {
            self.parts.metrics.sync_refused_total.inc();
            return;
        };
        let Parts {
            door,
            pace,
            metrics,
            ..
        } = &mut self.parts;
        let here = door.hears(&sender);
        let node = sender.node.as_deref();
        let fd = sender.fd.to_be_bytes();
        let now = Instant::now();
        metrics.sync_refused_total.add(here.into());
        let owner = node.map_or(&fd[..], str::as_bytes);
        match (pace.permit(owner, unknown(&sender), now), here) {
            (Permit::Flood, true) => door.spurn(&sender),
            (Permit::Flood, false) => door.shun(&sender),
            (Permit::Go | Permit::Hurried, true) => self.complain(error, now),
            (Permit::Go | Permit::Hurried, false) => {}
        }
    }

    /// Keeps out who is to be kept out.
    fn guard(&mut self, now: Instant, quiet: bool) {
        self.police(quiet);
        if let Err(error) = self.parts.door.obey()
            && let Some(permit) = self.refusals.permit(now)
        {
            log::error!("{error}{permit}");
        }
    }

    /// Ends who does harm, and counts; whether every request that waited was received.
    fn police(&mut self, all: bool) {
        let received = std::mem::take(&mut self.received);
        let Parts { door, metrics, .. } = &mut self.parts;
        match door.police(received, all) {
            Ok(peers) => {
                metrics.sync_connections.set(peers.open);
                metrics.sync_handshakes_refused_total.add(peers.refused);
                metrics.sync_connections_crowded_total.add(peers.crowded);
                metrics.sync_connections_unruly_total.add(peers.unruly);
                metrics.sync_connections_unclear_total.add(peers.unclear);
                metrics.sync_connections_stuck_total.add(peers.stuck);
                metrics.sync_connections_unread_total.add(peers.unread);
                metrics.sync_unread_bytes.set(door.unread() as u64);
                metrics.sync_connections_kept_out_total.add(peers.kept_out);
                metrics.sync_addresses_kept_out_total.add(peers.cast_out);
            }
            Err(error) => log::debug!("{error}"),
        }
    }

    fn complain(&self, error: impl std::fmt::Display, now: Instant) {
        if let Some(permit) = self.refusals.permit(now) {
            log::warn!("a sync client sent what is no request: {error}{permit}");
        }
    }

    /// Does what the desk says.
    fn act(&mut self) {
        loop {
            let actions = self.parts.desk.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Send(client, tag, body) => self.send(&client, tag, &body),
                    Action::Ask(ticket, ask) => {
                        let to = Arc::clone(&self.parts.commands);
                        let asked = Asked { ticket, ask, to };
                        if self.parts.asks.send(asked).is_err() {
                            // The history's thread has ended, and this one is about to.
                            let now = Instant::now();
                            self.parts.desk.told(ticket, Told::Broken, now);
                        }
                    }
                }
            }
        }
    }

    /// Sends an answer without waiting for anybody: a client that is gone or does not read loses it,
    /// and asks again when it comes back.
    fn send(&mut self, client: &[u8], tag: u64, body: &[u8]) {
        let Parts {
            door,
            desk,
            metrics,
            ..
        } = &mut self.parts;
        if !door.has_room(client, body.len()) {
            metrics.sync_answers_withheld_total.inc();
            desk.unread(client, tag);
            return;
        }
        let mut message = Message::from(body);
        answer::set_tag(tag, &mut message);
        // Without a socket nobody is there any more.
        let gone = Err(zmq::Error::EHOSTUNREACH);
        let sent = door
            .socket()
            .map_or(gone, |socket| router::send(socket, client, message));
        match sent {
            Ok(()) => {
                metrics.sync_answers_total.inc();
                metrics.sync_sent_bytes_total.add(body.len() as u64);
                door.sent(client, body.len());
            }
            Err(error) => {
                metrics.sync_answers_lost_total.inc();
                log::debug!("an answer is lost: {error}");
                if error == zmq::Error::EHOSTUNREACH {
                    desk.gone(client);
                }
            }
        }
    }

    fn wait(&self, time: Duration) {
        let Parts {
            door, inbox, uri, ..
        } = &self.parts;
        let Some(socket) = door.socket() else {
            // Soon there is another.
            return std::thread::sleep(REBIND);
        };
        if let Err(error) = wait(socket, None, inbox.fd(), Some(time), uri) {
            log::error!("{error}");
            std::thread::sleep(BROKEN);
        }
    }
}

/// Whose pace and places a request counts for: a node's, whatever it calls its connections and whatever it
/// asks; where nobody is known, the connection's.
fn owner<'a>(sender: &'a Peer, client: &'a [u8]) -> &'a [u8] {
    sender.node.as_deref().map_or(client, str::as_bytes)
}

/// Where somebody asks from of whom nothing else is known.
fn unknown(sender: &Peer) -> Option<IpAddr> {
    sender.address.filter(|_| sender.node.is_none())
}

/// The furthest position that who asks says it has.
fn furthest(request: &Request) -> Option<(u64, u64)> {
    match request {
        Request::Heads {
            incarnation,
            topics,
        } => Some((*incarnation, topics.iter().map(|(_, seq)| *seq).max()?)),
        Request::Replay {
            incarnation, after, ..
        } => Some((*incarnation, *after)),
        Request::Topics { .. } | Request::Snapshot { .. } => None,
    }
}

/// Who asks, for the log.
fn who(node: Option<&str>, address: Option<IpAddr>) -> String {
    match (node, address) {
        (Some(node), _) => format!("node {}", printable::name(node, 64)),
        (None, Some(address)) => format!("an agent at {address}"),
        (None, None) => "an agent".to_owned(),
    }
}

/// What of a request the node may ask, and the topics in it that it may not have; `None`: nothing.
fn granted(
    permits: &Permits,
    node: Option<&str>,
    request: Request,
) -> Option<(Request, Vec<(String, u64)>)> {
    let (_, grants) = permits.current();
    match request {
        Request::Heads {
            incarnation,
            topics,
        } => {
            let may = |(topic, _): &(String, u64)| permits.request(&grants, node, topic);
            let (topics, forbidden): (Vec<_>, Vec<_>) = topics.into_iter().partition(may);
            let some = !topics.is_empty() || forbidden.is_empty();
            let request = Request::Heads {
                incarnation,
                topics,
            };
            some.then_some((request, forbidden))
        }
        // Names of topics are for those who may have all of them.
        Request::Topics { .. } => permits
            .request(&grants, node, "")
            .then_some((request, Vec::new())),
        Request::Replay { ref topic, .. } | Request::Snapshot { ref topic, .. } => {
            let may = permits.request(&grants, node, topic);
            may.then_some((request, Vec::new()))
        }
    }
}
