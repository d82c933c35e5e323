//! How many changes of subscriptions somebody may make with all connections: pure.
//!
//! libzmq takes in what has come of all connections before any of it is handed on. So somebody with many of them
//! would have changed its mind faster than that is read before any one of them had done so too often
//! ([`super::seats`]); and what is not read yet waits in memory. There must be an end to that however slow the
//! reader is: so no time passes here but when nothing waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::seats::{BURST, RATE};
use super::sender::Sender;
use crate::pubsub::api::PeerRules;
use crate::util::bucket::Bucket;

/// As many as so many connections may make at once, and each second: of one node no more are open, and where
/// nobody proves who it is there are agents enough behind an address.
const CONNECTIONS: usize = 16;

/// Owners that are kept in mind. One that is forgotten begins anew.
const MOST: usize = 16_384;

/// Nothing is left of changes after this without any; an address begins anew then.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Whose connections are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Node(Arc<str>),
    Address(IpAddr),
}

/// What each may still change.
#[derive(Debug)]
pub struct Changes {
    owners: HashMap<Owner, Bucket>,
    /// When nothing waited last.
    idle: Instant,
}

impl Changes {
    /// Of nobody.
    pub fn new(now: Instant) -> Self {
        Changes {
            owners: HashMap::new(),
            idle: now,
        }
    }

    /// No change waits.
    pub fn idle(&mut self, now: Instant) {
        self.idle = now;
    }

    /// Something came; whether whoever sent it may make a change.
    pub fn may(&mut self, sender: &Sender, rules: &PeerRules) -> bool {
        let owner = match (&sender.node, sender.address) {
            (Some(node), _) => Owner::Node(Arc::clone(node)),
            (None, Some(address)) => Owner::Address(address),
            // Of this host.
            (None, None) => return true,
        };
        let connections = CONNECTIONS as f64;
        let burst = connections * (BURST * rules.max_subscriptions) as f64;
        if !self.owners.contains_key(&owner) {
            self.make_room();
        }
        let full = Bucket::full(burst, self.idle);
        let changes = self.owners.entry(owner).or_insert(full);
        changes.take(burst, connections * RATE, self.idle)
    }

    /// For one more.
    fn make_room(&mut self) {
        if self.owners.len() < MOST {
            return;
        }
        let idle = self.idle;
        let lately = |all: &Bucket| idle.saturating_duration_since(all.counted()) < FORGOTTEN;
        self.owners.retain(|_, all| lately(all));
        if self.owners.len() >= MOST {
            // Within a minute each has made few.
            self.owners.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fd: i32, node: Option<&str>, last: u8) -> Sender {
        Sender {
            fd,
            number: 0,
            node: node.map(Into::into),
            address: Some([10, 0, 0, last].into()),
        }
    }

    const RULES: fn() -> PeerRules = || PeerRules {
        max_subscriptions: 10,
        ..PeerRules::default()
    };

    #[test]
    fn many_connections_are_one_where_they_are_of_one() {
        let start = Instant::now();
        let mut changes = Changes::new(start);
        let most = CONNECTIONS * BURST * 10;
        for node in [None, Some("n1")] {
            let may = |changes: &mut Changes, fd: usize, last| {
                changes.may(&of(fd as i32, node, last), &RULES())
            };
            let made = (0..2 * most).take_while(|fd| may(&mut changes, *fd, 1));
            assert_eq!(made.count(), most);
            assert_eq!(may(&mut changes, 0, 2), node.is_none(), "another address");
            changes.idle(start + Duration::from_secs(1));
            assert!(may(&mut changes, 0, 1), "nothing waited since");
            changes.idle(start);
        }
        assert!(changes.may(&of(0, Some("n2"), 1), &RULES()), "another node");
    }

    #[test]
    fn what_is_kept_of_them_is_bounded() {
        let start = Instant::now();
        let mut changes = Changes::new(start);
        for number in 0..3 * MOST {
            changes.may(&of(0, Some(&number.to_string()), 1), &RULES());
            assert!(changes.owners.len() <= MOST);
        }
        changes.idle(start + FORGOTTEN);
        changes.make_room();
        changes.may(&of(0, Some("last"), 1), &RULES());
        assert!(changes.owners.contains_key(&Owner::Node("last".into())));
    }
}
