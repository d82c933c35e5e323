//! Many events in one buffer: what a reader hands to the lanes.
//!
//! A batch costs two allocations however many events it holds, is shared by all handlers behind
//! one `Arc`, and is freed at once. Keeping the received messages instead would pin libzmq's
//! buffers and need a parse per handler.

use super::{Action, Event, Stamp};

/// Where one event's texts lie in the batch: they stand one after the other from `start`.
#[derive(Debug, Clone)]
struct Span {
    start: u32,
    table_end: u32,
    key_end: u32,
    action_end: u32,
    value_end: u32,
    topic_end: u32,
    has_value: bool,
    has_topic: bool,
    has_stamp: bool,
}

/// Events in their order, owned.
#[derive(Debug, Clone, Default)]
pub struct EventBatch {
    text: String,
    spans: Vec<Span>,
    /// As many as events, or none: a batch comes from one publisher, and a legacy one stamps
    /// nothing.
    stamps: Vec<Stamp>,
}

/// Text of a batch that a further event would overrun; see [`EventBatch::fits`].
const MAX_TEXT: usize = u32::MAX as usize;

impl EventBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `events` events of `bytes` bytes of text together.
    pub fn with_capacity(events: usize, bytes: usize) -> Self {
        EventBatch {
            text: String::with_capacity(bytes),
            spans: Vec::with_capacity(events),
            stamps: Vec::new(),
        }
    }

    /// Whether `event` can still be added: a batch holds less than 4 GiB of text.
    pub fn fits(&self, event: &Event<'_>) -> bool {
        let more = event.table.len()
            + event.key.len()
            + event.action.as_str().len()
            + event.value.map_or(0, str::len)
            + event.topic.map_or(0, str::len);
        self.text.len() + more <= MAX_TEXT
    }

    /// Adds a copy of `event`. Callers bound batches far below [`EventBatch::fits`]'s limit; an
    /// event that does not fit is not added and `false` is returned.
    pub fn push(&mut self, event: &Event<'_>) -> bool {
        if !self.fits(event) {
            return false;
        }
        let text = &mut self.text;
        let mut put = |part: &str| {
            text.push_str(part);
            text.len() as u32
        };
        let start = put("");
        let table_end = put(event.table);
        let key_end = put(event.key);
        let action_end = put(event.action.as_str());
        let value_end = put(event.value.unwrap_or(""));
        let topic_end = put(event.topic.unwrap_or(""));
        self.spans.push(Span {
            start,
            table_end,
            key_end,
            action_end,
            value_end,
            topic_end,
            has_value: event.value.is_some(),
            has_topic: event.topic.is_some(),
            has_stamp: event.stamp.is_some(),
        });
        if event.stamp.is_some() || !self.stamps.is_empty() {
            // Where only some events are stamped, the others get a place that is not read.
            self.stamps.resize(self.spans.len() - 1, Stamp::default());
            self.stamps.push(event.stamp.unwrap_or_default());
        }
        true
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Length of all texts, bytes.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Memory held by text and places, bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
            + self.spans.len() * size_of::<Span>()
            + self.stamps.len() * size_of::<Stamp>()
    }

    /// The events in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        (0..self.spans.len()).map(|index| self.event(index, &self.spans[index]))
    }

    /// The event at `index`.
    pub fn get(&self, index: usize) -> Option<Event<'_>> {
        self.spans.get(index).map(|span| self.event(index, span))
    }

    fn event(&self, index: usize, span: &Span) -> Event<'_> {
        let part = |from: u32, to: u32| &self.text[from as usize..to as usize];
        Event {
            table: part(span.start, span.table_end),
            key: part(span.table_end, span.key_end),
            action: Action::parse(part(span.key_end, span.action_end)),
            value: span
                .has_value
                .then(|| part(span.action_end, span.value_end)),
            topic: span.has_topic.then(|| part(span.value_end, span.topic_end)),
            stamp: span.has_stamp.then(|| self.stamps[index]),
        }
    }
}

impl<'a> FromIterator<Event<'a>> for EventBatch {
    fn from_iter<I: IntoIterator<Item = Event<'a>>>(events: I) -> Self {
        let mut batch = EventBatch::new();
        for event in events {
            batch.push(&event);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let events = [
            Event::set("lport", "p1", "{\"a\":1}").on("tenant1"),
            Event::delete("lport", "p1"),
            Event {
                action: Action::Other("log"),
                value: Some(""),
                topic: Some(""),
                stamp: Some(Stamp::default()),
                ..Event::delete("", "")
            },
        ];
        let batch: EventBatch = events.into_iter().collect();
        assert_eq!(batch.len(), 3);
        assert!(batch.iter().eq(events));
        assert_eq!(batch.get(1), Some(events[1]));
        assert_eq!(batch.get(3), None);
    }
}
