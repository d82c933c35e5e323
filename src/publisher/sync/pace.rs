//! How many requests a client may make in a second, and how many more before its connection is ended: pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::admission::Client;
use crate::util::bucket::Bucket;

/// Clients that are kept in mind. One that is forgotten begins anew.
const CLIENTS: usize = 16_384;

/// A client's allowance fills up within this.
const FULL: Duration = Duration::from_secs(PATIENCE as u64);

/// Requests beyond its pace that a client may make, in seconds of it, and how many at least. An agent
/// makes a few before it waits.
const PATIENCE: f64 = 4.0;
const PATIENCE_AT_LEAST: f64 = 1_000.0;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// It is looked at.
    Go,
    /// The client is to come again.
    Hurried,
    /// The client does not listen: its connection is ended.
    Flood,
}

#[derive(Debug, Clone, Copy)]
struct Allowance {
    requests: Bucket,
    /// Requests that may still come beyond these.
    patience: Bucket,
}

/// The allowances of clients that have asked lately.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    clients: HashMap<Client, Allowance>,
}

impl Pace {
    /// So many requests per second.
    pub(super) fn new(rate: u32) -> Self {
        Pace {
            rate: f64::from(rate.max(1)),
            clients: HashMap::new(),
        }
    }

    /// Whether `client` may make a request now, of whatever kind.
    pub(super) fn permit(&mut self, client: &[u8], now: Instant) -> Permit {
        if !self.clients.contains_key(client) && self.clients.len() >= CLIENTS {
            self.tick(now);
            if self.clients.len() >= CLIENTS {
                // More have asked within a second than are kept: each has asked little.
                self.clients.clear();
            }
        }
        let (rate, patience) = (self.rate, (PATIENCE * self.rate).max(PATIENCE_AT_LEAST));
        let full = || Allowance {
            requests: Bucket::full(rate, now),
            patience: Bucket::full(patience, now),
        };
        let own = match self.clients.get_mut(client) {
            Some(own) => own,
            None => self.clients.entry(client.into()).or_insert_with(full),
        };
        if own.requests.take(rate, rate, now) {
            Permit::Go
        } else if own.patience.take(patience, rate, now) {
            Permit::Hurried
        } else {
            Permit::Flood
        }
    }

    /// Forgets the clients whose allowance is full again.
    pub(super) fn tick(&mut self, now: Instant) {
        let lately = |own: &Allowance| now.saturating_duration_since(own.requests.counted()) < FULL;
        self.clients.retain(|_, own| lately(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_pace() {
        let mut pace = Pace::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(pace.permit(b"a", start), Permit::Go);
        }
        assert_eq!(pace.permit(b"a", start), Permit::Hurried);
        assert_eq!(pace.permit(b"b", start), Permit::Go);
        let later = start + Duration::from_millis(250);
        let all = [Permit::Go, Permit::Go, Permit::Hurried];
        assert_eq!([(); 3].map(|()| pace.permit(b"a", later)), all);
        pace.tick(later + FULL);
        assert!(pace.clients.is_empty());
    }

    #[test]
    fn who_does_not_listen_is_ended() {
        let mut pace = Pace::new(10);
        let mut now = Instant::now();
        // It is told so for a while.
        let mut hurried = 0;
        while pace.permit(b"a", now) != Permit::Flood {
            hurried += 1;
            now += Duration::from_millis(2);
            assert!(hurried < 2_000);
        }
        assert!(hurried >= 1_000, "{hurried}");
        now += Duration::from_secs(1);
        assert_eq!(pace.permit(b"a", now), Permit::Go, "after a pause");
    }

    #[test]
    fn clients_are_bounded() {
        let mut pace = Pace::new(10);
        let start = Instant::now();
        for client in 0..3 * CLIENTS {
            assert_eq!(pace.permit(&client.to_be_bytes(), start), Permit::Go);
            assert!(pace.clients.len() <= CLIENTS);
        }
    }
}
