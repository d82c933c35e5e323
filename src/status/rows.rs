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
    /// Who wants it: the operator or the configuration, or handlers by name. Rows of topics that
    /// nobody wants are left over.
    pub wanted_by: Vec<String>,
    /// Rows of the replica that stand on it.
    pub rows: u64,
}

/// The topics that somebody wants or that have rows, by name. Rows that come and go meanwhile may or
/// may not be counted.
pub fn topics(hub: &Hub, wanted: Vec<(String, Vec<String>)>) -> Vec<Topic> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let entry = |name: &str, wanted_by: Vec<String>| Topic {
        topic: name.to_owned(),
        wanted_by,
        rows: 0,
    };
    for (name, users) in wanted {
        topics.insert(name.clone(), entry(&name, users));
    }
    let mut cursor = hub.with_replica(|replica| replica.cursor());
    let mut more = true;
    while more {
        more = hub.with_replica(|replica| {
            replica.walk(&mut cursor, STEP, |_, row| {
                match topics.get_mut(&*row.topic) {
                    Some(topic) => topic.rows += 1,
                    None => {
                        let mut topic = entry(&row.topic, Vec::new());
                        topic.rows = 1;
                        topics.insert(row.topic.to_string(), topic);
                    }
                }
            })
        });
    }
    topics.into_values().collect()
}
