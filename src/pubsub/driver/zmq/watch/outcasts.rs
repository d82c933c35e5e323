//! Whom nobody listens to for a while, where peers prove nothing and an address is all that is known of
//! them: pure.
//!
//! Who has keys is kept out as a node, by the gate. An address may be shared, so it is cast out only for
//! what no agent does, and whoever shares it has to wait as well.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::util::bucket::Bucket;

/// How long an address is cast out.
const TERM: Duration = Duration::from_secs(60);

/// Addresses that are cast out at a time; those that come back soonest make room. The system compares
/// each newcomer with all of them, and older ones do not take in a list of more.
const MOST: usize = 64;

/// Handshakes that may fail from one address at once, and how many more a second. An agent with other
/// settings than its publisher's fails two a second at worst, with pauses that grow.
const FAILURES: f64 = 64.0;
const FAILURE_RATE: f64 = 2.0;

/// After this nothing is left of failures.
const FORGIVEN: Duration = Duration::from_secs(32);

/// Addresses whose failures are counted.
const COUNTED: usize = 4_096;

/// The addresses that are cast out, and those that may soon be.
#[derive(Debug, Default)]
pub struct Outcasts {
    out: HashMap<IpAddr, Instant>,
    failures: HashMap<IpAddr, Bucket>,
}

impl Outcasts {
    /// Casts an address out from now on; whether it was not.
    pub fn cast_out(&mut self, address: IpAddr, now: Instant) -> bool {
        self.failures.remove(&address);
        if self.out.len() >= MOST && !self.out.contains_key(&address) {
            let soonest = self.out.iter().min_by_key(|(_, until)| **until);
            if let Some(soonest) = soonest.map(|(address, _)| *address) {
                self.out.remove(&soonest);
            }
        }
        self.out.insert(address, now + TERM).is_none()
    }

    /// A handshake with this address has failed; whether it was one too many.
    pub fn failed(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.failures.len() >= COUNTED && !self.failures.contains_key(&address) {
            let forgiven = |at: Instant| now.saturating_duration_since(at) >= FORGIVEN;
            self.failures
                .retain(|_, bucket| !forgiven(bucket.counted()));
            if self.failures.len() >= COUNTED {
                // Somebody has thousands of addresses: nothing is gained by counting.
                self.failures.clear();
            }
        }
        let full = Bucket::full(FAILURES, now);
        let bucket = self.failures.entry(address).or_insert(full);
        !bucket.take(FAILURES, FAILURE_RATE, now)
    }

    /// Whether an address is cast out.
    pub fn has(&self, address: IpAddr) -> bool {
        self.out.contains_key(&address)
    }

    /// Lets those in whose time is over; whether there were any.
    pub fn let_in(&mut self, now: Instant) -> bool {
        let before = self.out.len();
        self.out.retain(|_, until| *until > now);
        self.out.len() < before
    }

    /// All of them, those first who stay longest.
    pub fn all(&self) -> Vec<IpAddr> {
        let mut all: Vec<_> = self.out.iter().collect();
        all.sort_unstable_by_key(|(_, until)| Reverse(**until));
        all.into_iter().map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_address_is_out_for_a_minute() {
        let (mut outcasts, start) = (Outcasts::default(), Instant::now());
        assert!(outcasts.cast_out(address(1), start));
        assert!(outcasts.has(address(1)) && !outcasts.has(address(2)));
        let later = start + TERM / 2;
        assert!(!outcasts.cast_out(address(1), later), "it was out already");
        assert!(!outcasts.let_in(start + TERM) && outcasts.has(address(1)));
        assert!(outcasts.let_in(later + TERM) && !outcasts.has(address(1)));
        assert!(outcasts.all().is_empty());
    }

    #[test]
    fn those_who_come_back_soonest_make_room() {
        let (mut outcasts, start) = (Outcasts::default(), Instant::now());
        let most = MOST as u32;
        for number in 0..most {
            let at = start + Duration::from_millis(number.into());
            assert!(outcasts.cast_out(address(number), at));
        }
        outcasts.cast_out(address(3), start + TERM / 2);
        assert!(outcasts.has(address(0)), "there was room for it");
        outcasts.cast_out(address(most), start + TERM / 2);
        outcasts.cast_out(address(most + 1), start + TERM / 2);
        let all: Vec<_> = (0..most + 2)
            .filter(|n| outcasts.has(address(*n)))
            .collect();
        assert_eq!(all, (2..most + 2).collect::<Vec<_>>());
        let all = outcasts.all();
        assert_eq!((all.len(), all[MOST - 1]), (MOST, address(2)));
    }

    #[test]
    fn a_few_failures_are_forgiven() {
        let (mut outcasts, start) = (Outcasts::default(), Instant::now());
        let all = FAILURES as u32;
        assert!((0..all).all(|_| !outcasts.failed(address(1), start)));
        assert!(outcasts.failed(address(1), start) && !outcasts.failed(address(2), start));
        assert!(outcasts.cast_out(address(1), start));
        assert!(!outcasts.failed(address(1), start), "it begins anew");
        // One every second for ever.
        let at = |second| start + Duration::from_secs(second);
        assert!((0..10_000).all(|second| !outcasts.failed(address(3), at(second))));
    }

    #[test]
    fn failures_of_many_are_bounded() {
        let (mut outcasts, start) = (Outcasts::default(), Instant::now());
        for number in 0..3 * COUNTED as u32 {
            outcasts.failed(address(number), start);
            assert!(outcasts.failures.len() <= COUNTED);
        }
        let late = start + FORGIVEN;
        outcasts.failures.clear();
        for number in 0..COUNTED as u32 {
            let at = if number == 0 { late } else { start };
            outcasts.failed(address(number), at);
        }
        outcasts.failed(address(u32::MAX), late);
        assert_eq!(outcasts.failures.len(), 2, "those who failed just now");
    }
}
