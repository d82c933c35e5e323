//! Names of what was heard of without a stamp: nothing in the replica tells that such a row came and
//! went, or was another one in between.

use std::collections::HashSet;

use crate::event::Event;
use crate::replica::RowKey;

/// Bytes of names that are kept. With more, all count as heard of.
const MOST: usize = 64 << 20;

/// What a name costs beside its texts, bytes, about.
const FRAME: usize = 96;

/// The rows that were heard of without a stamp since [`crate::dispatch::Hub::hear`].
#[derive(Debug, Default)]
pub struct Heard {
    names: HashSet<RowKey>,
    bytes: usize,
}

impl Heard {
    pub(super) fn note(&mut self, event: &Event<'_>) {
        if event.stamp.is_some() || self.is_full() {
            return;
        }
        let name = RowKey::new(event.table, event.key);
        let bytes = FRAME + name.table.len() + name.key.len();
        if self.names.insert(name) {
            self.bytes += bytes;
        }
        if self.is_full() {
            self.names = HashSet::new();
            log::warn!(
                "more rows change than can be noted: none is taken from the northbound store now"
            );
        }
    }

    /// Whether there was no room for all of them.
    pub fn is_full(&self) -> bool {
        self.bytes > MOST
    }

    /// Whether `name` was heard of, or may have been.
    pub fn holds(&self, name: &RowKey) -> bool {
        self.is_full() || self.names.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stamp;

    #[test]
    fn what_has_a_stamp_is_not_noted() {
        let mut heard = Heard::default();
        heard.note(&Event::delete("t", "without"));
        heard.note(&Event {
            stamp: Some(Stamp::default()),
            ..Event::set("t", "with", "1")
        });
        let holds = |key| heard.holds(&RowKey::new("t", key));
        assert!(holds("without") && !holds("with"));
    }

    #[test]
    fn beyond_the_bound_everything_counts_as_heard_of() {
        let (mut heard, long) = (Heard::default(), "k".repeat(1 << 20));
        for n in 0..70 {
            assert_eq!(heard.is_full(), n >= 64);
            // The same name costs nothing.
            for _ in 0..2 {
                heard.note(&Event::set("t", &format!("{n}{long}"), "1"));
            }
        }
        assert!(heard.names.is_empty() && heard.holds(&RowKey::new("t", "other")));
    }
}
