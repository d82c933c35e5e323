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

    /// When that which was not used for longest was used.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.used).min()
    }

    /// Drops what was last used up to `used`.
    pub(super) fn drop_upto(&mut self, used: Instant) {
        self.retain(|_, entry| entry.used > used);
    }

    /// Drops what is not to be given any more, or is of another incarnation.
    pub(super) fn tick(&mut self, incarnation: u64, now: Instant) {
        self.retain(|key, entry| {
            key.incarnation == incarnation && entry.until.is_none_or(|until| until > now)
        });
    }

    fn retain(&mut self, mut keep: impl FnMut(&Key, &Entry) -> bool) {
        let mut bytes = 0;
        self.entries.retain(|key, entry| {
            let keep = keep(key, entry);
            bytes += if keep { entry.body.len() + OVERHEAD } else { 0 };
            keep
        });
        self.bytes = bytes;
    }

    fn remove(&mut self, key: &Key) {
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
    fn what_is_kept_is_counted_and_goes_in_the_order_of_its_use() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for after in 0..4 {
            cache.put(key(after), body(100), None, at(after));
        }
        cache.put(key(3), body(50), None, at(4));
        assert_eq!(cache.bytes(), 350 + 4 * OVERHEAD);
        assert!(cache.get(&key(0), at(5)).is_some());
        assert_eq!(cache.oldest(), Some(at(1)));
        cache.drop_upto(at(2));
        let left = |cache: &mut Cache| -> Vec<u64> {
            let left = (0..4).filter(|after| cache.get(&key(*after), at(6)).is_some());
            left.collect()
        };
        assert_eq!(left(&mut cache), [0, 3]);
        assert_eq!(cache.bytes(), 150 + 2 * OVERHEAD);
        cache.tick(2, at(7));
        assert_eq!((cache.bytes(), cache.oldest()), (0, None));
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
