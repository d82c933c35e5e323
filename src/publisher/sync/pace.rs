//! How many requests a client may make in a second, and how many more before its connection is ended; and the
//! same of all who come from one address, where that is all that is known of them: pure.
//!
//! libzmq hands over what has come in turn, one of each connection. So somebody with a thousand connections
//! would have asked a thousand times as much as one may before any of them had; what is not read yet waits in
//! memory meanwhile. And where requests come faster than they are read, there must be an end to that however slow
//! the reader is: so of addresses no time passes but when nothing waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::admission::Client;
use crate::util::bucket::Bucket;

/// Clients, and addresses, that are kept in mind. One that is forgotten begins anew.
const MOST: usize = 16_384;

/// An allowance fills up within this.
const FULL: Duration = Duration::from_secs(PATIENCE as u64);

/// Requests beyond its pace that a client may make, in seconds of it, and how many at least. An agent
/// makes a few before it waits.
const PATIENCE: f64 = 4.0;
const PATIENCE_AT_LEAST: f64 = 1_000.0;

/// An address may ask as much as so many clients, and the same once more. Agents that are told to come again
/// make four requests each half second, so this is enough for 3,000 of them behind one address, all of which
/// are in the middle of a repair.
const CLIENTS: f64 = 16.0;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Permit {
    /// It is looked at.
    Go,
    /// The client is to come again.
    Hurried,
    /// The client does not listen: its connection is ended.
    Flood,
}

/// Requests per second, and how many may come beyond these.
#[derive(Debug, Clone, Copy)]
struct Limits {
    rate: f64,
    patience: f64,
}

#[derive(Debug, Clone, Copy)]
struct Allowance {
    requests: Bucket,
    /// Requests that may still come beyond these.
    patience: Bucket,
}

impl Allowance {
    fn full(limits: Limits, now: Instant) -> Self {
        Allowance {
            requests: Bucket::full(limits.rate, now),
            patience: Bucket::full(limits.patience, now),
        }
    }

    fn permit(&mut self, limits: Limits, now: Instant) -> Permit {
        let Limits { rate, patience } = limits;
        if self.requests.take(rate, rate, now) {
            Permit::Go
        } else if self.patience.take(patience, rate, now) {
            Permit::Hurried
        } else {
            Permit::Flood
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.requests.counted()) >= FULL
    }
}

/// The allowances of clients that have asked lately, and of their addresses.
#[derive(Debug)]
pub(super) struct Pace {
    client: Limits,
    address: Limits,
    clients: HashMap<Client, Allowance>,
    addresses: HashMap<IpAddr, Allowance>,
    /// When nothing waited last.
    idle: Instant,
}

impl Pace {
    /// So many requests per second of one client.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate.max(1));
        Pace {
            client: Limits {
                rate,
                patience: (PATIENCE * rate).max(PATIENCE_AT_LEAST),
            },
            address: Limits {
                rate: CLIENTS * rate,
                patience: (CLIENTS * rate).max(PATIENCE_AT_LEAST),
            },
            clients: HashMap::new(),
            addresses: HashMap::new(),
            idle: now,
        }
    }

    /// No request waits.
    pub(super) fn idle(&mut self, now: Instant) {
        self.idle = now;
    }

    /// Whether `client` may make a request now, of whatever kind; from this address, where whoever is there
    /// counts as one.
    pub(super) fn permit(
        &mut self,
        client: &[u8],
        address: Option<IpAddr>,
        now: Instant,
    ) -> Permit {
        if !self.clients.contains_key(client) {
            make_room(&mut self.clients, now);
            let full = Allowance::full(self.client, now);
            self.clients.insert(client.into(), full);
        }
        let own = self.clients.get_mut(client);
        let own = own.map_or(Permit::Go, |own| own.permit(self.client, now));
        let Some(address) = address else { return own };
        if !self.addresses.contains_key(&address) {
            make_room(&mut self.addresses, self.idle);
        }
        let full = Allowance::full(self.address, self.idle);
        let all = self.addresses.entry(address).or_insert(full);
        own.max(all.permit(self.address, self.idle))
    }

    /// Forgets those whose allowance is full again.
    pub(super) fn tick(&mut self, now: Instant) {
        self.clients.retain(|_, own| !own.is_full(now));
        self.addresses.retain(|_, all| !all.is_full(self.idle));
    }
}

/// For one more.
fn make_room<K: Eq + Hash>(all: &mut HashMap<K, Allowance>, now: Instant) {
    if all.len() < MOST {
        return;
    }
    all.retain(|_, own| !own.is_full(now));
    if all.len() >= MOST {
        // More have asked within a few seconds than are kept: each has asked little.
        all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        for _ in 0..10 {
            assert_eq!(pace.permit(b"a", None, start), Permit::Go);
        }
        assert_eq!(pace.permit(b"a", None, start), Permit::Hurried);
        assert_eq!(pace.permit(b"b", None, start), Permit::Go);
        let later = start + Duration::from_millis(250);
        let all = [Permit::Go, Permit::Go, Permit::Hurried];
        assert_eq!([(); 3].map(|()| pace.permit(b"a", None, later)), all);
        pace.tick(later + FULL);
        assert!(pace.clients.is_empty());
    }

    #[test]
    fn who_does_not_listen_is_ended() {
        let mut now = Instant::now();
        let mut pace = Pace::new(10, now);
        // It is told so for a while.
        let mut hurried = 0;
        while pace.permit(b"a", None, now) != Permit::Flood {
            hurried += 1;
            now += Duration::from_millis(2);
            assert!(hurried < 2_000);
        }
        assert!(hurried >= 1_000, "{hurried}");
        now += Duration::from_secs(1);
        assert_eq!(pace.permit(b"a", None, now), Permit::Go, "after a pause");
    }

    #[test]
    fn many_connections_of_one_address_are_one_flood() {
        let (start, there) = (Instant::now(), IpAddr::from([10, 0, 0, 1]));
        let mut pace = Pace::new(10, start);
        let mut permit =
            |client: u32, there| pace.permit(&client.to_be_bytes(), Some(there), start);
        // None of them asks for more than it may.
        let all: Vec<Permit> = (0..2_000).map(|client| permit(client, there)).collect();
        let count = |wanted| all.iter().filter(|got| **got == wanted).count();
        assert_eq!((count(Permit::Go), count(Permit::Hurried)), (160, 1_000));
        assert!(all.is_sorted(), "told to come again, then ended");
        assert_eq!(permit(0, [10, 0, 0, 2].into()), Permit::Go, "another");
        // However long it takes to read them.
        let late = start + Duration::from_secs(100);
        assert_eq!(pace.permit(b"late", Some(there), late), Permit::Flood);
        pace.tick(late);
        assert_eq!(pace.permit(b"late", Some(there), late), Permit::Flood);
        pace.idle(late);
        assert_eq!(pace.permit(b"late", Some(there), late), Permit::Go);
    }

    /// Each in the middle of a repair, and told to come again.
    #[test]
    fn thousands_of_agents_behind_one_address_are_no_flood() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, start);
        let there = Some(IpAddr::from([10, 0, 0, 1]));
        for half in 0..20 {
            let now = start + Duration::from_millis(500 * half);
            pace.idle(now);
            for request in 0..4 * 3_000u32 {
                let agent = (request % 3_000).to_be_bytes();
                assert_ne!(pace.permit(&agent, there, now), Permit::Flood, "{half}");
            }
        }
    }

    #[test]
    fn clients_and_addresses_are_bounded() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        for client in 0..3 * MOST as u32 {
            let there = Some(IpAddr::from(client.to_be_bytes()));
            assert_eq!(pace.permit(&client.to_be_bytes(), there, start), Permit::Go);
            assert!(pace.clients.len() <= MOST && pace.addresses.len() <= MOST);
        }
        pace.idle(start + FULL);
        pace.tick(start + FULL);
        assert!(pace.clients.is_empty() && pace.addresses.is_empty());
    }
}
