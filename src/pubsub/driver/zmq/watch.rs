//! The connections of a socket that is bound: which are open, and when one has ended.
//!
//! libzmq names a connection by its descriptor: in the events of a socket's monitor, and in what a
//! peer sends. Descriptors are used again; so what a peer sent is taken for that of a connection
//! that is open only if it was admitted after the last one with that descriptor had ended
//! ([`Watch::is_over`]). libzmq reports the end of a connection before it lets go of anything of it.
//!
//! # How a connection is ended
//!
//! libzmq stops reading from a connection whose messages have no room. If the system then reports that
//! the connection is broken, libzmq keeps what it has read until there is room; and if a PING is in that, it
//! wants to answer, and ends the process: 4.3.4 asserts `!_io_error`, and so do later ones. Any peer could
//! have that, by a reset after a burst; and so could whoever is ended in the middle of one. So on tcp
//! no connection is reported broken while something of it may wait:
//!
//! * resets are not heard ([`ffi::ignore_resets`]); a peer that has gone without a word is given up when
//!   nothing of it was heard for long ([`super::give_up_lifeless`]);
//! * whoever is ended here is first not heard any more, and sees the end at once ([`ffi::deafen`]); libzmq
//!   is told when everything that had come was read.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ffi;
use super::monitor::{ACCEPTED, BROKE_OFF, LISTENING, LOST, Monitor, NOT_ACCEPTED, REFUSED};
use super::unended::{Unended, pace};
use crate::pubsub::api::{PeerCounts, PeerRules, PubSubError};
use crate::security::admission;
use crate::util::rate::RateLimit;

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The connection's descriptor.
    pub fd: RawFd,
    /// The number under which it was admitted; 0 where nobody admits.
    pub number: u64,
    /// The node it was admitted as.
    pub node: Option<Arc<str>>,
    /// Where from, on tcp.
    pub address: Option<IpAddr>,
}

impl Sender {
    /// What libzmq tells of a message; `None` for one that libzmq itself made.
    pub fn of(message: &mut zmq::Message) -> Option<Sender> {
        let fd = message.gets("__fd")?.parse().ok()?;
        let address = message.gets("Peer-Address");
        let address = address.and_then(|address| address.parse().ok());
        let admitted = message.gets("User-Id").and_then(admission::read);
        Some(Sender {
            fd,
            address,
            number: admitted.map_or(0, |(_, number)| number),
            node: admitted.map(|(name, _)| name.into()),
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Place {
    /// Rises with each that comes.
    order: u64,
    /// Whether it has sent anything.
    spoke: bool,
    /// Whose it is, once it has sent something; `None` where nobody admits.
    node: Option<Arc<str>>,
    /// Whether it was ended here; libzmq has yet to find out.
    ended: bool,
    /// When something that is left of it came last.
    late: Option<Instant>,
    /// What it has sent since its last whole message.
    unended: Unended,
}

/// Most that a connection may send without ending a message: no more than all subscriptions, or a few
/// questions of the longest kind, are on their way at a time.
const MAX_UNENDED: u64 = 8 << 20;

/// How long it is waited for everything to be received before messages without end are looked for.
const UNREAD: Duration = Duration::from_secs(5);

/// Connections that are looked at for such messages in one go: each costs a system call.
const LOOKS: usize = 500;

/// Connections of one node, at each port. An agent has one, and another while one is being given up.
const NODE_CONNECTIONS: usize = 16;

/// How long whoever is not heard any more stays connected after the last of it has come here: libzmq passes on
/// what it has read a little at a time. Not much longer: what all subscribe to is looked through for each that
/// ends.
const LAST_READ: Duration = Duration::from_millis(100);

/// How often it must have been received meanwhile without anything of it: that time has passed proves nothing
/// while nobody looked, or while others had their turn. What was received counts as that when it was all there
/// was, or more than each connection had a turn for.
const ROUNDS: u32 = 20;
const TURNS: usize = 4;

/// How a connection stands that something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is open.
    Open,
    /// It was ended here; what is left of it counts for nothing.
    Ended,
    /// It is gone, and nobody has its descriptor.
    Over,
}

/// Which connections are open: pure.
#[derive(Debug, Default)]
struct Places {
    open: BTreeMap<RawFd, Place>,
    /// How many of them each node has.
    nodes: HashMap<Arc<str>, usize>,
    /// Where to go on looking for messages that do not end.
    next: RawFd,
    /// The highest number of admission when the last connection with a descriptor had ended.
    over: HashMap<RawFd, u64>,
    comers: u64,
    /// Whether somebody came since it was looked for those that are too many.
    fresh: bool,
}

impl Places {
    fn came(&mut self, fd: RawFd) {
        self.comers += 1;
        self.fresh = true;
        let place = Place {
            order: self.comers,
            spoke: false,
            node: None,
            ended: false,
            late: None,
            unended: Unended::default(),
        };
        self.open.insert(fd, place);
    }

    fn went(&mut self, fd: RawFd, latest: u64) {
        if let Some(node) = self.open.remove(&fd).and_then(|place| place.node)
            && let Some(count) = self.nodes.get_mut(&node)
        {
            *count -= 1;
            if *count == 0 {
                self.nodes.remove(&node);
            }
        }
        self.over.insert(fd, latest);
    }

    fn is_over(&self, fd: RawFd, number: u64) -> bool {
        self.over.get(&fd).is_some_and(|last| number <= *last)
    }

    /// Something came from a connection. Says how it stands, and whether it is one too many of its node.
    fn spoke(&mut self, sender: &Sender) -> (Standing, bool) {
        let Some(place) = self.open.get_mut(&sender.fd) else {
            return (Standing::Over, false);
        };
        place.unended.message();
        if place.ended {
            place.late = Some(Instant::now());
            return (Standing::Ended, false);
        }
        if !place.spoke {
            place.spoke = true;
            if let Some(node) = &sender.node {
                place.node = Some(Arc::clone(node));
                let count = self.nodes.entry(Arc::clone(node)).or_default();
                *count += 1;
                return (Standing::Open, *count > NODE_CONNECTIONS);
            }
        }
        (Standing::Open, false)
    }

    /// The connections in the middle of a message that does not end, among the next so many; and whether
    /// all were looked at since it was begun with the first.
    fn endless(
        &mut self,
        now: Instant,
        received: impl Fn(RawFd) -> Option<u64>,
    ) -> (Vec<RawFd>, bool) {
        let mut endless = Vec::new();
        for (looks, (fd, place)) in self.open.range_mut(self.next..).enumerate() {
            if looks == LOOKS {
                self.next = *fd;
                return (endless, false);
            }
            if !place.ended
                && received(*fd).is_some_and(|bytes| place.unended.is_over(bytes, MAX_UNENDED, now))
            {
                endless.push(*fd);
            }
        }
        self.next = 0;
        (endless, true)
    }

    /// The connections that are too many by `rules`: of those that are silent the oldest, of all the
    /// newest.
    fn crowd(&mut self, rules: &PeerRules) -> Vec<RawFd> {
        // Asked with every group of events: only who comes makes them too many.
        if !std::mem::take(&mut self.fresh) {
            return Vec::new();
        }
        let mut all: Vec<(u64, bool, RawFd)> = Vec::new();
        let silent = |place: &&Place| !place.spoke && !place.ended;
        let silent = self.open.values().filter(silent).count();
        if silent <= rules.max_silent && self.open.len() <= rules.max_connections {
            return Vec::new();
        }
        let staying = self.open.iter().filter(|(_, place)| !place.ended);
        all.extend(staying.map(|(fd, place)| (place.order, place.spoke, *fd)));
        all.sort_unstable();
        let quiet = all.iter().filter(|(_, spoke, _)| !spoke);
        let mut crowd: Vec<RawFd> = quiet
            .take(silent.saturating_sub(rules.max_silent))
            .map(|(.., fd)| *fd)
            .collect();
        let left = all.len() - crowd.len();
        let newest = all.iter().rev().map(|(.., fd)| *fd);
        let newest = newest.filter(|fd| !crowd.contains(fd));
        let newest: Vec<RawFd> = newest
            .take(left.saturating_sub(rules.max_connections))
            .collect();
        crowd.extend(newest);
        crowd
    }
}

/// A connection that is not heard any more, and which it is of those with its descriptor.
#[derive(Debug)]
struct Deaf {
    fd: RawFd,
    order: u64,
    /// Since when libzmq has read everything.
    read: Option<Instant>,
    /// When something of it came last, and how often it was received since then.
    late: Option<Instant>,
    rounds: u32,
}

/// Watches a socket that is bound. To be looked at often, by the socket's owner.
pub struct Watch {
    monitor: Monitor,
    places: Places,
    rules: PeerRules,
    /// The port that it is bound to, on tcp.
    port: Option<u16>,
    counts: PeerCounts,
    gone: Vec<RawFd>,
    deaf: Vec<Deaf>,
    /// When it was begun to look for messages that do not end, and whether that goes on.
    measured: Instant,
    measuring: bool,
    complaints: RateLimit,
}

impl Watch {
    /// Watches `watched`, which is to be bound to `port`, until [`super::ffi::stop_monitor`] is called
    /// on it.
    pub fn of(
        context: &zmq::Context,
        watched: &zmq::Socket,
        rules: PeerRules,
        port: Option<u16>,
    ) -> Result<Self, PubSubError> {
        let mask = LISTENING | ACCEPTED | NOT_ACCEPTED | REFUSED | BROKE_OFF | LOST;
        Ok(Watch {
            monitor: Monitor::of(context, watched, mask)?,
            places: Places::default(),
            rules,
            port,
            counts: PeerCounts::default(),
            gone: Vec::new(),
            deaf: Vec::new(),
            measured: Instant::now(),
            measuring: false,
            complaints: RateLimit::new(1, Duration::from_secs(3600)),
        })
    }

    /// See the module.
    fn ignore_resets(&mut self, fd: RawFd) {
        if let Err(error) = ffi::ignore_resets(fd, self.port)
            && let Some(permit) = self.complaints.permit(Instant::now())
        {
            log::warn!(
                "connections that are reset are heard of: {error}; a peer that means harm can end this \
                 process{permit}"
            );
        }
    }

    /// Takes in what has happened; also to be called as soon as the socket is bound.
    pub fn look(&mut self) -> Result<(), PubSubError> {
        while let Some((event, value)) = self.monitor.event()? {
            let fd = RawFd::try_from(value).unwrap_or(-1);
            match event {
                LISTENING => self.ignore_resets(fd),
                ACCEPTED => {
                    // It may have come before the socket's own did so.
                    self.ignore_resets(fd);
                    self.places.came(fd);
                }
                LOST => {
                    self.places.went(fd, admission::latest());
                    self.gone.push(fd);
                }
                _ => self.counts.refused += 1,
            }
        }
        Ok(())
    }

    /// Ends the connections that are too many, and those that send a message without end: libzmq
    /// shows a message when it is whole, and holds whatever comes until then. What has yet to be received
    /// looks like a message without end, so that is judged when `all` was; or at last all the same, lest
    /// who sends without a pause is never judged.
    /// So many messages were received since the last call.
    pub fn thin_out(&mut self, received: usize, all: bool) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.measured);
        let due = waited >= pace(self.places.open.len()) && (all || waited >= UNREAD);
        if self.measuring || due {
            if !self.measuring {
                self.measured = now;
            }
            let (endless, complete) = self.places.endless(now, ffi::bytes_received);
            self.measuring = !complete;
            for fd in endless {
                self.counts.unruly += u64::from(self.cut(fd, None));
            }
        }
        for fd in self.places.crowd(&self.rules) {
            self.counts.crowded += u64::from(self.cut(fd, None));
        }
        self.close(received, all, now);
    }

    /// Ends a connection that is open; says whether it did.
    fn cut(&mut self, fd: RawFd, address: Option<IpAddr>) -> bool {
        let Some(place) = self.places.open.get_mut(&fd).filter(|place| !place.ended) else {
            return false;
        };
        if ffi::deafen(fd, address, self.port) {
            place.ended = true;
            self.deaf.push(Deaf {
                fd,
                order: place.order,
                read: None,
                late: None,
                rounds: 0,
            });
        } else {
            // On ipc; or it has gone by itself. One that could not be ended is tried again.
            place.ended = ffi::end_connection(fd, address, self.port);
        }
        place.ended
    }

    /// Tells libzmq of those who are not heard any more, once all that had come was passed on. So many
    /// messages were received since the last call, which was `all`.
    fn close(&mut self, received: usize, all: bool, now: Instant) {
        let (open, port) = (&self.places.open, self.port);
        let round = match (all, received >= TURNS * open.len()) {
            (true, _) => ROUNDS / 2,
            (false, enough) => u32::from(enough),
        };
        self.deaf.retain_mut(|deaf| {
            let place = open.get(&deaf.fd);
            let Some(place) = place.filter(|place| place.order == deaf.order) else {
                return false;
            };
            let Some(read) = deaf.read else {
                deaf.read = ffi::is_read(deaf.fd, port).then_some(now);
                return true;
            };
            if deaf.late != place.late {
                (deaf.late, deaf.rounds) = (place.late, 0);
                return true;
            }
            deaf.rounds += round;
            let since = place.late.map_or(read, |late| late.max(read));
            let waited = now.saturating_duration_since(since) >= LAST_READ;
            let silent = waited && deaf.rounds >= ROUNDS;
            !silent || !ffi::end_connection(deaf.fd, None, port)
        });
    }

    /// The connections that have ended since the last call.
    pub fn gone(&mut self) -> Vec<RawFd> {
        std::mem::take(&mut self.gone)
    }

    /// Whether the connection may have ended by the last [`Watch::look`]. It has not ended if this is
    /// `false`.
    pub fn is_over(&self, sender: &Sender) -> bool {
        self.places.is_over(sender.fd, sender.number)
    }

    /// A connection has sent something; how it stands. One that is too many of its node is ended.
    pub fn spoke(&mut self, sender: &Sender) -> Standing {
        match self.places.spoke(sender) {
            (Standing::Open, true) => {
                self.counts.crowded += u64::from(self.end(sender));
                Standing::Ended
            }
            (standing, _) => standing,
        }
    }

    /// Ends the connection with this descriptor, if there is one; says whether it did.
    pub fn end(&mut self, sender: &Sender) -> bool {
        self.cut(sender.fd, sender.address)
    }

    /// What is counted here since the last call.
    pub fn take(&mut self) -> PeerCounts {
        let mut counts = std::mem::take(&mut self.counts);
        counts.open = self.places.open.len() as u64;
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_not_taken_for_another_connection() {
        let mut places = Places::default();
        places.came(7);
        assert!(!places.is_over(7, 1));
        places.went(7, 3);
        // Number 3 may have been given to a connection that has not sent anything yet.
        for (number, over) in [(1, true), (3, true), (4, false)] {
            assert_eq!(places.is_over(7, number), over, "{number}");
            assert!(!places.is_over(8, number));
        }
    }

    fn from(fd: RawFd, node: Option<&str>) -> Sender {
        Sender {
            fd,
            number: 0,
            node: node.map(Into::into),
            address: None,
        }
    }

    #[test]
    fn who_says_nothing_keeps_nobody_out() {
        let rules = PeerRules {
            max_connections: 6,
            max_silent: 3,
            ..PeerRules::default()
        };
        let mut places = Places::default();
        let cut = |places: &mut Places, expected: &[RawFd], what: &str| {
            assert_eq!(places.crowd(&rules), expected, "{what}");
            for fd in expected {
                places.open.get_mut(fd).unwrap().ended = true;
            }
        };
        (1..=3).for_each(|fd| places.came(fd));
        cut(&mut places, &[], "there is room");
        places.came(4);
        cut(&mut places, &[1], "the oldest");
        cut(&mut places, &[], "ended once");
        places.went(1, 0);
        for fd in 2..=4 {
            assert_eq!(places.spoke(&from(fd, None)), (Standing::Open, false));
        }
        (5..=7).for_each(|fd| places.came(fd));
        cut(&mut places, &[], "there is room again");
        places.spoke(&from(5, None));
        places.came(8);
        cut(&mut places, &[8], "the newest, of all");
        assert_eq!(places.spoke(&from(8, None)).0, Standing::Ended);
        assert_eq!(places.spoke(&from(1, None)).0, Standing::Over);
    }

    #[test]
    fn one_node_has_few_connections() {
        let mut places = Places::default();
        let all = NODE_CONNECTIONS as RawFd;
        for fd in 0..=all {
            places.came(fd);
            let too_many = fd == all;
            assert_eq!(places.spoke(&from(fd, Some("n1"))).1, too_many, "{fd}");
            assert!(!places.spoke(&from(fd, Some("n1"))).1, "said once");
        }
        places.came(100);
        assert!(!places.spoke(&from(100, Some("n2"))).1, "another node");
        for fd in [0, 1] {
            places.went(fd, 0);
        }
        places.came(0);
        assert!(!places.spoke(&from(0, Some("n1"))).1, "it has room again");
        (0..=100).for_each(|fd| places.went(fd, 0));
        assert!(places.nodes.is_empty());
    }

    #[test]
    fn many_connections_are_looked_at_in_turn() {
        let (mut places, now) = (Places::default(), Instant::now());
        let count = 2 * LOOKS + 1;
        (0..count).for_each(|fd| places.came(fd as RawFd));
        let asked = std::cell::RefCell::new(Vec::new());
        let received = |fd| {
            asked.borrow_mut().push(fd);
            Some(if fd == 700 { MAX_UNENDED + 1 } else { 0 })
        };
        assert_eq!(places.endless(now, received), (vec![], false));
        assert_eq!(asked.borrow().len(), LOOKS);
        assert_eq!(places.endless(now, received), (vec![700], false));
        assert_eq!(places.endless(now, received), (vec![], true));
        let mut all = asked.take();
        all.dedup();
        assert_eq!(all.len(), count);
        // And again from the first.
        assert!(!places.endless(now, received).1 && asked.borrow()[0] == 0);
    }
}
