//! What each connection subscribes to, within bounds: pure.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::os::fd::RawFd;
use std::time::Instant;

use super::sender::Sender;
use crate::pubsub::api::PeerRules;
use crate::util::bucket::Bucket;

/// Changes that a connection may make at once, in shares of the subscriptions that it may have, and
/// how many more each second. An agent makes two for each topic, and takes one back.
pub const BURST: usize = 4;
pub const RATE: f64 = 1_000.0;

/// How long what is asked for may be on average, bytes: libzmq has a node, of some 50 bytes of memory, for
/// each byte that no other subscription has in the same place, and goes through all of them when a
/// connection ends, some 0.2 µs for each. A topic is mostly some 36 bytes long, and its two forms count as one.
const MEAN_LENGTH: usize = 20;

/// A connection that has sent something.
#[derive(Debug)]
pub struct Seat {
    /// Whose it is.
    pub sender: Sender,
    /// By the prefix's hash; the prefix itself where it was taken and must be given back.
    prefixes: HashMap<u64, Option<Box<[u8]>>>,
    /// How long they are together, bytes.
    length: usize,
    /// The changes that it may still make.
    changes: Bucket,
}

/// All of them. A prefix is known by its hash, whose seed nobody knows.
#[derive(Debug, Default)]
pub struct Seats {
    seats: HashMap<RawFd, Seat>,
    /// What all have together, and how long that is, bytes.
    all: usize,
    length: usize,
    hashes: foldhash::quality::RandomState,
}

impl Seats {
    /// The number under which the connection with this descriptor was admitted.
    pub fn number(&self, fd: RawFd) -> Option<u64> {
        self.seats.get(&fd).map(|seat| seat.sender.number)
    }

    /// Whether the connection has asked for this before.
    pub fn has(&self, sender: &Sender, prefix: &[u8]) -> bool {
        let hash = self.hashes.hash_one(prefix);
        let seat = self.seats.get(&sender.fd);
        seat.is_some_and(|seat| seat.prefixes.contains_key(&hash))
    }

    /// Whether the connection may ask for this too.
    pub fn has_room(&self, sender: &Sender, prefix: &[u8], rules: &PeerRules) -> bool {
        let (most, more) = (rules.max_all_subscriptions, self.adds(sender, prefix));
        let all = self.all < most && self.length + more <= most * MEAN_LENGTH;
        all && !self.is_over(sender, more, rules)
    }

    /// Whether with this the connection would have more than it may have.
    pub fn is_full(&self, sender: &Sender, prefix: &[u8], rules: &PeerRules) -> bool {
        self.is_over(sender, self.adds(sender, prefix), rules)
    }

    fn is_over(&self, sender: &Sender, more: usize, rules: &PeerRules) -> bool {
        let most = rules.max_subscriptions;
        let over =
            |seat: &Seat| seat.prefixes.len() >= most || seat.length + more > most * MEAN_LENGTH;
        self.seats.get(&sender.fd).is_some_and(over)
    }

    /// How much longer what the connection has is with `prefix` than without it: a topic and the same with
    /// the NUL that ends it count as the longer one. Of no topic the last byte is a NUL, so that nothing is one
    /// of two pairs.
    fn adds(&self, sender: &Sender, prefix: &[u8]) -> usize {
        match prefix.split_last() {
            Some((0, bare)) if !bare.ends_with(&[0]) && self.has(sender, bare) => 1,
            Some((0, _)) | None => prefix.len(),
            Some(_) => {
                let ended = [prefix, &[0]].concat();
                if self.has(sender, &ended) {
                    0
                } else {
                    prefix.len()
                }
            }
        }
    }

    /// Something came from a connection that is open; whether it may make a change.
    pub fn came(&mut self, sender: &Sender, rules: &PeerRules, now: Instant) -> bool {
        let burst = (BURST * rules.max_subscriptions) as f64;
        let seat = self.seats.entry(sender.fd).or_insert_with(|| Seat {
            sender: sender.clone(),
            prefixes: HashMap::new(),
            length: 0,
            changes: Bucket::full(burst, now),
        });
        if seat.sender.number < sender.number {
            // The first that came was late, of one before.
            seat.sender = sender.clone();
        }
        seat.changes.take(burst, RATE, now)
    }

    /// Notes that the connection has asked for `prefix`, which is `kept` to be given back.
    pub fn put(&mut self, sender: &Sender, prefix: &[u8], kept: bool) {
        let (hash, more) = (self.hashes.hash_one(prefix), self.adds(sender, prefix));
        let Some(seat) = self.seats.get_mut(&sender.fd) else {
            return;
        };
        let kept = kept.then(|| prefix.into());
        if seat.prefixes.insert(hash, kept).is_none() {
            seat.length += more;
            (self.all, self.length) = (self.all + 1, self.length + more);
        }
    }

    /// Notes that it does not ask for it any more; says whether it was kept.
    pub fn remove(&mut self, sender: &Sender, prefix: &[u8]) -> bool {
        let hash = self.hashes.hash_one(prefix);
        let more = self.adds(sender, prefix);
        let Some(seat) = self.seats.get_mut(&sender.fd) else {
            return false;
        };
        let Some(removed) = seat.prefixes.remove(&hash) else {
            return false;
        };
        seat.length -= more;
        (self.all, self.length) = (self.all - 1, self.length - more);
        removed.is_some()
    }

    /// Forgets a connection; gives the prefixes that were kept.
    pub fn leave(&mut self, fd: RawFd) -> impl Iterator<Item = Box<[u8]>> {
        let seat = self.seats.remove(&fd);
        if let Some(seat) = &seat {
            (self.all, self.length) = (self.all - seat.prefixes.len(), self.length - seat.length);
        }
        let prefixes = seat.into_iter().flat_map(|seat| seat.prefixes);
        prefixes.filter_map(|(_, kept)| kept)
    }

    /// Every connection.
    pub fn each(&self) -> impl Iterator<Item = &Seat> {
        self.seats.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded_whatever_is_taken_back() {
        let rules = PeerRules {
            max_subscriptions: 3,
            max_all_subscriptions: 5,
            ..PeerRules::default()
        };
        let of = |fd| Sender {
            fd,
            number: 1,
            node: None,
            address: None,
        };
        let (mut seats, now) = (Seats::default(), Instant::now());
        assert!(seats.came(&of(1), &rules, now) && seats.came(&of(2), &rules, now));
        for n in 0..3u8 {
            assert!(seats.has_room(&of(1), &[n], &rules));
            seats.put(&of(1), &[n], n == 0);
            // Taking back what was never asked for makes no room.
            assert!(!seats.remove(&of(1), b"never"));
        }
        assert!(!seats.has_room(&of(1), b"", &rules));
        seats.put(&of(1), &[1], false);
        seats.put(&of(2), &[1], true);
        seats.put(&of(2), &[2], true);
        assert!(!seats.has_room(&of(2), b"", &rules), "of all");
        assert!(seats.remove(&of(2), &[2]) && !seats.remove(&of(2), &[2]));
        assert!(!seats.remove(&of(1), &[1]) && !seats.has(&of(1), &[1]));
        assert_eq!(seats.leave(1).collect::<Vec<_>>(), [[0].into()]);
        assert_eq!(
            (seats.all, seats.number(2), seats.number(1)),
            (1, Some(1), None)
        );
        // What is long counts for more than one.
        let (long, longer) = ([0; 3 * MEAN_LENGTH - 1], [0; 3 * MEAN_LENGTH]);
        assert!(seats.has_room(&of(2), &long, &rules) && !seats.is_full(&of(2), &long, &rules));
        assert!(!seats.has_room(&of(2), &longer, &rules) && seats.is_full(&of(2), &longer, &rules));
        seats.put(&of(2), &long, false);
        assert!(!seats.has_room(&of(2), b"x", &rules) && !seats.remove(&of(2), &long));
        assert!(seats.has_room(&of(2), &long, &rules));
        assert!(seats.came(&of(3), &rules, now));
        seats.put(&of(3), &long, false);
        seats.put(&of(2), &long[2 * MEAN_LENGTH..], false);
        assert!(!seats.is_full(&of(2), &long[MEAN_LENGTH..], &rules));
        assert!(
            !seats.has_room(&of(2), &long[MEAN_LENGTH..], &rules),
            "of all"
        );
        let _ = seats.leave(2).count() + seats.leave(3).count();
        assert_eq!((seats.all, seats.length), (0, 0));
    }

    #[test]
    fn the_two_forms_of_a_topic_count_as_one() {
        let of = Sender {
            fd: 1,
            number: 1,
            node: None,
            address: None,
        };
        let (mut seats, now) = (Seats::default(), Instant::now());
        assert!(seats.came(&of, &PeerRules::default(), now));
        let (bare, ended, other) = (&b"topic"[..], &b"topic\0"[..], &b"\0"[..]);
        let all = [(bare, 5), (ended, 6), (other, 7), (&b""[..], 7)];
        for order in [[0, 1, 2, 3], [1, 3, 2, 0], [3, 2, 0, 1]] {
            for place in order {
                seats.put(&of, all[place].0, false);
            }
            assert_eq!((seats.all, seats.length), (4, 7), "{order:?}");
            for place in order {
                seats.remove(&of, all[place].0);
            }
            assert_eq!((seats.all, seats.length), (0, 0), "{order:?}");
        }
    }

    #[test]
    fn what_is_counted_is_what_is_there() {
        let of = Sender {
            fd: 1,
            number: 1,
            node: None,
            address: None,
        };
        let mut random = fastrand::Rng::with_seed(8);
        let (mut seats, now) = (Seats::default(), Instant::now());
        assert!(seats.came(&of, &PeerRules::default(), now));
        let mut there = std::collections::BTreeSet::<Vec<u8>>::new();
        // Of a pair the longer one.
        let counted = |there: &std::collections::BTreeSet<Vec<u8>>| -> usize {
            let is_half = |one: &&Vec<u8>| {
                !one.ends_with(&[0]) && there.contains(&[one.as_slice(), &[0]].concat())
            };
            let lengths = there.iter().filter(|one| !is_half(one)).map(Vec::len);
            lengths.sum()
        };
        for change in 0..20_000 {
            let prefix: Vec<u8> = (0..random.usize(0..5)).map(|_| random.u8(0..2)).collect();
            if random.bool() {
                seats.put(&of, &prefix, false);
                there.insert(prefix);
            } else {
                seats.remove(&of, &prefix);
                there.remove(&prefix);
            }
            let all = (seats.all, seats.length);
            assert_eq!(all, (there.len(), counted(&there)), "{change}");
        }
        for prefix in there {
            seats.remove(&of, &prefix);
        }
        assert_eq!((seats.all, seats.length, seats.seats[&1].length), (0, 0, 0));
    }

    #[test]
    fn changes_are_bounded_whatever_they_are() {
        let rules = PeerRules {
            max_subscriptions: 500,
            ..PeerRules::default()
        };
        let of = |fd| Sender {
            fd,
            number: 1,
            node: None,
            address: None,
        };
        let (mut seats, start) = (Seats::default(), Instant::now());
        assert!((0..2_000).all(|_| seats.came(&of(1), &rules, start)));
        assert!(!seats.came(&of(1), &rules, start) && seats.came(&of(2), &rules, start));
        let later = start + std::time::Duration::from_millis(10);
        assert!((0..10).all(|_| seats.came(&of(1), &rules, later)));
        assert!(!seats.came(&of(1), &rules, later));
    }
}
