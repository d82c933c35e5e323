//! The one place where the events of all publishers meet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::catchup::{Catchup, Delivery, Step};
use super::dropped::Dropped;
use super::heard::Heard;
use super::offer::Offer;
use super::onlook::{Eye, Onlooker, Shown, onlook};
use super::{Filter, LaneMetrics};
use crate::event::{Event, EventBatch, Stamp};
use crate::handler::SyncReason;
use crate::pubsub::{Callback, LinkChange, Source};
use crate::replica::{Replica, Row, RowKey, Verdict};

mod seat;
mod slot;

pub use seat::{Bell, Seat};
use slot::{Shared, Slot};

crate::metrics! {
    /// What the hub counts.
    pub struct HubMetrics {
        rows: Gauge = "Rows in the replica.",
        events_duplicate_total: Counter = "Events whose state was the newest already; dropped.",
        events_older_total: Counter = "Events older than what was known; dropped.",
        events_unwanted_total: Counter = "Events of topics that are no longer wanted; dropped.",
        rows_dropped_total: Counter = "Rows that went with their topic.",
        watch_events_lost_total: Counter = "Events that operators' watches were too slow for; they are told how many.",
        resyncs_asked_total: Counter = "Times all handlers were told to start over.",
    }
}

/// What waits in a lane's channel.
#[derive(Debug)]
pub enum Work {
    /// Events to apply.
    Events(Arc<Offer>),
    /// Nothing but a reason to look at [`Seat::is_behind`].
    Look,
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
    dropped: Dropped,
    closed: bool,
    /// Lanes begin nothing until [`Hub::open`].
    held: bool,
    note: Option<Note>,
    /// While somebody compares rows with what is read elsewhere.
    heard: Option<Heard>,
}

/// Told of each row of one table that changes.
type Note = (&'static str, Box<dyn Fn(&str) + Send>);

/// Rows looked at in one go when all must be: the lock is held for so many.
const WALK: usize = 4096;

/// Merges events into the replica and hands what is new to the lanes.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
    /// What it counts.
    pub metrics: HubMetrics,
}

/// As long as it is there, what is heard of without a stamp is noted.
#[derive(Debug)]
#[must_use]
pub struct Hearing<'h>(&'h Hub);

impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        self.0.state().heard = None;
    }
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
    pub fn onlook(&self, filter: Filter) -> Onlooker {
        let (eye, onlooker) = onlook(filter);
        let mut state = self.state();
        // Closed: the onlooker is told so at once.
        if !state.closed {
            state.eyes.push(eye);
        }
        onlooker
    }

    /// From now on `note` is told the key of each row of `table` that changes, by whatever way, once it
    /// has. It holds everybody up, so it must not block.
    pub fn note(&self, table: &'static str, note: Box<dyn Fn(&str) + Send>) {
        self.state().note = Some((table, note));
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
                slot.ring();
            }
        }
    }

    /// Merges and hands on.
    pub fn publish(&self, events: EventBatch) {
        self.publish_to(&mut self.state(), events);
    }

    /// As [`Hub::publish`], of what was known in an earlier life of this program. `gone` says since when
    /// an object is gone by the stamp of its delete.
    pub fn restore(&self, events: EventBatch, gone: impl Fn(&Stamp) -> Instant) {
        let now = Instant::now();
        let at = |event: &Event<'_>| event.stamp.as_ref().map_or(now, &gone);
        self.publish_as_of(&mut self.state(), events, at);
    }

    /// From now on what is heard of without a stamp is noted for [`Hub::change`], but for what that makes
    /// itself, until the guard goes. There is one at a time.
    pub fn hear(&self) -> Hearing<'_> {
        self.state().heard = Some(Heard::default());
        Hearing(self)
    }

    /// Merges and hands on what `make` makes of the rows as they are, and of what was heard of: nothing
    /// comes between. It holds everybody up, so it is to be short. Says how many events those were.
    pub fn change(&self, make: impl FnOnce(&Replica, &Heard) -> EventBatch) -> usize {
        let mut state = self.state();
        let heard = state.heard.take();
        let events = match &heard {
            Some(heard) => make(&state.replica, heard),
            None => make(&state.replica, &Heard::default()),
        };
        let made = events.len();
        if made > 0 {
            self.publish_to(&mut state, events);
        }
        state.heard = heard;
        made
    }

    /// Removes the rows that `gone` picks; says how many. Lets others in between.
    pub fn sweep(&self, gone: impl Fn(&RowKey, &Row) -> bool) -> u64 {
        let mut cursor = self.state().replica.cursor();
        let (mut swept, mut more) = (0, true);
        while more {
            let mut state = self.state();
            let mut deletes = EventBatch::new();
            more = state.replica.walk(&mut cursor, WALK, |name, row| {
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
        self.publish_as_of(state, events, |_| now);
    }

    /// As of when an event is there `at` says.
    fn publish_as_of(
        &self,
        state: &mut State,
        events: EventBatch,
        at: impl Fn(&Event<'_>) -> Instant,
    ) {
        let State {
            replica,
            slots,
            eyes,
            dropped,
            closed,
            note,
            heard,
            ..
        } = state;
        // Almost always every event is fresh; the others are left out of a new batch.
        let mut stale: Vec<usize> = Vec::new();
        let mut left = Vec::new();
        for (place, event) in events.iter().enumerate() {
            if let Some(heard) = heard {
                heard.note(&event);
            }
            if dropped.holds(event.topic_or_all()) {
                self.metrics.events_unwanted_total.inc();
                stale.push(place);
                continue;
            }
            let merged = replica.merge(&event, at(&event));
            match merged.verdict {
                Verdict::Applied => {
                    if let Some((table, note)) = note
                        && event.table == *table
                    {
                        note(event.key);
                    }
                    left.extend(merged.left.map(|topic| (place - stale.len(), topic)));
                    continue;
                }
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
        if !events.is_empty() && !*closed {
            let lost = hand_on(slots, eyes, Offer::new(events, left), replica);
            self.metrics.watch_events_lost_total.add(lost);
        }
    }

    /// Rows of `topic` are wanted from now on.
    pub fn want_topic(&self, topic: &str) {
        self.state().dropped.remove(topic);
    }

    /// Rows of `topics` are no longer wanted: those there are go, and handlers are told that they
    /// are gone; those that still come are dropped until [`Hub::want_topic`]. Says how many went.
    /// Looks at every row once.
    pub fn drop_topics(&self, topics: &[String]) -> usize {
        let mut state = self.state();
        state.dropped.insert(topics);
        let mut cursor = state.replica.cursor();
        let mut count = 0;
        loop {
            if state.closed {
                return count;
            }
            let State {
                replica,
                slots,
                eyes,
                dropped,
                note,
                ..
            } = &mut *state;
            let mut gone = EventBatch::new();
            // One that is wanted again meanwhile keeps what it has left, and what comes.
            let leaves = |row: &Row| dropped.holds(&row.topic);
            let more = replica.drop_rows(&mut cursor, WALK, leaves, |name, row| {
                if let Some((table, note)) = note
                    && *name.table == **table
                {
                    note(&name.key);
                }
                let delete = Event::delete(&name.table, &name.key).on(&row.topic);
                // What does not fit into 4 GiB of names would be told by nobody; a walk's rows do.
                if !row.is_tombstone() && gone.push(&delete) {
                    count += 1;
                }
            });
            self.metrics.rows.set(replica.len() as u64);
            self.metrics.rows_dropped_total.add(gone.len() as u64);
            if !gone.is_empty() {
                let lost = hand_on(slots, eyes, Offer::new(gone, Vec::new()), replica);
                self.metrics.watch_events_lost_total.add(lost);
            }
            if !more {
                return count;
            }
            drop(state);
            state = self.state();
        }
    }

    /// Forgets deleted objects that are gone for longer than `ttl`.
    pub fn forget(&self, ttl: Duration) {
        let Some(before) = Instant::now().checked_sub(ttl) else {
            return;
        };
        let mut forgotten = 0;
        let mut cursor = self.state().replica.cursor();
        let mut go_on = || {
            let replica = &mut self.state().replica;
            replica.expire_some(&mut cursor, WALK, before, |_, _| forgotten += 1)
        };
        while go_on() {}
        log::debug!("{forgotten} deleted objects forgotten");
    }

    /// Ends the lanes' work: they work off what they have and then see their channel closed. What still
    /// comes is taken all the same: a reader that was left behind goes on to say how far it followed its
    /// publisher, and the rows of a checkpoint must not be behind that.
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

/// Says how many events onlookers had no room for.
fn hand_on(
    slots: &mut [Option<Slot>],
    eyes: &mut Vec<Eye>,
    offer: Offer,
    replica: &Replica,
) -> u64 {
    let offer = Arc::new(offer);
    for slot in slots.iter_mut().flatten() {
        slot.offer(&offer, replica);
    }
    let mut lost = 0;
    eyes.retain(|eye| match eye.show(&offer) {
        Shown::Yes => true,
        Shown::Lost(events) => {
            lost += events;
            true
        }
        Shown::Nobody => false,
    });
    lost
}

#[cfg(test)]
mod tests;
