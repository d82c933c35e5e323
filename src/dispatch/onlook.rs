//! Whoever only looks: an operator's `fanfare watch`.
//!
//! An onlooker is no lane: it is owed nothing. What it is too slow for is left out and counted, so
//! that it costs the hub one attempt to send for each batch and no memory beyond its queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::Filter;
use super::offer::Offer;

/// Batches that may wait for one onlooker.
pub const QUEUE_LENGTH: usize = 256;

/// Bytes of events that may wait for one onlooker. One batch always may.
pub const QUEUE_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

/// The hub's end.
#[derive(Debug)]
pub(super) struct Eye {
    sender: Sender<Arc<Offer>>,
    filter: Filter,
    shared: Arc<Shared>,
}

/// The onlooker's end. Dropping it ends the looking.
#[derive(Debug)]
pub struct Onlooker {
    batches: Receiver<Arc<Offer>>,
    /// What it was asked for; a batch may hold other events too.
    pub filter: Filter,
    shared: Arc<Shared>,
}

/// What an onlooker is shown.
#[derive(Debug)]
pub enum Seen {
    /// Events in the order in which the replica took them.
    Events(Arc<Offer>),
    /// So many events were left out before the next ones.
    Lost(u64),
    /// Nothing for so long.
    Nothing,
    /// The hub is closed.
    End,
}

/// A new pair.
pub(super) fn onlook(filter: Filter) -> (Eye, Onlooker) {
    let (sender, batches) = bounded(QUEUE_LENGTH);
    let shared = Arc::new(Shared::default());
    let eye = Eye {
        sender,
        filter: filter.clone(),
        shared: Arc::clone(&shared),
    };
    let onlooker = Onlooker {
        batches,
        filter,
        shared,
    };
    (eye, onlooker)
}

/// What became of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is shown, or nothing of it is wanted.
    Yes,
    /// So many events of it were left out for want of room.
    Lost(u64),
    /// Nobody looks any more.
    Nobody,
}

impl Eye {
    /// Shows `events`, or counts them as lost; `false` when nobody looks any more.
    pub fn show(&self, events: &Arc<Offer>) -> Shown {
        let wanted = events.seen(&self.filter).count() as u64;
        if wanted == 0 {
            return Shown::Yes;
        }
        let (waiting, bytes) = (&self.shared.waiting, events.bytes());
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 || before + bytes <= QUEUE_BYTES {
            match self.sender.try_send(Arc::clone(events)) {
                Ok(()) => return Shown::Yes,
                Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => return Shown::Nobody,
            }
        }
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.lost.fetch_add(wanted, Ordering::Relaxed);
        Shown::Lost(wanted)
    }
}

impl Onlooker {
    /// What there is within `wait`.
    pub fn next(&self, wait: Duration) -> Seen {
        // What is lost came after what waits, and is told when that is worked off.
        if self.batches.is_empty() {
            match self.shared.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => return Seen::Lost(lost),
            }
        }
        match self.batches.recv_timeout(wait) {
            Ok(events) => {
                self.shared
                    .waiting
                    .fetch_sub(events.bytes(), Ordering::Relaxed);
                Seen::Events(events)
            }
            Err(RecvTimeoutError::Timeout) => Seen::Nothing,
            Err(RecvTimeoutError::Disconnected) => Seen::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventBatch};

    fn batch(key: &str, value: &str) -> Arc<Offer> {
        let events = [
            Event::set("t", key, value),
            Event::set("other", key, value).on("t2"),
        ];
        let events: EventBatch = events.into_iter().collect();
        Arc::new(Offer::new(events, Vec::new()))
    }

    #[test]
    fn what_is_too_much_is_counted_and_what_is_not_wanted_is_not() {
        let filter = Filter {
            tables: vec!["t".into()],
            ..Filter::default()
        };
        let (eye, onlooker) = onlook(filter);
        for n in 0..QUEUE_LENGTH + 7 {
            eye.show(&batch(&n.to_string(), "v"));
        }
        for n in 0..QUEUE_LENGTH {
            let Seen::Events(events) = onlooker.next(Duration::ZERO) else {
                panic!("event {n} is missing");
            };
            assert_eq!(
                events.seen(&onlooker.filter).next().unwrap().key,
                n.to_string()
            );
        }
        assert!(matches!(onlooker.next(Duration::ZERO), Seen::Lost(7)));
        assert!(matches!(onlooker.next(Duration::ZERO), Seen::Nothing));
        drop(eye);
        assert!(matches!(onlooker.next(Duration::ZERO), Seen::End));
    }

    #[test]
    fn bytes_are_bounded_too_and_room_comes_back() {
        let (eye, onlooker) = onlook(Filter::default());
        let large = "x".repeat(QUEUE_BYTES);
        for _ in 0..2 {
            eye.show(&batch("k", &large));
            assert_eq!(eye.show(&batch("k2", "v")), Shown::Lost(2));
            assert!(matches!(onlooker.next(Duration::ZERO), Seen::Events(_)));
            assert!(matches!(onlooker.next(Duration::ZERO), Seen::Lost(2)));
        }
        drop(onlooker);
        assert_eq!(eye.show(&batch("k", "v")), Shown::Nobody);
    }
}
