//! Which connections are open, and which of them are too many: pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use super::super::sender::Sender;
use super::super::tcp::Traffic;
use super::place::{Heard, MAX_ALL, MAX_BESIDE, Place};
use crate::pubsub::api::PeerRules;

/// Connections that are looked at for such messages in one go: each costs a system call.
const LOOKS: usize = 500;

/// Connections of one node, at each port. An agent has one, and another while one is being given up.
const NODE_CONNECTIONS: usize = 16;

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

/// Connections that are to be ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bad {
    /// They send a message without end.
    pub endless: Vec<RawFd>,
    /// They may do so: little by little, or many of them together.
    pub suspect: Vec<RawFd>,
    pub stuck: Vec<RawFd>,
    /// Whether none is left to be looked at.
    pub complete: bool,
}

/// The highest number of admission when the last of some connections had ended.
#[derive(Debug, Default)]
struct Past {
    all: u64,
    /// Of those that were ended here.
    ended: u64,
}

/// All that are open.
#[derive(Debug, Default)]
pub struct Places {
    /// How long a message may be, bytes, with what libzmq sends beside it and reads ahead.
    longest: u64,
    pub open: BTreeMap<RawFd, Place>,
    /// How many of them each node has.
    nodes: HashMap<Arc<str>, usize>,
    /// Where to go on looking for messages that do not end.
    next: RawFd,
    /// Of the connections with a descriptor that have ended.
    over: HashMap<RawFd, Past>,
    comers: u64,
    /// Handshakes that were done.
    ready: u64,
    /// Whether somebody came since it was looked for those that are too many; and whether there were some then,
    /// who may not have been ended.
    fresh: bool,
    crowded: bool,
}

impl Places {
    /// None yet, whose messages may have so many bytes with what libzmq sends beside them and reads ahead.
    pub fn new(longest: u64) -> Self {
        Places {
            longest,
            ..Places::default()
        }
    }

    /// A connection has come.
    pub fn came(&mut self, fd: RawFd, now: Instant) {
        self.comers += 1;
        self.fresh = true;
        let place = Place::new(self.comers, self.ready, now);
        self.open.insert(fd, place);
    }

    /// A handshake is done; of one of those that are open.
    pub fn handshake_done(&mut self) {
        self.ready += 1;
    }

    /// Whether this connection has certainly not got through its handshake: nobody has since it came.
    pub fn is_unready(&self, fd: RawFd) -> bool {
        let place = self.open.get(&fd);
        place.is_some_and(|place| place.ready == self.ready)
    }

    /// Whether nothing is known to have come from whoever has this descriptor.
    pub fn is_silent(&self, fd: RawFd) -> bool {
        self.open.get(&fd).is_none_or(|place| !place.spoke)
    }

    /// Where a connection comes from.
    pub fn set_address(&mut self, fd: RawFd, address: IpAddr) {
        if let Some(place) = self.open.get_mut(&fd) {
            place.address = Some(address);
        }
    }

    /// A connection has ended, when so many had been admitted; `None` where it was none of them. Says what it
    /// was.
    pub fn went(&mut self, fd: RawFd, latest: Option<u64>) -> Option<Place> {
        let place = self.open.remove(&fd);
        // Its own number is the best that can be known: whoever has its descriptor by now may have a lower
        // one than the latest.
        let own = place.as_ref().map(|place| place.number);
        if let Some(last) = own.filter(|number| *number > 0).or(latest) {
            let past = self.over.entry(fd).or_default();
            past.all = last.max(past.all);
            if place.as_ref().is_some_and(|place| place.ended) {
                past.ended = past.all;
            }
        }
        let place = place?;
        if let Some(node) = &place.node
            && let Some(count) = self.nodes.get_mut(node)
        {
            *count -= 1;
            if *count == 0 {
                self.nodes.remove(node);
            }
        }
        Some(place)
    }

    /// Whether the connection that was admitted under `number` may have ended.
    pub fn is_over(&self, fd: RawFd, number: u64) -> bool {
        self.over.get(&fd).is_some_and(|past| number <= past.all)
    }

    /// Whether the connection that was admitted under `number` was not ended here: of one that was, libzmq may
    /// have messages that nobody sent ([`super::super::tcp::deafen`]).
    pub fn ended_itself(&self, fd: RawFd, number: u64) -> bool {
        self.over.get(&fd).is_none_or(|past| number > past.ended)
    }

    /// Something came from a connection. Says how it stands; and whether whoever has the descriptor is to be
    /// ended: as one too many of its node, or because it cannot be told from the one before.
    pub fn spoke(&mut self, sender: &Sender) -> (Standing, bool) {
        let over = sender.number > 0 && self.is_over(sender.fd, sender.number);
        let Some(place) = self.open.get_mut(&sender.fd) else {
            return (Standing::Over, false);
        };
        if over {
            // One that has been heard is known to be another.
            return (Standing::Over, !place.spoke);
        }
        place.unended.message();
        if place.ended {
            place.late = Some(Instant::now());
            return (Standing::Ended, false);
        }
        if !place.spoke {
            place.spoke = true;
            place.number = sender.number;
            if let Some(node) = &sender.node {
                place.node = Some(Arc::clone(node));
                let count = self.nodes.entry(Arc::clone(node)).or_default();
                *count += 1;
                return (Standing::Open, *count > NODE_CONNECTIONS);
            }
        }
        (Standing::Open, false)
    }

    /// Of the next so many connections those that are in the middle of a message that does not end, as far as
    /// that can be told by what was `heard`, and those that take nothing of what is sent to them; and whether all
    /// were looked at since it was begun with the first. `unread` says how much of what has come libzmq has
    /// yet to read.
    pub fn bad(
        &mut self,
        now: Instant,
        heard: Heard,
        traffic: impl Fn(RawFd) -> Option<Traffic>,
        unread: impl Fn(RawFd) -> u64,
    ) -> Bad {
        let mut bad = Bad::default();
        for (looks, (fd, place)) in self.open.range_mut(self.next..).enumerate() {
            if looks == LOOKS {
                self.next = *fd;
                return bad;
            }
            let Some(traffic) = traffic(*fd).filter(|_| !place.ended) else {
                continue;
            };
            if place.measure(&traffic, heard, self.longest, now, || unread(*fd)) {
                bad.endless.push(*fd);
            } else if place.beside > MAX_BESIDE {
                bad.suspect.push(*fd);
            } else if place.is_stuck(&traffic, now) {
                bad.stuck.push(*fd);
            }
        }
        self.next = 0;
        bad.complete = true;
        self.too_much(&mut bad);
        bad
    }

    /// Adds those who have most, where all have too much together. Agents of a large cloud may be in the middle of
    /// their requests at one time, so it proves nothing.
    fn too_much(&self, bad: &mut Bad) {
        let named = |fd: &RawFd| bad.endless.contains(fd) || bad.suspect.contains(fd);
        let staying = self.open.iter();
        let staying = staying.filter(|(fd, place)| !place.ended && !named(fd));
        let parts = staying.map(|(fd, place)| (place.left + place.beside, *fd));
        let mut parts: Vec<(u64, RawFd)> = parts.filter(|(part, _)| *part > 0).collect();
        let mut all: u64 = parts.iter().map(|(part, _)| part).sum();
        if all <= MAX_ALL {
            return;
        }
        parts.sort_unstable();
        while let Some((part, fd)) = parts.pop().filter(|_| all > MAX_ALL) {
            all -= part;
            bad.suspect.push(fd);
        }
    }

    /// The connections from `address` that were not ended.
    pub fn from(&self, address: IpAddr) -> Vec<RawFd> {
        let own = |place: &Place| place.address == Some(address) && !place.ended;
        let open = self.open.iter().filter(|(_, place)| own(place));
        open.map(|(fd, _)| *fd).collect()
    }

    /// The connections of a node that were not ended.
    pub fn of(&self, node: &str) -> Vec<RawFd> {
        let own = |place: &Place| place.node.as_deref() == Some(node) && !place.ended;
        let open = self.open.iter().filter(|(_, place)| own(place));
        open.map(|(fd, _)| *fd).collect()
    }

    /// The connections that are too many by `rules`: of those that are silent the oldest, of all the
    /// newest. Those who were not ended are given `again` when that is asked for.
    pub fn crowd(&mut self, rules: &PeerRules, again: bool) -> Vec<RawFd> {
        // Asked with every group of events: only who comes makes them too many.
        let left = again && std::mem::take(&mut self.crowded);
        if !std::mem::take(&mut self.fresh) && !left {
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
        self.crowded |= !crowd.is_empty();
        crowd
    }
}

#[cfg(test)]
mod tests;
