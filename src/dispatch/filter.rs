//! What a handler wants to be told of.

use crate::event::Event;

/// Tables and topics; an empty list lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The tables.
    pub tables: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
}

impl Filter {
    /// Whether rows of `table` on `topic` are wanted.
    pub fn wants(&self, table: &str, topic: &str) -> bool {
        let among = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|known| known == name)
        };
        among(&self.tables, table) && among(&self.topics, topic)
    }

    /// Whether `event` is wanted.
    pub fn wants_event(&self, event: &Event<'_>) -> bool {
        self.wants(event.table, event.topic_or_all())
    }
}
