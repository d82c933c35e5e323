//! What was sent to clients and has not arrived there: pure.
//!
//! libzmq bounds the answers that it keeps for a client by their number, and they may be long. So their bytes
//! are bounded here, of one client and of all; whoever takes what it is sent never notices.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::admission::{Client, Owner};

/// Most that waits for one client before it is sent more. An agent has four questions under way, whose answers
/// are mostly half a megabyte long at most.
const CLIENT: usize = 4 << 20;

/// The same of all clients together.
const ALL: usize = 256 << 20;

/// Who has at least so much of that on all its connections makes room for others; an agent has one. Who has
/// less, and takes nothing, is ended as whoever takes nothing ([`crate::pubsub::driver::zmq::watch`]).
const OWNER: usize = 16 << 20;

/// Answers that are no longer are sent all the same, or nobody could be told to come again.
const SHORT: usize = 1 << 10;

/// How often all are measured: each costs a system call.
const MEASURED: Duration = Duration::from_millis(100);

/// Of those who seem to have most, so many are measured before somebody is ended.
const CANDIDATES: usize = 8;

/// Whether there is room for an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Full,
    /// Once this connection is ended: it makes room.
    After(RawFd),
}

#[derive(Debug)]
struct Debt {
    fd: RawFd,
    owner: Owner,
    /// What was sent to it and had not arrived when it was measured last.
    bytes: usize,
    /// What had arrived in all then.
    arrived: u64,
    /// It counts no more, and is sent nothing more.
    ended: bool,
}

/// What all clients have yet to take, as far as they were heard.
#[derive(Debug, Default)]
pub(super) struct Debts {
    clients: HashMap<Client, Debt>,
    connections: HashMap<RawFd, Client>,
    /// Of all that were not ended, and of those that were.
    bytes: usize,
    ending: usize,
    measured: Option<Instant>,
}

impl Debts {
    /// A client has asked something, on a connection of `owner`.
    pub(super) fn heard(&mut self, client: &[u8], fd: RawFd, owner: impl FnOnce() -> Owner) {
        if self.clients.get(client).is_some_and(|debt| debt.fd == fd) {
            return;
        }
        self.gone(fd);
        if let Some(other) = self.clients.get(client).map(|debt| debt.fd) {
            self.gone(other);
        }
        let debt = Debt {
            fd,
            owner: owner(),
            bytes: 0,
            arrived: 0,
            ended: false,
        };
        self.clients.insert(client.into(), debt);
        self.connections.insert(fd, client.into());
    }

    /// A connection has ended.
    pub(super) fn gone(&mut self, fd: RawFd) {
        let client = self.connections.remove(&fd);
        if let Some(debt) = client.and_then(|client| self.clients.remove(&client)) {
            match debt.ended {
                true => self.ending -= debt.bytes,
                false => self.bytes -= debt.bytes,
            }
        }
    }

    /// Whether `client` may be sent an answer of so many bytes; `arrived` says what has arrived on a connection,
    /// where that is known.
    pub(super) fn room(
        &mut self,
        client: &[u8],
        length: usize,
        now: Instant,
        arrived: impl Fn(RawFd) -> Option<u64>,
    ) -> Room {
        // One that is not known is gone: it cannot be sent anything.
        let Some(debt) = self.clients.get_mut(client) else {
            return Room::Free;
        };
        if !debt.ended {
            measure(debt, &mut self.bytes, &arrived);
        }
        if debt.ended || debt.bytes > 0 && debt.bytes + length > CLIENT {
            return if length > SHORT {
                Room::Full
            } else {
                Room::Free
            };
        }
        if length <= SHORT || self.bytes() + length <= ALL {
            return Room::Free;
        }
        self.measure(now, &arrived);
        for _ in 0..CANDIDATES {
            if self.bytes() + length <= ALL {
                return Room::Free;
            }
            if self.bytes + length <= ALL {
                // As soon as those are gone who were ended.
                return Room::Full;
            }
            let Some(client) = self.most() else {
                return Room::Full;
            };
            if let Some(debt) = self.clients.get_mut(&client) {
                let before = debt.bytes;
                measure(debt, &mut self.bytes, &arrived);
                if debt.bytes == before {
                    return Room::After(debt.fd);
                }
            }
        }
        Room::Full
    }

    /// The client was sent so many bytes.
    pub(super) fn sent(&mut self, client: &[u8], length: usize) {
        if let Some(debt) = self.clients.get_mut(client)
            && !debt.ended
        {
            debt.bytes += length;
            self.bytes += length;
        }
    }

    /// A connection was ended; it takes a moment until it is gone.
    pub(super) fn ended(&mut self, fd: RawFd) {
        let client = self.connections.get(&fd);
        if let Some(debt) = client.and_then(|client| self.clients.get_mut(client))
            && !debt.ended
        {
            debt.ended = true;
            self.bytes -= debt.bytes;
            self.ending += debt.bytes;
        }
    }

    /// Looks what has arrived; nothing where that was done just now.
    pub(super) fn measure(&mut self, now: Instant, arrived: impl Fn(RawFd) -> Option<u64>) {
        let rested = |last| now.saturating_duration_since(last) >= MEASURED;
        if self.bytes > 0 && self.measured.is_none_or(rested) {
            self.measured = Some(now);
            let owing = |debt: &&mut Debt| debt.bytes > 0 && !debt.ended;
            for debt in self.clients.values_mut().filter(owing) {
                measure(debt, &mut self.bytes, &arrived);
            }
        }
    }

    /// What all have yet to take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.ending
    }

    /// Whoever has most to take, of the connections of the owner who has, if that is much: with many connections
    /// that take little nobody has others ended.
    fn most(&self) -> Option<Client> {
        let mut owners: HashMap<&[u8], (usize, usize, &Client)> = HashMap::new();
        for (client, debt) in self.clients.iter() {
            if debt.bytes == 0 || debt.ended {
                continue;
            }
            let owner = owners.entry(&debt.owner).or_insert((0, 0, client));
            owner.0 += debt.bytes;
            if debt.bytes > owner.1 {
                (owner.1, owner.2) = (debt.bytes, client);
            }
        }
        let most = owners.into_values().max_by_key(|(all, ..)| *all);
        let most = most.filter(|(all, ..)| *all >= OWNER);
        most.map(|(.., client)| client.clone())
    }
}

fn measure(debt: &mut Debt, all: &mut usize, arrived: impl Fn(RawFd) -> Option<u64>) {
    let before = debt.bytes;
    debt.bytes = match arrived(debt.fd) {
        Some(arrived) => {
            let more = arrived.saturating_sub(std::mem::replace(&mut debt.arrived, arrived));
            before.saturating_sub(usize::try_from(more).unwrap_or(usize::MAX))
        }
        // On this host: the number of answers is all that can be known.
        None => 0,
    };
    *all -= before - debt.bytes;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MB: usize = 1 << 20;

    fn of(owner: &str) -> impl FnOnce() -> Owner {
        || owner.as_bytes().into()
    }

    fn name(number: usize) -> [u8; 8] {
        number.to_be_bytes()
    }

    #[test]
    fn who_does_not_take_what_it_is_sent_is_sent_no_more() {
        let (mut debts, now, arrived) = (Debts::default(), Instant::now(), Cell::new(500));
        let arrives = |_| Some(arrived.get());
        assert_eq!(debts.room(b"a", MB, now, arrives), Room::Free, "not known");
        debts.heard(b"a", 7, of("n1"));
        // One of any length; and then as much as it may have.
        for (length, more, room) in [
            (16 * MB, 0, Room::Free),
            (SHORT + 1, 0, Room::Full),
            (SHORT, 0, Room::Free),
            (MB, 14 * MB, Room::Free),
            (MB, 0, Room::Full),
            (MB, 4 * MB, Room::Free),
        ] {
            arrived.set(arrived.get() + more as u64);
            assert_eq!(debts.room(b"a", length, now, arrives), room, "{length}");
            if room == Room::Free {
                debts.sent(b"a", length);
            }
        }
        assert_eq!(debts.bytes(), MB);
        // More than was sent, for what libzmq adds.
        arrived.set(arrived.get() + 2 * MB as u64);
        debts.measure(now, arrives);
        assert_eq!(debts.bytes(), 0);
        debts.sent(b"a", MB);
        debts.heard(b"a", 7, of("n1"));
        assert_eq!(debts.bytes(), MB, "the same connection");
        debts.heard(b"b", 7, of("n1"));
        assert!(debts.bytes() == 0 && debts.clients.len() == 1, "another");
        debts.sent(b"b", MB);
        debts.heard(b"b", 8, of("n1"));
        assert_eq!((debts.bytes(), debts.connections.len()), (0, 1));
        debts.sent(b"b", MB);
        // Nobody can tell on a unix socket.
        assert_eq!(debts.room(b"b", 16 * MB, now, |_| None), Room::Free);
        debts.gone(8);
        assert!(debts.clients.is_empty() && debts.connections.is_empty() && debts.bytes == 0);
    }

    #[test]
    fn the_owner_with_most_makes_room() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        let nothing = |_| Some(0);
        // An owner of many that have little each, and one whose only one has more.
        let many = ALL / (2 * MB) - 1;
        for number in 0..many {
            debts.heard(&name(number), number as RawFd, of("many"));
            assert_eq!(debts.room(&name(number), 2 * MB, now, nothing), Room::Free);
            debts.sent(&name(number), 2 * MB);
        }
        debts.sent(&name(5), MB / 2);
        debts.heard(b"slow", 1_000, of("slow"));
        debts.sent(b"slow", 3 * MB / 2);
        assert_eq!(debts.bytes(), ALL);
        debts.heard(b"new", 1_001, of("new"));
        let later = now + MEASURED;
        assert_eq!(debts.room(b"new", MB, later, nothing), Room::After(5));
        debts.ended(5);
        assert_eq!(debts.room(&name(5), MB, later, nothing), Room::Full);
        assert_eq!(
            debts.room(b"new", MB, later, nothing),
            Room::Full,
            "not gone yet"
        );
        debts.gone(5);
        assert_eq!(debts.room(b"new", MB, later, nothing), Room::Free);
        debts.sent(b"new", MB);
        assert_eq!(debts.bytes(), ALL - 3 * MB / 2);
        // Who has taken it meanwhile is not ended.
        debts.sent(b"new", 3 * MB / 2);
        debts.heard(b"newer", 1_002, of("newer"));
        let taken = |_| Some(2 * MB as u64);
        let room = debts.room(b"newer", MB, later, nothing);
        assert!(matches!(room, Room::After(0..1_000)), "{room:?}");
        assert_eq!(debts.room(b"newer", MB, later, taken), Room::Free);
        assert_eq!(debts.bytes(), ALL - 2 * MB, "one of them was measured");
        debts.measure(later, taken);
        assert_eq!(debts.bytes(), ALL - 2 * MB, "just now");
        debts.measure(later + MEASURED, taken);
        assert_eq!(debts.bytes(), MB / 2);
    }

    #[test]
    fn nobody_is_ended_for_what_an_agent_may_have() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        for number in 0..ALL / CLIENT {
            let owner = number.to_string();
            debts.heard(&name(number), number as RawFd, of(&owner));
            assert_eq!(
                debts.room(&name(number), CLIENT, now, |_| Some(0)),
                Room::Free
            );
            debts.sent(&name(number), CLIENT);
        }
        debts.heard(b"new", 1_000, of("new"));
        assert_eq!(debts.room(b"new", MB, now, |_| Some(0)), Room::Full);
        assert_eq!(debts.room(b"new", SHORT, now, |_| Some(0)), Room::Free);
    }
}
