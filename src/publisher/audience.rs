//! Who listens: how many subscribers asked for each topic.
//!
//! A driver shows subscriptions by prefix, and an agent makes two for each topic at first; so
//! what ends in NUL counts as a topic, and what does not only where it is all there is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::TopicFrame;
use crate::event::topic::MAX_TOPIC_LEN;
use crate::util::printable;

/// Topics that are remembered: subscribers could name any number of them.
const MAX_TOPICS: usize = 10_000;

/// Counted by the service's thread, looked at by others.
#[derive(Debug, Default)]
pub struct Audience(Mutex<Topics>);

#[derive(Debug, Default)]
struct Topics {
    counts: HashMap<String, Listeners>,
    /// Subscriptions to topics beyond [`MAX_TOPICS`].
    passed_over: u64,
}

#[derive(Debug, Default)]
struct Listeners {
    exact: u64,
    bare: u64,
}

impl Audience {
    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is connected any more.
    pub fn clear(&self) {
        *self.topics() = Topics::default();
    }

    /// A subscription to `prefix` was made, or taken back.
    pub fn note(&self, prefix: &[u8], added: bool) {
        let frame = TopicFrame::parse(prefix);
        // Reserved ones are no tenants.
        if frame.topic.first() == Some(&1) || frame.topic.is_empty() {
            return;
        }
        let exact = frame.topic.len() < prefix.len();
        let name = String::from_utf8_lossy(frame.topic).into_owned();
        let mut topics = self.topics();
        // Longer ones are topics of nobody.
        let known = topics.counts.contains_key(&name);
        if !known && (topics.counts.len() >= MAX_TOPICS || name.len() > MAX_TOPIC_LEN) {
            let over = &mut topics.passed_over;
            *over = match added {
                true => *over + 1,
                false => over.saturating_sub(1),
            };
            return;
        }
        let listeners = topics.counts.entry(name.clone()).or_default();
        let count = match exact {
            true => &mut listeners.exact,
            false => &mut listeners.bare,
        };
        *count = if added {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if listeners.exact == 0 && listeners.bare == 0 {
            topics.counts.remove(&name);
        }
    }

    /// The `most` topics with the most subscribers, and how many others there are.
    pub fn largest(&self, most: usize) -> (Vec<(String, u64)>, u64) {
        let topics = self.topics();
        let count = |listeners: &Listeners| listeners.exact.max(listeners.bare);
        let mut all: Vec<(&String, u64)> = topics
            .counts
            .iter()
            .map(|(name, listeners)| (name, count(listeners)))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let others = all.len().saturating_sub(most) as u64 + topics.passed_over;
        let shown = all.into_iter().take(most);
        let shown = shown.map(|(name, count)| (printable::cut(name, 256).to_owned(), count));
        (shown.collect(), others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_counts_once_for_each_topic() {
        let audience = Audience::default();
        for prefix in [&b"t1\0"[..], b"t1", b"D\0", b"D", b"\x01hello\0", b""] {
            audience.note(prefix, true);
        }
        audience.note(b"t1\0", true);
        // It has heard a hello.
        audience.note(b"t1", false);
        audience.note(b"legacy", true);
        let (largest, others) = audience.largest(2);
        assert_eq!(largest, [("t1".into(), 2), ("D".into(), 1)]);
        assert_eq!(others, 1);
        for _ in 0..3 {
            audience.note(b"t1\0", false);
        }
        let (largest, _) = audience.largest(10);
        assert_eq!(largest, [("D".into(), 1), ("legacy".into(), 1)]);
    }

    #[test]
    fn topics_are_bounded() {
        let audience = Audience::default();
        for n in 0..MAX_TOPICS + 5 {
            audience.note(format!("t{n}\0").as_bytes(), true);
        }
        let (largest, others) = audience.largest(10);
        assert_eq!((largest.len(), others), (10, MAX_TOPICS as u64 - 10 + 5));
    }
}
