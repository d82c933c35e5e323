//! Topics that were wanted once and are not any more.

use std::collections::{HashSet, VecDeque};

/// As many are remembered, and all that were dropped with the last one; then the one dropped first is
/// forgotten. What is remembered keeps out what readers had taken before they gave the topic up, and
/// that is a matter of moments.
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

    /// Drops `topics`.
    pub fn insert(&mut self, topics: &[String]) {
        for topic in topics {
            if self.topics.insert(topic.clone()) {
                self.order.push_back(topic.clone());
            }
        }
        while self.order.len() > REMEMBERED.max(topics.len()) {
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
            dropped.insert(&[number.to_string()]);
            dropped.insert(&["1".into()]);
        }
        assert!(!dropped.holds("0") && dropped.holds("1"));
        dropped.remove("1");
        assert!(!dropped.holds("1"));
        assert_eq!(dropped.topics.len(), dropped.order.len());
    }

    #[test]
    fn what_is_dropped_together_is_remembered_together() {
        let mut dropped = Dropped::default();
        let names = |prefix: &str, count| (0..count).map(|n| format!("{prefix}{n}")).collect();
        let many: Vec<String> = names("a", 2 * REMEMBERED);
        dropped.insert(&many);
        assert!(many.iter().all(|topic| dropped.holds(topic)));
        let more: Vec<String> = names("b", 2);
        dropped.insert(&more);
        assert!(more.iter().all(|topic| dropped.holds(topic)));
        assert_eq!(dropped.order.len(), REMEMBERED);
    }
}
