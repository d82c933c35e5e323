//! The lane's end of what it shares with the hub.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use super::{Hub, Offer, RowKey, Shared, State, Step, SyncReason, Work};

/// The lane's end.
#[derive(Debug)]
pub struct Seat {
    pub(super) hub: Arc<Hub>,
    pub(super) number: usize,
    /// Where work comes from; disconnected when the hub is closed.
    pub work: Receiver<Work>,
    pub(super) shared: Arc<Shared>,
}

impl Seat {
    /// Whether there is more to do than the queue holds; see [`Seat::next`].
    pub fn is_behind(&self) -> bool {
        self.shared.behind.load(Ordering::SeqCst)
    }

    /// A batch is taken off the queue.
    pub fn taken(&self, events: &Offer) {
        self.shared
            .queued_bytes
            .fetch_sub(events.bytes(), Ordering::Relaxed);
    }

    /// The next step of catching up; to be called when the queue is empty.
    pub fn next(&self) -> Step {
        let mut state = self.hub.state();
        let State {
            replica,
            slots,
            held,
            ..
        } = &mut *state;
        let slot = slots.get_mut(self.number).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|_| !*held) else {
            return Step::UpToDate;
        };
        let step = slot.catchup.next(replica, &slot.filter);
        slot.metrics
            .rows_waiting
            .set(slot.catchup.remembered() as u64);
        if !slot.catchup.is_behind() {
            slot.metrics.behind.set(0);
            self.shared.behind.store(false, Ordering::SeqCst);
        }
        step
    }

    /// These rows must be given again, in their newest state and in the order of things. Only for
    /// [`Delivery::State`](crate::dispatch::Delivery::State).
    pub fn again(&self, names: impl IntoIterator<Item = RowKey>) {
        let mut state = self.hub.state();
        let State { replica, slots, .. } = &mut *state;
        if let Some(Some(slot)) = slots.get_mut(self.number) {
            slot.catchup.again(names, replica.len());
            slot.tell();
        }
    }

    /// The handler must start over: it was made again, or can no longer be told what changed.
    pub fn restart(&self, reason: SyncReason) {
        if let Some(Some(slot)) = self.hub.state().slots.get_mut(self.number) {
            slot.catchup.restart(reason);
            slot.tell();
        }
    }
}

impl Seat {
    /// What wakes the lane from elsewhere.
    pub fn bell(&self) -> Bell {
        Bell {
            hub: Arc::clone(&self.hub),
            number: self.number,
        }
    }
}

/// Wakes a lane, and tells how much waits for it.
#[derive(Debug, Clone)]
pub struct Bell {
    hub: Arc<Hub>,
    number: usize,
}

impl Bell {
    /// Makes the lane look around. A lane whose queue is full does so anyway.
    pub fn ring(&self) {
        if let Some(Some(slot)) = self.hub.state().slots.get(self.number) {
            slot.ring();
        }
    }

    /// Has the handler start over.
    pub fn resync(&self, reason: SyncReason) {
        self.hub.resync_one(self.number, reason);
    }

    /// Takes the lane out of the hub; see [`Hub::leave`].
    pub fn leave(&self) {
        self.hub.leave(self.number);
    }

    /// Batches and bytes that wait in the lane's queue.
    pub fn queued(&self) -> (usize, usize) {
        let state = self.hub.state();
        let slot = state.slots.get(self.number).and_then(Option::as_ref);
        slot.map_or((0, 0), |slot| {
            let bytes = slot.shared.queued_bytes.load(Ordering::Relaxed);
            (slot.sender.len(), bytes)
        })
    }
}
