//! The user id under which the ZAP handler admits a connection: the node's name and a number that
//! no other connection of this process has.
//!
//! What a peer sends comes with its user id, so the number tells connections of one node, and what
//! is late from those that are gone, apart.

use std::sync::atomic::{AtomicU64, Ordering};

/// Not part of a node's name.
const MARK: char = '#';

static LAST: AtomicU64 = AtomicU64::new(0);

/// The number and the user id of one more connection of the node `name`.
pub fn user_id(name: &str) -> (u64, String) {
    let number = LAST.fetch_add(1, Ordering::SeqCst) + 1;
    (number, format!("{name}{MARK}{number}"))
}

/// The name and the number in a user id.
pub fn read(user_id: &str) -> Option<(&str, u64)> {
    let (name, number) = user_id.rsplit_once(MARK)?;
    Some((name, number.parse().ok()?))
}

/// The highest number given so far: connections that are admitted later have a higher one.
pub fn latest() -> u64 {
    LAST.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_a_number() {
        let before = latest();
        let ((number, first), (_, second)) = (user_id("n1"), user_id("n1"));
        assert_eq!(read(&first), Some(("n1", number)));
        assert!(number > before);
        assert!(read(&second).unwrap().1 > number && latest() > number);
        for none in ["", "n1", "n1#", "#x", "n1#-1"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
