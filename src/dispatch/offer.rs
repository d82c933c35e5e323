//! What the hub hands to the lanes: one batch, shared by all of them.

use std::sync::Arc;

use super::Filter;
use crate::event::{Event, EventBatch};

/// Changes of the replica in their order.
#[derive(Debug, Default)]
pub struct Offer {
    events: EventBatch,
    /// The topics that objects stood on before, by the number of the event.
    left: Vec<(usize, Arc<str>)>,
}

impl Offer {
    /// Events, and which of them took their object from another topic; sorted by number.
    pub fn new(events: EventBatch, left: Vec<(usize, Arc<str>)>) -> Self {
        Offer { events, left }
    }

    /// The events that `filter` lets through, as it shows them.
    pub fn seen<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = Event<'a>> {
        let mut left = self.left.iter().peekable();
        let each = self.events.iter().enumerate();
        each.filter_map(move |(number, event)| {
            let left = left.next_if(|(place, _)| *place == number);
            filter.see(event, left.map(|(_, topic)| &**topic))
        })
    }

    /// Memory held, bytes.
    pub fn bytes(&self) -> usize {
        self.events.bytes() + self.left.len() * size_of::<(usize, Arc<str>)>()
    }
}
