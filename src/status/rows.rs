//! Rows by topic, counted without holding up the hub.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dispatch::Hub;

/// Rows counted in one go: the hub's lock is held for so many.
const STEP: usize = 4096;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Whether it is subscribed to; rows of others are left over.
    pub subscribed: bool,
    /// Rows of the replica that stand on it.
    pub rows: u64,
}

/// The topics that are subscribed to or have rows, by name. Rows that come and go meanwhile may or
/// may not be counted.
pub fn topics(hub: &Hub, subscribed: &[String]) -> Vec<Topic> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let entry = |name: &str, subscribed: bool| Topic {
        topic: name.to_owned(),
        subscribed,
        rows: 0,
    };
    for name in subscribed {
        topics.insert(name.clone(), entry(name, true));
    }
    let mut cursor = hub.with_replica(|replica| replica.cursor());
    let mut more = true;
    while more {
        more = hub.with_replica(|replica| {
            replica.walk(&mut cursor, STEP, |_, row| {
                match topics.get_mut(&*row.topic) {
                    Some(topic) => topic.rows += 1,
                    None => {
                        let mut topic = entry(&row.topic, false);
                        topic.rows = 1;
                        topics.insert(row.topic.to_string(), topic);
                    }
                }
            })
        });
    }
    topics.into_values().collect()
}
