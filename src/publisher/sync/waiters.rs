//! Who waits for an answer, and how many of them there may be.

use std::collections::HashMap;
use std::net::IpAddr;

use super::admission::{Client, Owner};

/// Requests of one client, and of all, that may wait.
const CLIENT_WAITING: usize = 16;
const ALL_WAITING: usize = 16_384;

/// One request that is not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub client: Client,
    /// Whose connection that is.
    pub owner: Owner,
    /// Where it comes from, where nothing else is known of it.
    pub address: Option<IpAddr>,
    pub tag: u64,
}

/// How many requests wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_client: HashMap<Client, usize>,
    all: usize,
}

impl Waiters {
    /// Whether another one of the client may.
    pub(super) fn room(&self, client: &[u8]) -> bool {
        let own = self.by_client.get(client).copied().unwrap_or(0);
        own < CLIENT_WAITING && self.all < ALL_WAITING
    }

    /// One begins to wait.
    pub(super) fn wait(&mut self, waiter: &Waiter) {
        *self.by_client.entry(waiter.client.clone()).or_default() += 1;
        self.all += 1;
    }

    /// One that waited is answered.
    pub(super) fn done(&mut self, waiter: &Waiter) {
        if let Some(count) = self.by_client.get_mut(&waiter.client) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&waiter.client);
            }
        }
    }

    /// How many wait.
    pub(super) fn all(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_the_room_of_all() {
        let mut waiters = Waiters::default();
        let of = |client: usize| Waiter {
            client: client.to_be_bytes().into(),
            owner: client.to_be_bytes().into(),
            address: None,
            tag: 1,
        };
        for _ in 0..CLIENT_WAITING {
            assert!(waiters.room(&of(1).client));
            waiters.wait(&of(1));
        }
        assert!(!waiters.room(&of(1).client) && waiters.room(&of(2).client));
        waiters.done(&of(1));
        waiters.done(&of(3));
        assert!(waiters.room(&of(1).client));
        for client in 2.. {
            if !waiters.room(&of(client).client) {
                break;
            }
            waiters.wait(&of(client));
        }
        assert_eq!(waiters.all(), ALL_WAITING);
    }
}
