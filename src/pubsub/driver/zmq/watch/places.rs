//! Which connections are open, and which of them are too many: pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::sender::Sender;
use super::super::tcp::Traffic;
use super::super::unended::Unended;
use crate::pubsub::api::PeerRules;

/// Most that a connection may send without ending a message: no more than all subscriptions, or a few
/// questions of the longest kind, are on their way at a time.
const MAX_UNENDED: u64 = 8 << 20;

/// The same until it has sent its first: libzmq holds what comes in up to 32 times its bytes, and many
/// may be connected that have said nothing. A request, of twice the length that it may have.
const MAX_FIRST: u64 = 1 << 20;

/// How long what is sent to a connection may find no room there. Before the system gives it up
/// ([`super::super::give_up_lifeless`]): libzmq must not find it broken.
const STUCK: Duration = Duration::from_secs(8);

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
    /// When it was seen first.
    pub came: Instant,
    /// Where from, where that matters and as soon as it is certain.
    pub address: Option<IpAddr>,
    /// Whether it has sent anything.
    pub spoke: bool,
    /// Whose it is, once it has sent something; `None` where nobody admits.
    pub node: Option<Arc<str>>,
    /// How many handshakes had been done when it came.
    ready: u64,
    /// The number under which it was admitted, once it has sent something; 0 where nobody admits.
    number: u64,
    /// Whether it was ended here; libzmq has yet to find out.
    pub ended: bool,
    /// When something that is left of it came last.
    pub late: Option<Instant>,
    /// What it has sent since its last whole message.
    unended: Unended,
    /// How much of what was sent to it had arrived at the last look; and at which look something that waits was
    /// first seen to do so, or to have moved.
    arrived: u64,
    moved: Option<Instant>,
}

impl Place {
    /// Whether nothing that waits for it was taken for long.
    fn is_stuck(&mut self, traffic: &Traffic, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.arrived, traffic.arrived);
        if !traffic.waiting {
            // However long ago this look was: what waits at the next one may have come just before it.
            self.moved = None;
            return false;
        }
        let since = self.moved.filter(|_| traffic.arrived == before);
        let since = *self.moved.insert(since.unwrap_or(now));
        now.saturating_duration_since(since) >= STUCK
    }
}

/// Connections that are to be ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bad {
    pub endless: Vec<RawFd>,
    pub stuck: Vec<RawFd>,
    /// Whether none is left to be looked at.
    pub complete: bool,
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
    /// Handshakes that were done.
    ready: u64,
    /// Whether somebody came since it was looked for those that are too many; and whether there were some then,
    /// who may not have been ended.
    fresh: bool,
    crowded: bool,
}

impl Places {
    /// A connection has come.
    pub fn came(&mut self, fd: RawFd, now: Instant) {
        self.comers += 1;
        self.fresh = true;
        let place = Place {
            order: self.comers,
            came: now,
            address: None,
            spoke: false,
            node: None,
            ready: self.ready,
            number: 0,
            ended: false,
            late: None,
            unended: Unended::default(),
            arrived: 0,
            moved: None,
        };
        self.open.insert(fd, place);
    }

    /// A handshake is done; of one of those that are open.
    pub fn is_ready(&mut self) {
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
    pub fn is_from(&mut self, fd: RawFd, address: IpAddr) {
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
            let over = self.over.entry(fd).or_default();
            *over = last.max(*over);
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
        self.over.get(&fd).is_some_and(|last| number <= *last)
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

    /// Of the next so many connections those that are in the middle of a message that does not end, and
    /// those that take nothing of what is sent to them; and whether all were looked at since it was begun
    /// with the first.
    pub fn bad(&mut self, now: Instant, traffic: impl Fn(RawFd) -> Option<Traffic>) -> Bad {
        let mut bad = Bad::default();
        for (looks, (fd, place)) in self.open.range_mut(self.next..).enumerate() {
            if looks == LOOKS {
                self.next = *fd;
                return bad;
            }
            let Some(traffic) = traffic(*fd).filter(|_| !place.ended) else {
                continue;
            };
            let most = if place.spoke { MAX_UNENDED } else { MAX_FIRST };
            if place.unended.is_over(traffic.received, most, now) {
                bad.endless.push(*fd);
            } else if place.is_stuck(&traffic, now) {
                bad.stuck.push(*fd);
            }
        }
        self.next = 0;
        bad.complete = true;
        bad
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
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_not_taken_for_another_connection() {
        let mut places = Places::default();
        places.came(7, Instant::now());
        assert!(!places.is_over(7, 1));
        places.went(7, None);
        assert!(!places.is_over(7, 1), "it was never admitted");
        places.came(7, Instant::now());
        places.went(7, Some(3));
        // Number 3 may have been given to a connection that has not sent anything yet.
        for (number, over) in [(1, true), (3, true), (4, false)] {
            assert_eq!(places.is_over(7, number), over, "{number}");
            assert!(!places.is_over(8, number));
        }
        // Where it is known which one has ended, whoever has its descriptor by now is known to be another.
        places.came(7, Instant::now());
        let sender = Sender {
            number: 5,
            ..from(7, Some("n1"))
        };
        assert_eq!(places.spoke(&sender), (Standing::Open, false));
        places.went(7, Some(9));
        assert!(places.is_over(7, 5) && !places.is_over(7, 6));
    }

    #[test]
    fn of_whom_a_handshake_was_is_known_where_only_one_is_open() {
        let mut places = Places::default();
        assert!(
            !places.is_unready(7),
            "it may have come before it was watched"
        );
        places.came(7, Instant::now());
        assert!(places.is_unready(7));
        places.is_ready();
        places.came(8, Instant::now());
        assert!(!places.is_unready(7) && places.is_unready(8));
    }

    #[test]
    fn what_is_late_is_not_booked_on_another_connection() {
        let of = |number, node| Sender {
            number,
            ..from(7, Some(node))
        };
        let mut places = Places::default();
        places.came(7, Instant::now());
        assert_eq!(places.spoke(&of(4, "n1")), (Standing::Open, false));
        places.went(7, Some(4));
        assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, false));
        places.came(7, Instant::now());
        // It may be of either.
        assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, true));
        assert!(places.nodes.is_empty() && !places.open[&7].spoke);
        assert_eq!(places.spoke(&of(5, "n2")), (Standing::Open, false));
        assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, false));
        assert_eq!(places.nodes.len(), 1);
    }

    /// What is kept of those who have gone is for each descriptor, not for each of them.
    #[test]
    fn strangers_without_end_leave_nothing_behind() {
        let mut places = Places::default();
        for number in 0..100_000u64 {
            let fd = (number % 50) as RawFd;
            places.came(fd, Instant::now());
            let admitted = number.is_multiple_of(3).then_some(number);
            places.went(fd, admitted);
        }
        assert_eq!((places.over.len(), places.open.len()), (50, 0));
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
            assert_eq!(places.crowd(&rules, false), expected, "{what}");
            assert!(places.crowd(&rules, false).is_empty(), "{what}");
            // None of them could be ended then.
            assert_eq!(places.crowd(&rules, true), expected, "{what}");
            for fd in expected {
                places.open.get_mut(fd).unwrap().ended = true;
            }
        };
        (1..=3).for_each(|fd| places.came(fd, Instant::now()));
        cut(&mut places, &[], "there is room");
        places.came(4, Instant::now());
        cut(&mut places, &[1], "the oldest");
        cut(&mut places, &[], "ended once");
        places.went(1, Some(0));
        for fd in 2..=4 {
            assert_eq!(places.spoke(&from(fd, None)), (Standing::Open, false));
        }
        (5..=7).for_each(|fd| places.came(fd, Instant::now()));
        cut(&mut places, &[], "there is room again");
        places.spoke(&from(5, None));
        places.came(8, Instant::now());
        cut(&mut places, &[8], "the newest, of all");
        assert_eq!(places.spoke(&from(8, None)).0, Standing::Ended);
        assert_eq!(places.spoke(&from(1, None)).0, Standing::Over);
    }

    #[test]
    fn one_node_has_few_connections() {
        let mut places = Places::default();
        let all = NODE_CONNECTIONS as RawFd;
        for fd in 0..=all {
            places.came(fd, Instant::now());
            let too_many = fd == all;
            assert_eq!(places.spoke(&from(fd, Some("n1"))).1, too_many, "{fd}");
            assert!(!places.spoke(&from(fd, Some("n1"))).1, "said once");
        }
        places.came(100, Instant::now());
        assert!(!places.spoke(&from(100, Some("n2"))).1, "another node");
        for fd in [0, 1] {
            places.went(fd, Some(0));
        }
        places.came(0, Instant::now());
        assert!(!places.spoke(&from(0, Some("n1"))).1, "it has room again");
        for fd in 0..=100 {
            places.went(fd, Some(0));
        }
        assert!(places.nodes.is_empty());
    }

    #[test]
    fn many_connections_are_looked_at_in_turn() {
        let (mut places, now) = (Places::default(), Instant::now());
        let count = 2 * LOOKS + 1;
        (0..count).for_each(|fd| places.came(fd as RawFd, Instant::now()));
        let asked = std::cell::RefCell::new(Vec::new());
        let traffic = |fd| {
            asked.borrow_mut().push(fd);
            Some(Traffic {
                received: if fd == 700 { MAX_FIRST + 1 } else { 0 },
                ..Traffic::default()
            })
        };
        let bad = |endless: &[RawFd], complete| Bad {
            endless: endless.into(),
            complete,
            ..Bad::default()
        };
        assert_eq!(places.bad(now, traffic), bad(&[], false));
        assert_eq!(asked.borrow().len(), LOOKS);
        assert_eq!(places.bad(now, traffic), bad(&[700], false));
        assert_eq!(places.bad(now, traffic), bad(&[], true));
        let mut all = asked.take();
        all.dedup();
        assert_eq!(all.len(), count);
        // And again from the first.
        assert!(!places.bad(now, traffic).complete && asked.borrow()[0] == 0);
    }

    #[test]
    fn who_has_not_said_anything_may_say_less() {
        let (mut places, start) = (Places::default(), Instant::now());
        (1..=2).for_each(|fd| places.came(fd, Instant::now()));
        places.spoke(&from(1, None));
        let sent = std::cell::Cell::new(0);
        let mut endless = |bytes, seconds| {
            sent.set(bytes);
            let traffic = |_| {
                Some(Traffic {
                    received: sent.get(),
                    ..Traffic::default()
                })
            };
            places
                .bad(start + Duration::from_secs(seconds), traffic)
                .endless
        };
        assert!(endless(100, 0).is_empty());
        assert_eq!(endless(MAX_FIRST + 1, 0), [2]);
        assert_eq!(endless(MAX_UNENDED + 101, 0), [1, 2]);
    }

    #[test]
    fn who_takes_nothing_is_ended_before_the_system_does_so() {
        let (mut places, start) = (Places::default(), Instant::now());
        places.came(1, Instant::now());
        let mut stuck = |arrived, waiting, seconds| {
            let traffic = |_| {
                Some(Traffic {
                    received: 0,
                    arrived,
                    waiting,
                })
            };
            let bad = places.bad(start + Duration::from_secs(seconds), traffic);
            !bad.stuck.is_empty()
        };
        // Nothing waits, and something does when it is looked again after long.
        assert!(!stuck(0, false, 0) && !stuck(0, true, 100) && !stuck(0, false, 101));
        // Something waits, and moves; it moves no more.
        assert!(!stuck(10, true, 101) && !stuck(20, true, 108) && !stuck(20, true, 115));
        assert!(stuck(20, true, 116) && stuck(20, true, 117));
        assert!(!stuck(20, false, 118) && !stuck(20, true, 125));
        assert!(!stuck(20, true, 132) && stuck(20, true, 133));
    }
}
