//! Answers that were made once and are given to all who ask for the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// An encoded answer, with whatever tag.
pub(super) type Body = Arc<[u8]>;

/// What an answer takes beside its bytes, about.
pub(super) const OVERHEAD: usize = 256;

/// Names a piece of a topic's journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub incarnation: u64,
    pub topic: Arc<str>,
    pub after: u64,
}

#[derive(Debug)]
struct Entry {
    body: Body,
    used: Instant,
    /// When it is not to be given any more; never where it cannot change.
    until: Option<Instant>,
}

/// Pieces of the journal.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

impl Cache {
    /// What is kept under `key`.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Body> {
        let entry = self.entries.get_mut(key)?;
        if entry.until.is_some_and(|until| until <= now) {
            self.remove(key);
            return None;
        }
        entry.used = now;
        Some(Arc::clone(&entry.body))
    }

    /// Keeps an answer, until a time where one is given.
    pub(super) fn put(&mut self, key: Key, body: Body, until: Option<Instant>, now: Instant) {
        self.remove(&key);
        self.bytes += body.len() + OVERHEAD;
        let used = now;
        self.entries.insert(key, Entry { body, used, until });
    }

    /// What all takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What there is and when it was last used.
    pub(super) fn used(&self) -> impl Iterator<Item = (&Key, Instant)> {
        self.entries.iter().map(|(key, entry)| (key, entry.used))
    }

    /// Drops what is not to be given any more, or is of another incarnation.
    pub(super) fn tick(&mut self, incarnation: u64, now: Instant) {
        let mut bytes = 0;
        self.entries.retain(|key, entry| {
            let keep =
                key.incarnation == incarnation && entry.until.is_none_or(|until| until > now);
            bytes += if keep { entry.body.len() + OVERHEAD } else { 0 };
            keep
        });
        self.bytes = bytes;
    }

    /// Drops a piece.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.body.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(after: u64) -> Key {
        Key {
            incarnation: 1,
            topic: "t".into(),
            after,
        }
    }

    fn body(len: usize) -> Body {
        vec![0; len].into()
    }

    #[test]
    fn what_is_kept_is_counted() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for after in 0..4 {
            cache.put(key(after), body(100), None, now);
        }
        cache.put(key(3), body(50), None, now);
        assert_eq!(cache.bytes(), 350 + 4 * OVERHEAD);
        let later = now + Duration::from_secs(5);
        assert!(cache.get(&key(0), later).is_some());
        let used = cache.used().filter(|(_, used)| *used == later);
        assert_eq!(used.map(|(key, _)| key.after).collect::<Vec<_>>(), [0]);
        cache.remove(&key(1));
        cache.remove(&key(9));
        assert_eq!(cache.bytes(), 250 + 3 * OVERHEAD);
        cache.tick(2, later);
        assert_eq!((cache.bytes(), cache.used().count()), (0, 0));
    }

    #[test]
    fn what_can_change_is_given_for_a_while() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let until = start + Duration::from_millis(50);
        cache.put(key(1), body(10), Some(until), start);
        assert!(cache.get(&key(1), start).is_some());
        assert!(cache.get(&key(1), until).is_none());
        assert_eq!(cache.bytes(), 0);
    }
}
