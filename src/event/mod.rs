//! An event: one change of one object, and the borrowed, batched and encoded forms of it.
//!
//! * [`Event`] borrows its text from the message or batch it came in; it is what handlers see.
//! * [`EventBatch`] owns the text of many events in one buffer; it is what crosses threads.
//! * [`codec`] is the wire form.

pub mod batch;
pub mod codec;
pub mod hello;
pub mod stamp;
pub mod topic;

pub use batch::EventBatch;
pub use stamp::Stamp;
pub use topic::{SEND_ALL, TopicFrame};

/// What happened to the object.
///
/// `Create` and `Set` are the same to a receiver; both are kept apart only so that a relay sends
/// on what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action<'a> {
    /// The object is new.
    Create,
    /// The object has a new value.
    Set,
    /// The object is gone; the event's value is nil.
    Delete,
    /// Anything else a publisher may send. It is no change of a row, so the agent counts it and
    /// drops it: control actions are not accepted from the data plane.
    Other(&'a str),
}

impl<'a> Action<'a> {
    /// The action of this wire name.
    pub fn parse(name: &'a str) -> Self {
        match name {
            "create" => Action::Create,
            "set" => Action::Set,
            "delete" => Action::Delete,
            other => Action::Other(other),
        }
    }

    /// The wire name.
    pub fn as_str(&self) -> &'a str {
        match self {
            Action::Create => "create",
            Action::Set => "set",
            Action::Delete => "delete",
            Action::Other(name) => name,
        }
    }
}

/// One change of one object.
///
/// `table` and `key` name the object. A nil table, key or action on the wire reads as the empty
/// string; such an event names no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The kind of object.
    pub table: &'a str,
    /// The object's identity within its table.
    pub key: &'a str,
    /// What happened.
    pub action: Action<'a>,
    /// The new state as opaque text (JSON in practice); `None` on delete.
    pub value: Option<&'a str>,
    /// The topic named in the event; `None` means [`SEND_ALL`]. See [`Event::topic_or_all`].
    pub topic: Option<&'a str>,
    /// Who sent it and where it stands; `None` from a legacy publisher.
    pub stamp: Option<Stamp>,
}

impl<'a> Event<'a> {
    /// An event that sets a row, without topic and stamp.
    pub fn set(table: &'a str, key: &'a str, value: &'a str) -> Self {
        Event {
            table,
            key,
            action: Action::Set,
            value: Some(value),
            topic: None,
            stamp: None,
        }
    }

    /// An event that deletes a row, without topic and stamp.
    pub fn delete(table: &'a str, key: &'a str) -> Self {
        Event {
            table,
            key,
            action: Action::Delete,
            value: None,
            topic: None,
            stamp: None,
        }
    }

    /// The same event on `topic`.
    pub fn on(self, topic: &'a str) -> Self {
        Event {
            topic: Some(topic),
            ..self
        }
    }

    /// The topic, [`SEND_ALL`] where the event names none.
    pub fn topic_or_all(&self) -> &'a str {
        self.topic.unwrap_or(SEND_ALL)
    }
}
