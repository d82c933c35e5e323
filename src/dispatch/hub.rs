//! The one place where the events of all publishers meet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::catchup::{Catchup, Delivery, Step};
use super::watch::{Eye, Watch, watch};
use super::{Filter, LaneMetrics};
use crate::event::{Event, EventBatch};
use crate::handler::SyncReason;
use crate::pubsub::{Callback, LinkChange, Source};
use crate::replica::{Replica, Row, RowKey, Verdict};

crate::metrics! {
    /// What the hub counts.
    pub struct HubMetrics {
        rows: Gauge = "Rows in the replica.",
        events_duplicate_total: Counter = "Events whose state was the newest already; dropped.",
        events_older_total: Counter = "Events older than what was known; dropped.",
        resyncs_asked_total: Counter = "Times all handlers were told to start over.",
    }
}

/// Rows looked at in one go by [`Hub::sweep`].
const SWEEP: usize = 4096;

/// What waits in a lane's channel.
#[derive(Debug)]
pub enum Work {
    /// Events to apply.
    Events(Arc<EventBatch>),
    /// Nothing but a reason to look at [`Seat::is_behind`].
    Look,
}

/// What hub and lane share without the hub's lock.
#[derive(Debug, Default)]
struct Shared {
    behind: AtomicBool,
    queued_bytes: AtomicUsize,
}

/// A lane as the hub sees it.
struct Slot {
    sender: Sender<Work>,
    filter: Filter,
    catchup: Catchup,
    max_bytes: usize,
    shared: Arc<Shared>,
    metrics: Arc<LaneMetrics>,
}

/// The lane's end.
#[derive(Debug)]
pub struct Seat {
    hub: Arc<Hub>,
    number: usize,
    /// Where work comes from; disconnected when the hub is closed.
    pub work: Receiver<Work>,
    shared: Arc<Shared>,
}

/// How a lane is joined to the hub.
#[derive(Debug, Clone, Default)]
pub struct SeatOptions {
    /// What the handler wants to be told of.
    pub filter: Filter,
    /// What it is promised.
    pub delivery: Delivery,
    /// Batches that may wait.
    pub queue_length: usize,
    /// Bytes that may wait, together. One batch always may.
    pub queue_bytes: usize,
}

#[derive(Default)]
struct State {
    replica: Replica,
    /// By number; a place is empty once its lane has left, and is not given to another.
    slots: Vec<Option<Slot>>,
    eyes: Vec<Eye>,
    closed: bool,
    /// Lanes begin nothing until [`Hub::open`].
    held: bool,
}

/// Merges events into the replica and hands what is new to the lanes.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
    /// What it counts.
    pub metrics: HubMetrics,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub without rows and lanes.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Its state. A handler's panic never happens under the lock, and whatever else does leaves
    /// rows that are whole; so a poisoned lock is used on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a lane, which is told to start over at once.
    pub fn join(self: &Arc<Self>, options: SeatOptions, metrics: Arc<LaneMetrics>) -> Seat {
        let (sender, work) = bounded(options.queue_length.max(1));
        let shared = Arc::new(Shared::default());
        let mut slot = Slot {
            sender,
            filter: options.filter,
            catchup: Catchup::new(options.delivery),
            max_bytes: options.queue_bytes,
            shared: Arc::clone(&shared),
            metrics,
        };
        slot.resync(SyncReason::Started);
        let mut state = self.state();
        let number = state.slots.len();
        state.slots.push(Some(slot));
        Seat {
            hub: Arc::clone(self),
            number,
            work,
            shared,
        }
    }

    /// Tells every lane to start over.
    pub fn resync(&self, reason: SyncReason) {
        self.metrics.resyncs_asked_total.inc();
        for slot in self.state().slots.iter_mut().flatten() {
            slot.resync(reason);
        }
    }

    /// Tells the lane of this seat number to start over.
    pub fn resync_one(&self, number: usize, reason: SyncReason) {
        if let Some(Some(slot)) = self.state().slots.get_mut(number) {
            slot.resync(reason);
        }
    }

    /// Takes the lane of this seat number out: it works off what it has and then sees its channel
    /// closed.
    pub fn leave(&self, number: usize) {
        if let Some(slot) = self.state().slots.get_mut(number) {
            *slot = None;
        }
    }

    /// Shows what `filter` wants as it happens, from now on.
    pub fn watch(&self, filter: Filter) -> Watch {
        let (eye, watch) = watch(filter);
        let mut state = self.state();
        // Closed: the watcher is told so at once.
        if !state.closed {
            state.eyes.push(eye);
        }
        watch
    }

    /// Keeps lanes from beginning until [`Hub::open`]: what is there so far is not all.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Lets lanes begin, which hear why.
    pub fn open(&self, reason: SyncReason) {
        let mut state = self.state();
        if std::mem::take(&mut state.held) {
            for slot in state.slots.iter_mut().flatten() {
                slot.resync(reason);
                // They were told before, and found nothing to do.
                slot.wake();
            }
        }
    }

    /// Merges and hands on.
    pub fn publish(&self, events: EventBatch) {
        self.publish_to(&mut self.state(), events);
    }

    /// Removes the rows that `gone` picks; says how many. Lets others in between.
    pub fn sweep(&self, gone: impl Fn(&RowKey, &Row) -> bool) -> u64 {
        let mut cursor = self.state().replica.cursor();
        let (mut swept, mut more) = (0, true);
        while more {
            let mut state = self.state();
            let mut deletes = EventBatch::new();
            more = state.replica.walk(&mut cursor, SWEEP, |name, row| {
                if gone(name, row) {
                    let delete = Event::delete(&name.table, &name.key).on(&row.topic);
                    // It has the version of the row it ends: a newer state is not lost to it.
                    deletes.push(&Event {
                        stamp: row.stamp,
                        ..delete
                    });
                }
            });
            swept += deletes.len() as u64;
            self.publish_to(&mut state, deletes);
        }
        swept
    }

    fn publish_to(&self, state: &mut State, events: EventBatch) {
        let now = Instant::now();
        if state.closed {
            return;
        }
        let State {
            replica,
            slots,
            eyes,
            ..
        } = state;
        // Almost always every event is fresh; the others are left out of a new batch.
        let mut stale: Vec<usize> = Vec::new();
        for (place, event) in events.iter().enumerate() {
            match replica.apply(&event, now) {
                Verdict::Applied => continue,
                Verdict::Duplicate => self.metrics.events_duplicate_total.inc(),
                Verdict::Older => self.metrics.events_older_total.inc(),
            }
            stale.push(place);
        }
        let events = match stale.as_slice() {
            [] => events,
            stale => {
                let fresh = |(place, _): &(usize, _)| stale.binary_search(place).is_err();
                events
                    .iter()
                    .enumerate()
                    .filter(fresh)
                    .map(|(_, event)| event)
                    .collect()
            }
        };
        self.metrics.rows.set(replica.len() as u64);
        if events.is_empty() {
            return;
        }
        let events = Arc::new(events);
        for slot in slots.iter_mut().flatten() {
            slot.offer(&events, replica);
        }
        eyes.retain(|eye| eye.show(&events));
    }

    /// Forgets deleted objects that are gone for longer than `ttl`.
    pub fn forget(&self, ttl: Duration) {
        if let Some(before) = Instant::now().checked_sub(ttl) {
            let forgotten = self.state().replica.expire(before);
            log::debug!("{forgotten} deleted objects forgotten");
        }
    }

    /// Ends the lanes' work: they work off what they have and then see their channel closed.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.eyes.clear();
        for slot in state.slots.iter_mut().flatten() {
            // The receiving side sees the disconnect once the old sender is gone.
            slot.sender = bounded(0).0;
        }
    }

    /// Looks at the replica under the hub's lock; to be short.
    pub fn with_replica<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.state().replica)
    }
}

impl Callback for Hub {
    fn events(&self, _source: &Source, events: EventBatch) {
        self.publish(events);
    }

    fn link(&self, _source: &Source, change: LinkChange) {
        // What a legacy publisher sent meanwhile is unknown.
        if change == (LinkChange::Up { again: true }) {
            self.resync(SyncReason::Reconnected);
        }
    }
}

impl Slot {
    fn offer(&mut self, events: &Arc<EventBatch>, replica: &Replica) {
        if !events.iter().any(|event| self.filter.wants_event(&event)) {
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
        for event in events.iter().filter(|event| self.filter.wants_event(event)) {
            let name = replica
                .name(event.table, event.key)
                .unwrap_or_else(|| RowKey::new(event.table, event.key));
            self.catchup.changed(name, replica.len());
        }
        self.tell();
    }

    fn resync(&mut self, reason: SyncReason) {
        self.catchup.resync(reason);
        self.tell();
    }

    /// Lets the lane know that it is behind. First the flag, then the message: if there is no room
    /// for the message, the lane has yet to take another one and sees the flag after it.
    fn tell(&mut self) {
        self.metrics.behind.set(1);
        self.metrics
            .rows_waiting
            .set(self.catchup.remembered() as u64);
        if !self.shared.behind.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        match self.sender.try_send(Work::Look) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => log::debug!("a lane has ended"),
        }
    }
}

impl Seat {
    /// Which lane this is, for [`Hub::leave`] and [`Hub::resync_one`].
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether there is more to do than the queue holds; see [`Seat::next`].
    pub fn is_behind(&self) -> bool {
        self.shared.behind.load(Ordering::SeqCst)
    }

    /// A batch is taken off the queue.
    pub fn taken(&self, events: &EventBatch) {
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

    /// The handler was made again and must start over.
    pub fn restart(&self, reason: SyncReason) {
        if let Some(Some(slot)) = self.hub.state().slots.get_mut(self.number) {
            slot.catchup.restart(reason);
            slot.tell();
        }
    }
}
