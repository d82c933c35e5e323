//! What the sockets of one party are secured with.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::admitted::Admitted;
use super::key::{PublicKey, SecretKey};

/// The entry of `publisher_keys` for every publisher that has none of its own.
pub const ANY: &str = "*";

/// Publishers whose turn is remembered; a discovered one may come and go under any address.
const MAX_TURNS: usize = 1024;

/// A publisher's: its own key, and who was admitted to its sockets.
#[derive(Debug, Clone)]
pub struct ServerKey {
    /// Its own.
    pub secret: SecretKey,
    /// What the gate knows, too.
    pub admitted: Admitted,
}

impl ServerKey {
    /// Of sockets to which nobody was admitted yet.
    pub fn new(secret: SecretKey) -> Self {
        ServerKey {
            secret,
            admitted: Admitted::default(),
        }
    }
}

/// An agent's: its own key, and those of the publishers that it trusts.
#[derive(Debug)]
pub struct NodeKeys {
    /// Its own.
    pub secret: SecretKey,
    publishers: BTreeMap<String, Vec<PublicKey>>,
    /// Whose turn it is of the keys that a publisher, by address, is known by.
    turns: Mutex<BTreeMap<String, usize>>,
}

impl NodeKeys {
    /// An agent's own key and the publishers' by address in canonical form, or [`ANY`]. Of several,
    /// a publisher must prove to have one: while its key is changed, that is the old or the new one.
    pub fn new(secret: SecretKey, publishers: BTreeMap<String, Vec<PublicKey>>) -> Self {
        NodeKeys {
            secret,
            publishers,
            turns: Mutex::default(),
        }
    }

    fn known(&self, uri: &str) -> &[PublicKey] {
        let own = self.publishers.get(uri);
        let known = own.or_else(|| self.publishers.get(ANY));
        known.map_or(&[], Vec::as_slice)
    }

    /// The key that the publisher at `uri` must prove to have, in this attempt; `None`: there is no
    /// reason to trust it.
    pub fn of_publisher(&self, uri: &str) -> Option<&PublicKey> {
        let known = self.known(uri);
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.get(uri).copied().unwrap_or(0);
        known.get(turn.checked_rem(known.len())?)
    }

    /// Whose turn it is with the publisher at `uri`.
    pub fn turn(&self, uri: &str) -> usize {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get(uri).copied().unwrap_or(0)
    }

    /// The publisher at `uri` was reached, or not, with the key whose turn this was: it keeps it, or
    /// the next one has it. A client can try one only, and is not told that it is the wrong one.
    pub fn tried(&self, uri: &str, turn: usize, reached: bool) {
        if self.known(uri).len() < 2 {
            return;
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= MAX_TURNS {
            turns.clear();
        }
        let next = turn.wrapping_add(usize::from(!reached));
        turns.insert(uri.to_owned(), next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_a_publisher_has_its_turn() {
        let key = |byte| PublicKey::new([byte; 32]);
        let publishers = [
            (ANY.to_owned(), vec![key(1), key(2)]),
            ("tcp://a:1".to_owned(), vec![key(3)]),
            ("tcp://b:1".to_owned(), vec![]),
        ];
        let keys = NodeKeys::new(SecretKey::random().unwrap(), publishers.into());
        let tried = |uri: &str| {
            let tried = keys.of_publisher(uri).copied();
            keys.tried(uri, keys.turn(uri), false);
            tried
        };
        let of = |uri| [tried(uri), tried(uri), tried(uri)];
        assert_eq!(of("tcp://c:1"), [Some(key(1)), Some(key(2)), Some(key(1))]);
        // What is heard of late changes nothing.
        keys.tried("tcp://c:1", 3, true);
        assert_eq!(keys.of_publisher("tcp://c:1"), Some(&key(2)));
        // One does not depend on another.
        assert_eq!(keys.of_publisher("tcp://d:1"), Some(&key(1)));
        assert_eq!(of("tcp://a:1"), [Some(key(3)); 3]);
        assert_eq!(of("tcp://b:1"), [None; 3]);
        for n in 0..3 * MAX_TURNS {
            keys.tried(&format!("tcp://{n}:1"), 0, false);
        }
        assert!(keys.turns.lock().unwrap().len() <= MAX_TURNS);
    }
}
