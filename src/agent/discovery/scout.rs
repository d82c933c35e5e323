//! The hub's side of discovery: notes which rows changed, and never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::MAX_KEY;
use super::desk::Hint;
use crate::dispatch::Hub;
use crate::store::PUBLISHER_TABLE;

/// Rows that may be noted; when more change, all are read again.
const NOTED: usize = 256;

struct Scout {
    hints: Sender<Hint>,
    overflow: Arc<AtomicBool>,
}

/// Has `hub` note which rows of table `publisher` change, by whatever way: events, a sweep, rows of a
/// checkpoint or of a store. Gives where it notes: the rows, and whether there were too many.
pub fn scout(hub: &Hub) -> (Receiver<Hint>, Arc<AtomicBool>) {
    let (hints, noted) = bounded(NOTED);
    let overflow = Arc::new(AtomicBool::new(false));
    let scout = Scout {
        hints,
        overflow: Arc::clone(&overflow),
    };
    hub.note(PUBLISHER_TABLE, Box::new(move |key| scout.note(key)));
    (noted, overflow)
}

impl Scout {
    fn note(&self, key: &str) {
        // Longer keys name no publisher, and would let a peer take memory.
        if key.len() > MAX_KEY || self.hints.try_send(Hint(Some(key.to_owned()))).is_ok() {
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
