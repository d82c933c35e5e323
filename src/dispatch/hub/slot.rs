//! A lane as the hub sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use super::{Catchup, Filter, LaneMetrics, Offer, Replica, RowKey, SyncReason, Work};

/// What hub and lane share without the hub's lock.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub behind: AtomicBool,
    pub queued_bytes: AtomicUsize,
}

/// A lane as the hub sees it.
pub(super) struct Slot {
    pub sender: Sender<Work>,
    pub filter: Filter,
    pub catchup: Catchup,
    pub max_bytes: usize,
    pub shared: Arc<Shared>,
    pub metrics: Arc<LaneMetrics>,
}

impl Slot {
    pub fn offer(&mut self, events: &Arc<Offer>, replica: &Replica) {
        if events.seen(&self.filter).next().is_none() {
            return;
        }
        if !self.catchup.is_behind() {
            let waiting = self.shared.queued_bytes.load(Ordering::Relaxed);
            let bytes = events.bytes();
            if waiting == 0 || waiting + bytes <= self.max_bytes {
                match self.sender.try_send(Work::Events(Arc::clone(events))) {
                    Ok(()) => {
                        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
                        return;
                    }
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
            self.metrics.overflows_total.inc();
            self.catchup.fall_behind();
        }
        for event in events.seen(&self.filter) {
            let name = replica
                .name(event.table, event.key)
                .unwrap_or_else(|| RowKey::new(event.table, event.key));
            self.catchup.changed(name, replica.len());
        }
        self.tell();
    }

    pub fn resync(&mut self, reason: SyncReason) {
        self.catchup.resync(reason);
        self.tell();
    }

    /// Lets the lane know that it is behind. First the flag, then the message: if there is no room
    /// for the message, the lane has yet to take another one and sees the flag after it.
    pub fn tell(&mut self) {
        self.metrics.behind.set(1);
        self.metrics
            .rows_waiting
            .set(self.catchup.remembered() as u64);
        if !self.shared.behind.swap(true, Ordering::SeqCst) {
            self.ring();
        }
    }

    pub fn ring(&self) {
        match self.sender.try_send(Work::Look) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => log::debug!("a lane has ended"),
        }
    }
}
