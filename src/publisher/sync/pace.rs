//! How many requests a client may make in a second: pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::admission::Client;

/// Clients that are kept in mind. One that is forgotten begins anew.
const CLIENTS: usize = 16_384;

/// A client's allowance fills up within this.
const FULL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: f64,
    counted: Instant,
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

    /// Whether `client` may make a request now.
    pub(super) fn permit(&mut self, client: &[u8], now: Instant) -> bool {
        if !self.clients.contains_key(client) && self.clients.len() >= CLIENTS {
            self.tick(now);
            if self.clients.len() >= CLIENTS {
                // More have asked within a second than are kept: each has asked little.
                self.clients.clear();
            }
        }
        let rate = self.rate;
        let full = Allowance {
            left: rate,
            counted: now,
        };
        let own = self.clients.entry(client.into()).or_insert(full);
        let passed = now.saturating_duration_since(own.counted).as_secs_f64();
        own.left = (own.left + passed * rate).min(rate);
        own.counted = now;
        let may = own.left >= 1.0;
        if may {
            own.left -= 1.0;
        }
        may
    }

    /// Forgets the clients whose allowance is full again.
    pub(super) fn tick(&mut self, now: Instant) {
        let lately = |own: &Allowance| now.saturating_duration_since(own.counted) < FULL;
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
            assert!(pace.permit(b"a", start));
        }
        assert!(!pace.permit(b"a", start) && pace.permit(b"b", start));
        let later = start + Duration::from_millis(250);
        assert!(pace.permit(b"a", later) && pace.permit(b"a", later));
        assert!(!pace.permit(b"a", later));
        pace.tick(later + FULL);
        assert!(pace.clients.is_empty());
    }

    #[test]
    fn clients_are_bounded() {
        let mut pace = Pace::new(10);
        let start = Instant::now();
        for client in 0..3 * CLIENTS {
            assert!(pace.permit(&client.to_be_bytes(), start));
            assert!(pace.clients.len() <= CLIENTS);
        }
    }
}
