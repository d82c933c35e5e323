//! The connections of a socket that is bound: which are open, and when one has ended.
//!
//! libzmq names a connection by its descriptor: in the events of a socket's monitor, and in what a
//! peer sends. Descriptors are used again; so what a peer sent is taken for that of a connection
//! that is open only if it was admitted after the last one with that descriptor had ended
//! ([`Watch::is_over`]). libzmq reports the end of a connection before it lets go of anything of it. Which
//! admission was whose is known once something came with its number; of one that ends before, it may be any
//! up to the latest. Only of one that has not got through its handshake nothing can be late: where nobody did since
//! it came, or where libzmq says in the same breath that a handshake broke off and that it has ended. A breach
//! of the rules may come after the handshake too; and whoever is refused stays connected for a while.
//!
//! # How a connection is ended
//!
//! libzmq stops reading from a connection whose messages have no room. If the system then reports that
//! the connection is broken, libzmq keeps what it has read until there is room; and if a PING is in that, it
//! wants to answer, and ends the process: 4.3.4 asserts `!_io_error`, and so do later ones. Any peer could
//! have that, by a reset after a burst; and so could whoever is ended in the middle of one. So on tcp
//! no connection is reported broken while something of it may wait:
//!
//! * resets are not heard ([`filter`]); a peer that has gone without a word is given up when
//!   nothing of it was heard for long ([`super::give_up_lifeless`]);
//! * whoever takes nothing of what is sent to it is ended before the system gives it up;
//! * whoever is ended here is first not heard any more, and sees the end ([`tcp::deafen`]); libzmq is told
//!   when everything that had come was read.
//!
//! # Who is kept out
//!
//! Where peers prove nothing, whoever was ended for harm comes again at once, and to end one takes time and
//! memory. So its address is cast out for a while ([`Outcasts`]): its other connections are ended, and the
//! system throws away what asks for new ones. Those that it had accepted before are ended here.
//!
//! Where peers have keys it is their node, which the gate refuses for a while ([`Admitted`]).

mod exile;
mod outcasts;
mod parting;
mod place;
mod places;

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::monitor::{
    ACCEPTED, BREACH, BROKE_OFF, CONNECTED_WITH_HANDSHAKE, LISTENING, LOST, Monitor, NOT_ACCEPTED,
    REFUSED,
};
use super::sender::Sender;
use super::unended::pace;
use super::{filter, tcp};
use crate::pubsub::api::{PeerCounts, PeerRules, PubSubError};
use crate::security::admission;
use crate::security::admitted::Admitted;
use crate::util::printable;
use crate::util::rate::RateLimit;

use self::exile::Exile;
use self::parting::Parting;
use self::place::Heard;
use self::places::Places;
pub use self::places::Standing;

/// How long it is waited for everything to be received before messages without end are looked for.
const UNREAD: Duration = Duration::from_secs(5);

/// What libzmq gives as the reason of a handshake that broke off because nobody answers for the gate: `EFAULT`.
const NOBODY_ADMITS: u32 = 14;

/// What libzmq reads ahead of a connection, and sends beside a message of it: of 8 KiB, and handshakes.
const AHEAD: u64 = 64 << 10;

/// Why somebody is kept out.
const SENDS: &str = "it sends what no agent sends: no subscription, too many, or messages, changes or requests \
                     without end";

/// Watches a socket that is bound. To be looked at often, by the socket's owner.
pub struct Watch {
    monitor: Monitor,
    places: Places,
    rules: PeerRules,
    /// The port that it is bound to, on tcp.
    port: Option<u16>,
    /// Where peers prove who they are.
    admitted: Option<Admitted>,
    /// Who is kept out where they do not, on tcp.
    exile: Option<Exile>,
    /// The event before this one. libzmq has one thread that tells of connections, so what it says in the
    /// same breath stands together.
    before: u32,
    counts: PeerCounts,
    gone: Vec<RawFd>,
    parting: Parting,
    /// When it was begun to look for messages that do not end, and whether that goes on; and when it was known of
    /// all of them last.
    measured: Instant,
    measuring: bool,
    judged: Instant,
    complaints: RateLimit,
    /// About who is kept out.
    lines: RateLimit,
}

impl Watch {
    /// Watches `watched`, which is to be bound to `port`, and takes messages of so many bytes, until
    /// [`super::ffi::stop_monitor`] is called on it. Its peers have keys where there is somebody who knows
    /// those that were `admitted`.
    pub fn of(
        context: &zmq::Context,
        watched: &zmq::Socket,
        rules: PeerRules,
        (port, longest): (Option<u16>, u64),
        admitted: Option<Admitted>,
    ) -> Result<Self, PubSubError> {
        let told = LISTENING | ACCEPTED | CONNECTED_WITH_HANDSHAKE | LOST;
        let mask = told | NOT_ACCEPTED | REFUSED | BROKE_OFF;
        let now = Instant::now();
        let nothing_proved = port.filter(|_| admitted.is_none());
        Ok(Watch {
            monitor: Monitor::of(context, watched, mask)?,
            places: Places::new(longest + AHEAD),
            rules,
            port,
            exile: nothing_proved.map(|port| Exile::of(port, now)),
            admitted,
            before: 0,
            counts: PeerCounts::default(),
            gone: Vec::new(),
            parting: Parting::default(),
            measured: now,
            measuring: false,
            judged: now,
            complaints: RateLimit::new(1, Duration::from_secs(3600)),
            lines: RateLimit::new(10, Duration::from_secs(60)),
        })
    }

    /// Takes in what has happened; also to be called as soon as the socket is bound.
    pub fn look(&mut self) -> Result<(), PubSubError> {
        let (mut came, mut asked) = (Vec::new(), Vec::new());
        loop {
            while let Some((event, value)) = self.monitor.event()? {
                let fd = RawFd::try_from(value).unwrap_or(-1);
                match event {
                    LISTENING => self.listens(fd),
                    ACCEPTED => {
                        // It may have come before the socket's own filter did; and what that says of others
                        // is of no use to it.
                        self.ignore_resets(fd);
                        self.places.came(fd, Instant::now());
                        came.push(fd);
                    }
                    CONNECTED_WITH_HANDSHAKE => self.places.handshake_done(),
                    LOST => {
                        came.retain(|other| *other != fd);
                        asked.retain(|(other, _)| *other != fd);
                        self.went(fd);
                    }
                    _ => self.counts.refused += 1,
                }
                // Where nobody answers for the gate, it says so, and may not end the connection yet.
                self.before = if value == NOBODY_ADMITS { 0 } else { event };
            }
            // Those whose end was not reported since they were asked: it was not another's with the descriptor.
            for (fd, address) in asked.drain(..) {
                self.located(fd, address);
            }
            if self.exile.is_none() || came.is_empty() {
                return Ok(());
            }
            for fd in came.drain(..) {
                asked.extend(tcp::peer(fd, self.port).map(|address| (fd, address)));
            }
        }
    }

    fn listens(&mut self, fd: RawFd) {
        self.ignore_resets(fd);
        if let Some(exile) = &mut self.exile {
            exile.listens(fd);
        }
    }

    fn located(&mut self, fd: RawFd, address: IpAddr) {
        self.places.set_address(fd, address);
        if self.exile.as_ref().is_some_and(|exile| exile.has(address)) {
            self.counts.kept_out += u64::from(self.cut(fd, Some(address)));
        }
    }

    fn went(&mut self, fd: RawFd) {
        let none = self.before == BROKE_OFF || self.places.is_unready(fd);
        let latest = (!none).then(admission::latest);
        let place = self.places.went(fd, latest);
        self.gone.push(fd);
        let failed = matches!(self.before, BROKE_OFF | BREACH);
        let silent = place.filter(|place| failed && !place.spoke && !place.ended);
        if let Some(address) = silent.and_then(|place| place.address)
            && let Some(exile) = &mut self.exile
        {
            self.counts.cast_out += u64::from(exile.failed(address, Instant::now()));
        }
    }

    /// See the module.
    fn ignore_resets(&mut self, fd: RawFd) {
        if let Err(error) = tcp::filter(fd, self.port, &filter::program(&[]))
            && let Some(permit) = self.complaints.permit(Instant::now())
        {
            log::warn!(
                "connections that are reset are heard of: {error}; a peer that means harm can end this \
                 process{permit}"
            );
        }
    }

    /// Ends the connections that are too many, and those that send a message without end: libzmq
    /// shows a message when it is whole, and holds whatever comes until then. What has yet to be received
    /// looks like a message without end, so that is judged when `all` was; or at last all the same, lest
    /// who sends without a pause is never judged. And those that take nothing of what is sent to them.
    /// So many messages were received since the last call.
    pub fn thin_out(&mut self, received: usize, all: bool) {
        let now = Instant::now();
        let due = now.saturating_duration_since(self.measured) >= pace(self.places.open.len());
        if self.measuring || due {
            if !self.measuring {
                self.measured = now;
            }
            let late = now.saturating_duration_since(self.judged) >= UNREAD;
            let heard = match (all, late) {
                (true, _) => Heard::All,
                (false, true) => Heard::Late,
                (false, false) => Heard::Unknown,
            };
            let port = self.port;
            let unread = |fd| tcp::unread(fd, port);
            let bad = self.places.bad(now, heard, tcp::traffic, unread);
            self.measuring = !bad.complete;
            if bad.complete && heard != Heard::Unknown {
                self.judged = now;
            }
            for fd in bad.endless {
                let node = self.whose(fd);
                self.counts.unruly += u64::from(self.banish(fd, None, node));
            }
            for fd in bad.suspect {
                self.counts.unruly += u64::from(self.cut(fd, None));
            }
            for fd in bad.stuck {
                self.counts.stuck += u64::from(self.cut(fd, None));
            }
        }
        for fd in self.places.crowd(&self.rules, due) {
            self.counts.crowded += u64::from(self.cut(fd, None));
        }
        let (open, port) = (&self.places.open, self.port);
        self.parting.close(open, port, received, all, now);
        if let Some(exile) = &mut self.exile {
            exile.let_in(now);
        }
    }

    /// Ends a connection that is open; says whether it did.
    fn cut(&mut self, fd: RawFd, address: Option<IpAddr>) -> bool {
        let Some(place) = self.places.open.get_mut(&fd).filter(|place| !place.ended) else {
            return false;
        };
        let address = address.or(place.address);
        if tcp::deafen(fd, address, self.port) {
            place.ended = true;
            self.parting.add(fd, place);
        } else {
            // On ipc; or it has gone by itself. One that could not be ended is tried again.
            place.ended = tcp::end_connection(fd, address, self.port);
        }
        place.ended
    }

    /// The same, and keeps whoever that is out for a while: its node, or where its address is all that can be
    /// known of it, that.
    fn banish(&mut self, fd: RawFd, address: Option<IpAddr>, node: Option<Arc<str>>) -> bool {
        let known = self.places.open.get(&fd).and_then(|place| place.address);
        let ended = self.cut(fd, address);
        if ended {
            self.blame(node, address.or(known));
        }
        ended
    }

    /// Keeps this node out for a while, or where it is none, this address, and ends what else it has here; whether
    /// it was not yet.
    fn blame(&mut self, node: Option<Arc<str>>, address: Option<IpAddr>) -> bool {
        let now = Instant::now();
        let (new, others) = match (node, address, &mut self.exile) {
            // From wherever they are.
            (Some(node), ..) => (self.keep_node_out(&node, now), self.places.of(&node)),
            (None, Some(address), Some(exile)) => {
                let new = exile.cast_out(address, SENDS, now);
                self.counts.cast_out += u64::from(new);
                (new, self.places.from(address))
            }
            _ => return false,
        };
        for fd in others {
            self.counts.kept_out += u64::from(self.cut(fd, None));
        }
        new
    }

    /// The same of whoever sent this, on a connection that has ended or was ended, so that nobody else is; nothing
    /// of what is left of a flood where that was done for what came before.
    pub fn shun(&mut self, sender: &Sender) -> bool {
        let out = match (&sender.node, sender.address, &self.exile) {
            (Some(_), ..) => self.is_out(sender),
            (None, Some(address), Some(exile)) => exile.has(address),
            _ => true,
        };
        !out && self.blame(sender.node.clone(), sender.address)
    }

    /// Whether what came on this connection that is over is what its peer has sent.
    pub fn ended_itself(&self, sender: &Sender) -> bool {
        sender.number > 0 && self.places.ended_itself(sender.fd, sender.number)
    }

    /// The node that a connection is of, where that is certain.
    fn whose(&self, fd: RawFd) -> Option<Arc<str>> {
        let (admitted, place) = (self.admitted.as_ref()?, self.places.open.get(&fd)?);
        if place.spoke {
            return place.node.clone();
        }
        // It has sent more than any handshake is long; but who was not admitted is nobody's.
        if self.places.is_unready(fd) {
            return None;
        }
        let address = tcp::peer(fd, self.port)?;
        admitted.whose(address, place.came, Instant::now())
    }

    /// Whether it was not.
    fn keep_node_out(&mut self, node: &Arc<str>, now: Instant) -> bool {
        let Some(admitted) = &self.admitted else {
            return false;
        };
        let new = admitted.keep_out(Arc::clone(node), now);
        if new && let Some(permit) = self.lines.permit(now) {
            let name = printable::name(node, 64);
            log::error!("node {name} is kept out for a minute: {SENDS}{permit}");
        }
        new
    }

    /// The connections that have ended since the last call.
    pub fn take_gone(&mut self) -> Vec<RawFd> {
        std::mem::take(&mut self.gone)
    }

    /// Whether the connection may have ended by the last [`Watch::look`]. It has not ended if this is
    /// `false`.
    pub fn is_over(&self, sender: &Sender) -> bool {
        self.places.is_over(sender.fd, sender.number)
    }

    /// A connection has sent something; how it stands. One that is too many of its node is ended; one that
    /// cannot be told from the one before it, to come again; and one of who has been kept out since it came.
    pub fn spoke(&mut self, sender: &Sender) -> Standing {
        let first = self.places.is_silent(sender.fd);
        if let Some(admitted) = self.admitted.as_ref().filter(|_| first) {
            admitted.spoke(sender.number);
        }
        match self.places.spoke(sender) {
            (Standing::Open, true) => {
                self.counts.crowded += u64::from(self.end(sender));
                Standing::Ended
            }
            (Standing::Over, true) => {
                self.counts.unclear += u64::from(self.end(sender));
                Standing::Over
            }
            (Standing::Open, false) if first && self.is_out(sender) => {
                self.counts.kept_out += u64::from(self.end(sender));
                Standing::Ended
            }
            (standing, _) => standing,
        }
    }

    /// Whether the node of a connection is kept out. Those that it had when that began, and had said nothing
    /// on, were nobody's until then.
    fn is_out(&self, sender: &Sender) -> bool {
        let (admitted, node) = (self.admitted.as_ref(), sender.node.as_deref());
        let out = |admitted: &Admitted| node.is_some_and(|n| admitted.is_out(n, Instant::now()));
        admitted.is_some_and(out)
    }

    /// Ends the connection with this descriptor, if there is one; says whether it did.
    pub fn end(&mut self, sender: &Sender) -> bool {
        self.cut(sender.fd, sender.address)
    }

    /// The same, of one that is open by what is known here.
    pub fn end_one(&mut self, fd: RawFd) -> bool {
        self.cut(fd, None)
    }

    /// The same, of one that does what no agent does: its node, or where nobody admits its address, is kept
    /// out for a while.
    pub fn spurn(&mut self, sender: &Sender) -> bool {
        let node = sender.node.clone().or_else(|| self.whose(sender.fd));
        self.banish(sender.fd, sender.address, node)
    }

    /// What is counted here since the last call.
    pub fn take(&mut self) -> PeerCounts {
        let mut counts = std::mem::take(&mut self.counts);
        counts.open = self.places.open.len() as u64;
        counts
    }
}
