//! Current rows by topic, in slices.

use super::History;
use crate::event::{Action, Event, codec};
use crate::replica::{Row, RowKey};

/// What a row takes in wire form beside its texts, bytes, about.
const FRAME: usize = 112;

impl History {
    /// The names of at most `limit` rows of `topic` after `after`, tombstones too, in the order of
    /// names, and about how many bytes each takes in wire form. Rows that come and go between two
    /// calls change nothing about the others.
    pub fn names(&self, topic: &str, after: Option<&RowKey>, limit: usize) -> Vec<(RowKey, usize)> {
        let names = self.state.index.names(topic, after).take(limit);
        let sized = names.map(|name| {
            let row = self.state.rows.get_any(&name.table, &name.key);
            let value = row
                .and_then(|row| row.value.as_ref())
                .map_or(0, String::len);
            let texts = name.table.len() + name.key.len() + topic.len();
            (name.clone(), FRAME + texts + value)
        });
        sized.collect()
    }

    /// How many rows of `topic` there are, tombstones too.
    pub fn topic_rows(&self, topic: &str) -> usize {
        self.state.index.rows(topic)
    }

    /// The current state of a row of `topic` in wire form, `set` or `delete`, as its last event had
    /// it. `false` when there is none on this topic (any more).
    pub fn row(&self, topic: &str, name: &RowKey, payload: &mut Vec<u8>) -> bool {
        let row = self.state.rows.get_any(&name.table, &name.key);
        let Some(row) = row.filter(|row| *row.topic == *topic) else {
            return false;
        };
        codec::encode(&event(name, row), payload);
        true
    }
}

/// The event that makes a row what it is.
pub(super) fn event<'a>(name: &'a RowKey, row: &'a Row) -> Event<'a> {
    Event {
        table: &name.table,
        key: &name.key,
        action: match row.is_tombstone() {
            true => Action::Delete,
            false => Action::Set,
        },
        value: row.value.as_deref(),
        topic: Some(&row.topic),
        stamp: row.stamp,
    }
}
