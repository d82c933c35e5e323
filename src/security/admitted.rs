//! What the gate and the sockets that it guards tell each other of the nodes that were admitted: which have said
//! nothing yet, and which are kept out for a while.
//!
//! libzmq tells whose a connection is with what comes on it, and not before. Whoever never ends its first message
//! is known by its address alone, and so it is looked for among those who were admitted from there and have said
//! nothing. It is one of these; so if all of them are one node, it is that.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a node stays out.
const BAN: Duration = Duration::from_secs(60);

/// How long those who say nothing are kept in mind, and for how long they can be told from others: half as long,
/// since a connection is older than it looks to who watches it.
const KEPT: Duration = Duration::from_secs(600);
const TOLD: Duration = Duration::from_secs(300);

/// Most that are kept in mind. Beyond, nobody is blamed for as long as those would have been that are forgotten.
const MOST: usize = 16_384;

/// Somebody who was admitted and has said nothing.
#[derive(Debug)]
struct Silent {
    node: Arc<str>,
    address: IpAddr,
    since: Instant,
}

#[derive(Debug, Default)]
struct Book {
    /// By number of admission.
    silent: BTreeMap<u64, Silent>,
    /// Until when somebody is missing in that.
    incomplete: Option<Instant>,
    /// Until when each is kept out.
    out: HashMap<Arc<str>, Instant>,
}

impl Book {
    fn forget(&mut self, now: Instant) {
        let is_old = |silent: &Silent| now.saturating_duration_since(silent.since) >= KEPT;
        while let Some(oldest) = self.silent.first_entry().filter(|e| is_old(e.get())) {
            oldest.remove();
        }
        if self.silent.len() >= MOST && self.silent.pop_first().is_some() {
            self.incomplete = Some(now + KEPT);
        }
    }
}

/// Shared by the gate and the sockets. The default knows of nobody.
#[derive(Debug, Clone, Default)]
pub struct Admitted(Arc<Mutex<Book>>);

impl Admitted {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of this node was admitted, under this number, higher than those before; from this address.
    pub fn came(&self, node: &str, number: u64, address: IpAddr, now: Instant) {
        let mut book = self.book();
        book.forget(now);
        let silent = Silent {
            node: node.into(),
            address: address.to_canonical(),
            since: now,
        };
        book.silent.insert(number, silent);
    }

    /// The connection with this number has said something.
    pub fn spoke(&self, number: u64) {
        self.book().silent.remove(&number);
    }

    /// Whose a connection from this address is that was first seen at `seen`, was admitted, and has said nothing;
    /// `None` where it may be that of several, or was seen too long ago.
    pub fn whose(&self, address: IpAddr, seen: Instant, now: Instant) -> Option<Arc<str>> {
        let book = self.book();
        let incomplete = book.incomplete.is_some_and(|until| until > now);
        if incomplete || now.saturating_duration_since(seen) > TOLD {
            return None;
        }
        let address = address.to_canonical();
        let there = |silent: &&Silent| silent.address == address;
        let mut nodes = book.silent.values().filter(there).map(|s| &s.node);
        let first = nodes.next()?;
        nodes.all(|other| other == first).then(|| first.clone())
    }

    /// Keeps a node out from now on, for a minute; whether it was not.
    pub fn keep_out(&self, node: Arc<str>, now: Instant) -> bool {
        let mut book = self.book();
        // No more than there are nodes.
        book.out.retain(|_, until| *until > now);
        book.out.insert(node, now + BAN).is_none()
    }

    /// Whether a node is kept out.
    pub fn is_out(&self, node: &str, now: Instant) -> bool {
        self.book().out.get(node).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_says_nothing_is_known_where_it_can_be_only_one() {
        let (admitted, start) = (Admitted::default(), Instant::now());
        let whose = |last| admitted.whose(address(last), start, start);
        for (node, number, last) in [("n1", 1, 1), ("n1", 2, 1), ("n2", 3, 2)] {
            admitted.came(node, number, address(last), start);
        }
        let mapped = "::ffff:10.0.0.2".parse().unwrap();
        assert_eq!(admitted.whose(mapped, start, start).as_deref(), Some("n2"));
        assert_eq!((whose(1).as_deref(), whose(3)), (Some("n1"), None));
        admitted.came("n3", 4, address(1), start);
        assert_eq!(whose(1), None, "it may be n1 or n3");
        admitted.spoke(1);
        assert_eq!(whose(1), None);
        admitted.spoke(2);
        assert_eq!(whose(1).as_deref(), Some("n3"));
    }

    #[test]
    fn nobody_is_blamed_for_who_may_be_forgotten() {
        let (admitted, start) = (Admitted::default(), Instant::now());
        admitted.came("n1", 1, address(1), start);
        let late = start + TOLD + Duration::from_millis(1);
        assert_eq!(admitted.whose(address(1), start, late), None);
        assert!(admitted.whose(address(1), late, late).is_some());
        admitted.came("n2", 2, address(2), start + KEPT);
        let whose = |at| admitted.whose(address(1), at, at);
        assert_eq!(whose(start + KEPT), None, "it is forgotten");
        for number in 3..3 + MOST as u64 {
            admitted.came("n2", number, address(2), start + KEPT);
        }
        assert_eq!(admitted.book().silent.len(), MOST);
        let whose = |at| admitted.whose(address(2), at, at);
        assert_eq!(whose(start + KEPT), None, "somebody is missing");
        assert!(whose(start + 2 * KEPT).is_some());
    }

    #[test]
    fn a_node_is_out_for_a_minute() {
        let (admitted, start) = (Admitted::default(), Instant::now());
        assert!(admitted.keep_out("n1".into(), start));
        assert!(!admitted.keep_out("n1".into(), start + BAN / 2));
        let at_end = start + BAN / 2 + BAN;
        let just_before = at_end.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(admitted.is_out("n1", just_before) && !admitted.is_out("n2", start));
        assert!(!admitted.is_out("n1", at_end));
        assert!(admitted.keep_out("n2".into(), at_end));
        assert_eq!(admitted.book().out.len(), 1);
    }
}
