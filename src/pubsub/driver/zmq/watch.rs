//! The connections of a socket that is bound: which are open, and when one has ended.
//!
//! libzmq names a connection by its descriptor: in the events of a socket's monitor, and in what a
//! peer sends. Descriptors are used again; so what a peer sent is taken for that of a connection
//! that is open only if it was admitted after the last one with that descriptor had ended
//! ([`Watch::is_over`]). libzmq reports the end of a connection before it lets go of anything of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ffi;
use super::monitor::{ACCEPTED, BROKE_OFF, LOST, Monitor, NOT_ACCEPTED, REFUSED};
use super::unended::{Unended, pace};
use crate::pubsub::api::{PeerCounts, PeerRules, PubSubError};
use crate::security::admission;

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
    /// Whether it was ended here; libzmq has yet to find out.
    ended: bool,
    /// What it has sent since its last whole message.
    unended: Unended,
}

/// Most that a connection may send without ending a message: no more than all subscriptions, or a few
/// questions of the longest kind, are on their way at a time.
const MAX_UNENDED: u64 = 8 << 20;

/// How long it is waited for everything to be received before messages without end are looked for.
const UNREAD: Duration = Duration::from_secs(5);

/// Which connections are open: pure.
#[derive(Debug, Default)]
struct Places {
    open: HashMap<RawFd, Place>,
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
            ended: false,
            unended: Unended::default(),
        };
        self.open.insert(fd, place);
    }

    fn went(&mut self, fd: RawFd, latest: u64) {
        self.open.remove(&fd);
        self.over.insert(fd, latest);
    }

    fn is_over(&self, fd: RawFd, number: u64) -> bool {
        self.over.get(&fd).is_some_and(|last| number <= *last)
    }

    fn spoke(&mut self, fd: RawFd) {
        if let Some(place) = self.open.get_mut(&fd) {
            place.spoke = true;
            place.unended.message();
        }
    }

    /// The connections in the middle of a message that does not end.
    fn endless(&mut self, now: Instant, received: impl Fn(RawFd) -> Option<u64>) -> Vec<RawFd> {
        let mut endless = Vec::new();
        for (fd, place) in self.open.iter_mut().filter(|(_, place)| !place.ended) {
            if received(*fd).is_some_and(|bytes| place.unended.is_over(bytes, MAX_UNENDED, now)) {
                place.ended = true;
                endless.push(*fd);
            }
        }
        endless
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
        for fd in &crowd {
            if let Some(place) = self.open.get_mut(fd) {
                place.ended = true;
            }
        }
        crowd
    }
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
    /// When it was looked for messages that do not end.
    measured: Instant,
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
        let mask = ACCEPTED | NOT_ACCEPTED | REFUSED | BROKE_OFF | LOST;
        Ok(Watch {
            monitor: Monitor::of(context, watched, mask)?,
            places: Places::default(),
            rules,
            port,
            counts: PeerCounts::default(),
            gone: Vec::new(),
            measured: Instant::now(),
        })
    }

    /// Takes in what has happened.
    pub fn look(&mut self) -> Result<(), PubSubError> {
        while let Some((event, value)) = self.monitor.event()? {
            let fd = RawFd::try_from(value).unwrap_or(-1);
            match event {
                ACCEPTED => self.places.came(fd),
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
    pub fn thin_out(&mut self, all: bool) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.measured);
        if waited >= pace(self.places.open.len()) && (all || waited >= UNREAD) {
            self.measured = now;
            for fd in self.places.endless(now, ffi::bytes_received) {
                self.counts.unruly += u64::from(ffi::end_connection(fd, None, self.port));
            }
        }
        for fd in self.places.crowd(&self.rules) {
            self.counts.crowded += u64::from(ffi::end_connection(fd, None, self.port));
        }
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

    /// A connection has sent something.
    pub fn spoke(&mut self, sender: &Sender) {
        self.places.spoke(sender.fd);
    }

    /// Ends the connection with this descriptor, if there is one; says whether it did.
    pub fn end(&mut self, sender: &Sender) -> bool {
        let Some(place) = self.places.open.get_mut(&sender.fd) else {
            return false;
        };
        if place.ended {
            return false;
        }
        // One that could not be ended is tried again.
        place.ended = ffi::end_connection(sender.fd, sender.address, self.port);
        place.ended
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

    #[test]
    fn who_says_nothing_keeps_nobody_out() {
        let rules = PeerRules {
            max_connections: 6,
            max_silent: 3,
            ..PeerRules::default()
        };
        let mut places = Places::default();
        (1..=3).for_each(|fd| places.came(fd));
        assert!(places.crowd(&rules).is_empty());
        places.came(4);
        assert_eq!(places.crowd(&rules), [1], "the oldest");
        assert!(places.crowd(&rules).is_empty(), "ended once");
        places.went(1, 0);
        (2..=4).for_each(|fd| places.spoke(fd));
        (5..=7).for_each(|fd| places.came(fd));
        assert!(places.crowd(&rules).is_empty());
        places.spoke(5);
        places.came(8);
        assert_eq!(places.crowd(&rules), [8], "the newest, of all");
    }
}
