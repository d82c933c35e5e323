//! Topics that were wanted once and are not any more.

use std::collections::{HashSet, VecDeque};

/// As many are remembered; then the one dropped first is forgotten. What is remembered keeps out
/// what readers had taken before they gave the topic up, and that is a matter of moments.
const REMEMBERED: usize = 4096;

/// The topics dropped last. Not the topics wanted: an event may name any topic and still be sent to
/// all, and must not be looked up where nothing was ever dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    topics: HashSet<String>,
    order: VecDeque<String>,
}

impl Dropped {
    /// Whether `topic` was dropped.
    pub fn holds(&self, topic: &str) -> bool {
        !self.topics.is_empty() && self.topics.contains(topic)
    }

    /// Drops `topic`.
    pub fn insert(&mut self, topic: &str) {
        if self.topics.insert(topic.into()) {
            self.order.push_back(topic.into());
        }
        while self.order.len() > REMEMBERED {
            if let Some(first) = self.order.pop_front() {
                self.topics.remove(&first);
            }
        }
    }

    /// `topic` is wanted again.
    pub fn remove(&mut self, topic: &str) {
        if self.topics.remove(topic) {
            self.order.retain(|known| known != topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_forgotten_for_the_last() {
        let mut dropped = Dropped::default();
        for number in 0..=REMEMBERED {
            dropped.insert(&number.to_string());
            dropped.insert("1");
        }
        assert!(!dropped.holds("0") && dropped.holds("1"));
        dropped.remove("1");
        assert!(!dropped.holds("1"));
        assert_eq!(dropped.topics.len(), dropped.order.len());
    }
}
