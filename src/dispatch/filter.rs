//! What a handler wants to be told of.

use crate::event::{Action, Event};

/// Which changes a handler is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Actions {
    /// Rows that are there and rows that are gone.
    #[default]
    All,
    /// Rows that are there (`create` and `set`, which are the same to a receiver).
    Set,
    /// Rows that are gone.
    Delete,
}

/// Tables, topics and actions; an empty list lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The tables.
    pub tables: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
    /// The actions.
    pub actions: Actions,
}

impl Filter {
    /// Whether rows of `table` on `topic` are the handler's.
    pub fn holds(&self, table: &str, topic: &str) -> bool {
        among(&self.tables, table) && among(&self.topics, topic)
    }

    /// What the handler is told of `event`, whose object stood on the topic `left` before: an
    /// object that leaves the handler's topics is gone for it.
    pub fn see<'a>(&self, event: Event<'a>, left: Option<&'a str>) -> Option<Event<'a>> {
        if !among(&self.tables, event.table) {
            return None;
        }
        let seen = if among(&self.topics, event.topic_or_all()) {
            event
        } else {
            let left = left.filter(|left| among(&self.topics, left))?;
            Event {
                action: Action::Delete,
                value: None,
                topic: Some(left),
                ..event
            }
        };
        self.acts(&seen).then_some(seen)
    }

    /// Whether the action of `event` is one of those the handler is told of.
    pub fn acts(&self, event: &Event<'_>) -> bool {
        match self.actions {
            Actions::All => true,
            Actions::Set => event.action != Action::Delete,
            Actions::Delete => event.action == Action::Delete,
        }
    }
}

fn among(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(actions: Actions) -> Filter {
        Filter {
            tables: vec!["lport".into()],
            topics: vec!["red".into(), "pink".into()],
            actions,
        }
    }

    #[test]
    fn an_object_that_leaves_the_topics_is_gone() {
        let all = filter(Actions::All);
        let set = |topic| Event::set("lport", "p", "{}").on(topic);
        assert_eq!(all.see(set("red"), Some("blue")), Some(set("red")));
        assert_eq!(all.see(set("pink"), Some("red")), Some(set("pink")));
        assert_eq!(all.see(set("blue"), None), None);
        assert_eq!(all.see(set("blue"), Some("green")), None);
        let gone = Event::delete("lport", "p").on("red");
        assert_eq!(all.see(set("blue"), Some("red")), Some(gone));
        // A delete need not name the topic.
        let unnamed = Event::delete("lport", "p");
        assert_eq!(all.see(unnamed, Some("red")), Some(gone));
        assert_eq!(
            all.see(Event::set("lswitch", "p", "{}").on("red"), None),
            None
        );
    }

    #[test]
    fn actions_are_those_the_handler_would_see() {
        let set = Event::set("lport", "p", "{}").on("red");
        let (sets, deletes) = (filter(Actions::Set), filter(Actions::Delete));
        assert_eq!(sets.see(set, None), Some(set));
        assert_eq!(deletes.see(set, None), None);
        let gone = Event::delete("lport", "p").on("red");
        assert_eq!(deletes.see(gone, None), Some(gone));
        assert_eq!(sets.see(set.on("blue"), Some("red")), None);
        assert_eq!(deletes.see(set.on("blue"), Some("red")), Some(gone));
    }
}
