//! Names of rows, each once, in the order in which they are to be given.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::replica::RowKey;

/// The names, and who is next. Without an order a row could be passed over for as long as others
/// change.
#[derive(Debug, Default)]
pub struct Changed {
    /// Looked up for each change of a lane that is behind, and seeded per map, as the replica's.
    names: HashMap<RowKey, (), foldhash::quality::RandomState>,
    /// A name that is taken out of turn leaves its place here, until that comes: no more of these
    /// than rows of a bracket.
    order: VecDeque<RowKey>,
}

impl Changed {
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Adds a name behind all others; one that is there keeps its place.
    pub fn insert(&mut self, name: RowKey) {
        if let Entry::Vacant(place) = self.names.entry(name) {
            self.order.push_back(place.key().clone());
            place.insert(());
        }
    }

    /// Takes a name out of turn.
    pub fn remove(&mut self, name: &RowKey) {
        self.names.remove(name);
    }

    /// Takes the next name, in at most `looks` looks, which are taken off: there may be one where
    /// none was found.
    pub fn next(&mut self, looks: &mut usize) -> Option<RowKey> {
        while *looks > 0 {
            *looks -= 1;
            let next = self.order.pop_front()?;
            if self.names.remove(&next).is_some() {
                return Some(next);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> RowKey {
        RowKey::new("t", &number.to_string())
    }

    fn take(changed: &mut Changed, most: usize, mut looks: usize) -> Vec<RowKey> {
        let next = std::iter::from_fn(|| changed.next(&mut looks));
        next.take(most).collect()
    }

    #[test]
    fn each_name_is_given_once_in_its_turn() {
        let mut changed = Changed::default();
        for number in [1, 2, 3, 1, 2, 4] {
            changed.insert(name(number));
        }
        assert_eq!(changed.len(), 4);
        assert_eq!(take(&mut changed, 2, 9), [name(1), name(2)]);
        changed.insert(name(1));
        changed.remove(&name(3));
        assert_eq!(
            take(&mut changed, 9, 1),
            [],
            "that look was for a name taken out"
        );
        assert_eq!(take(&mut changed, 9, 9), [name(4), name(1)]);
        assert!(changed.is_empty() && changed.order.is_empty());
    }

    /// However often rows are given in a bracket and change again.
    #[test]
    fn the_order_is_bounded_by_names_and_names_taken_out() {
        let mut changed = Changed::default();
        for number in 0..100 {
            changed.insert(name(number));
        }
        for number in 0..100 {
            changed.remove(&name(number));
            changed.insert(name(number));
        }
        assert_eq!(changed.order.len(), 200);
        for round in 0..1000 {
            for name in take(&mut changed, 10, 100) {
                changed.insert(name);
            }
            assert_eq!(changed.len(), 100);
            assert!(changed.order.len() <= 200, "round {round}");
        }
        assert_eq!(take(&mut changed, 1000, 1000).len(), 100);
        assert!(changed.order.is_empty(), "what was left over is gone");
    }
}
