//! The readers' side of discovery: notes which rows changed, and never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::MAX_KEY;
use super::desk::Hint;
use crate::dispatch::Hub;
use crate::event::EventBatch;
use crate::pubsub::{Callback, LinkChange, Source};
use crate::store::PUBLISHER_TABLE;

/// Rows that may be noted; when more change, all are read again.
const NOTED: usize = 256;

/// Hands events to the hub and notes which rows of table `publisher` they change.
pub struct Scout {
    hub: Arc<Hub>,
    hints: Sender<Hint>,
    overflow: Arc<AtomicBool>,
}

/// A scout before `hub`, and where it notes: the rows, and whether there were too many.
pub fn scout(hub: &Arc<Hub>) -> (Scout, Receiver<Hint>, Arc<AtomicBool>) {
    let (hints, noted) = bounded(NOTED);
    let overflow = Arc::new(AtomicBool::new(false));
    let scout = Scout {
        hub: Arc::clone(hub),
        hints,
        overflow: Arc::clone(&overflow),
    };
    (scout, noted, overflow)
}

impl Scout {
    fn note(&self, key: String) {
        // Longer keys name no publisher, and would let a peer take memory.
        if key.len() > MAX_KEY || self.hints.try_send(Hint(Some(key))).is_ok() {
            return;
        }
        // First the flag, then the message: if there is no room for the message, the owner has yet
        // to take another one and sees the flag after it.
        self.overflow.store(true, Ordering::SeqCst);
        if self.hints.try_send(Hint(None)).is_err() {
            log::debug!("many publishers changed at once: all will be read again");
        }
    }
}

impl Callback for Scout {
    fn events(&self, source: &Source, events: EventBatch) {
        let changed = events.iter().filter(|event| event.table == PUBLISHER_TABLE);
        let changed: Vec<String> = changed.map(|event| event.key.to_owned()).collect();
        // First the rows: whoever is told of a change then finds it.
        self.hub.events(source, events);
        for key in changed {
            self.note(key);
        }
    }

    fn link(&self, source: &Source, change: LinkChange) {
        self.hub.link(source, change);
    }
}
