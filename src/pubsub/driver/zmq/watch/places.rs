//! Which connections are open, and which of them are too many: pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use super::super::sender::Sender;
use super::super::unended::Unended;
use crate::pubsub::api::PeerRules;

/// Most that a connection may send without ending a message: no more than all subscriptions, or a few
/// questions of the longest kind, are on their way at a time.
const MAX_UNENDED: u64 = 8 << 20;

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

/// One connection.
#[derive(Debug)]
pub struct Place {
    /// Rises with each that comes.
    pub order: u64,
    /// Where from, where that matters.
    pub address: Option<IpAddr>,
    /// Whether it has sent anything.
    pub spoke: bool,
    /// Whose it is, once it has sent something; `None` where nobody admits.
    node: Option<Arc<str>>,
    /// Whether it was ended here; libzmq has yet to find out.
    pub ended: bool,
    /// When something that is left of it came last.
    pub late: Option<Instant>,
    /// What it has sent since its last whole message.
    unended: Unended,
}

/// All that are open.
#[derive(Debug, Default)]
pub struct Places {
    pub open: BTreeMap<RawFd, Place>,
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
    /// A connection has come, from `address` where that matters.
    pub fn came(&mut self, fd: RawFd, address: Option<IpAddr>) {
        self.comers += 1;
        self.fresh = true;
        let place = Place {
            order: self.comers,
            address,
            spoke: false,
            node: None,
            ended: false,
            late: None,
            unended: Unended::default(),
        };
        self.open.insert(fd, place);
    }

    /// A connection has ended, when so many had been admitted; what it was.
    pub fn went(&mut self, fd: RawFd, latest: u64) -> Option<Place> {
        self.over.insert(fd, latest);
        let place = self.open.remove(&fd)?;
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
        self.over.get(&fd).is_some_and(|last| number <= *last)
    }

    /// Something came from a connection. Says how it stands, and whether it is one too many of its node.
    pub fn spoke(&mut self, sender: &Sender) -> (Standing, bool) {
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
    pub fn endless(
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

    /// The connections from `address` that were not ended.
    pub fn from(&self, address: IpAddr) -> Vec<RawFd> {
        let own = |place: &Place| place.address == Some(address) && !place.ended;
        let open = self.open.iter().filter(|(_, place)| own(place));
        open.map(|(fd, _)| *fd).collect()
    }

    /// The connections that are too many by `rules`: of those that are silent the oldest, of all the
    /// newest.
    pub fn crowd(&mut self, rules: &PeerRules) -> Vec<RawFd> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_not_taken_for_another_connection() {
        let mut places = Places::default();
        places.came(7, None);
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
        (1..=3).for_each(|fd| places.came(fd, None));
        cut(&mut places, &[], "there is room");
        places.came(4, None);
        cut(&mut places, &[1], "the oldest");
        cut(&mut places, &[], "ended once");
        places.went(1, 0);
        for fd in 2..=4 {
            assert_eq!(places.spoke(&from(fd, None)), (Standing::Open, false));
        }
        (5..=7).for_each(|fd| places.came(fd, None));
        cut(&mut places, &[], "there is room again");
        places.spoke(&from(5, None));
        places.came(8, None);
        cut(&mut places, &[8], "the newest, of all");
        assert_eq!(places.spoke(&from(8, None)).0, Standing::Ended);
        assert_eq!(places.spoke(&from(1, None)).0, Standing::Over);
    }

    #[test]
    fn one_node_has_few_connections() {
        let mut places = Places::default();
        let all = NODE_CONNECTIONS as RawFd;
        for fd in 0..=all {
            places.came(fd, None);
            let too_many = fd == all;
            assert_eq!(places.spoke(&from(fd, Some("n1"))).1, too_many, "{fd}");
            assert!(!places.spoke(&from(fd, Some("n1"))).1, "said once");
        }
        places.came(100, None);
        assert!(!places.spoke(&from(100, Some("n2"))).1, "another node");
        for fd in [0, 1] {
            places.went(fd, 0);
        }
        places.came(0, None);
        assert!(!places.spoke(&from(0, Some("n1"))).1, "it has room again");
        for fd in 0..=100 {
            places.went(fd, 0);
        }
        assert!(places.nodes.is_empty());
    }

    #[test]
    fn many_connections_are_looked_at_in_turn() {
        let (mut places, now) = (Places::default(), Instant::now());
        let count = 2 * LOOKS + 1;
        (0..count).for_each(|fd| places.came(fd as RawFd, None));
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
