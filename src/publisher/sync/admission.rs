//! Who may fetch a snapshot now, and when the others are to ask again: pure.
//!
//! A snapshot is what costs most, and after a partition everybody wants one at once. A bounded
//! number of nodes is in the middle of one; whoever asks beyond that is told a time, with jitter,
//! that grows with the number of those who wait. A node that gets on is never cut: its place is
//! free again after its last chunk, or when it has not got any further for a while. However many
//! connections a node makes, it has one place, and while others wait a share of what may be begun.
//! Where an address is all that is known of those who ask, one address has no more than three
//! quarters of the places: whoever is there may as well be one, who begins and never goes on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::waiters::Waiter;
use crate::util::bucket::Bucket;

/// Who asks: the identity that ROUTER gave the connection.
pub(super) type Client = Box<[u8]>;

/// Whose connection that is: the node's name; where nobody proves who it is, the connection itself.
pub(super) type Owner = Box<[u8]>;

/// A snapshot is over for who has not got any further in it for this long.
const SILENT: Duration = Duration::from_secs(30);

/// Shortest and longest time that a client is told to wait, before jitter.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Those who were sent away and are remembered, so that it is known how many wait. With more than
/// this the longest time is told anyway.
const MAX_WAITING: usize = 16_384;

/// Snapshots of different topics that one node may be in the middle of.
const PER_OWNER: usize = 16;

/// While others wait a node begins no more than this part of the snapshots that may be begun.
const SHARE: f64 = 0.25;

/// What a node has begun is forgotten when its share has filled up again, which takes a second; a
/// share of less than one snapshot a second counts as one.
const FULL: Duration = Duration::from_secs(1);

/// How much the newest stay weighs in the average, one in so many.
const WEIGHT: u32 = 8;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Nodes in the middle of a snapshot.
    pub(super) places: usize,
    /// Snapshots begun per second.
    pub(super) rate: u32,
}

/// A node in the middle of snapshots.
#[derive(Debug)]
struct Place {
    since: Instant,
    /// Where it is, where nothing else is known of it.
    address: Option<IpAddr>,
    /// Snapshots that it may begin and was not given yet.
    begun: usize,
    /// Snapshots that it was given and has not seen the end of.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    snapshot: u64,
    /// The furthest chunk that was asked for, and when.
    chunk: u32,
    heard: Instant,
    /// The connection that asked last.
    client: Client,
}

impl Place {
    fn has(&self, snapshot: u64) -> bool {
        self.open.iter().any(|open| open.snapshot == snapshot)
    }

    fn has_room(&self) -> bool {
        self.begun + self.open.len() < PER_OWNER
    }

    fn is_over(&self) -> bool {
        self.begun == 0 && self.open.is_empty()
    }

    fn ask(&mut self, client: &Client, (snapshot, chunk): (u64, u32), now: Instant) {
        let known = self.open.iter_mut().find(|open| open.snapshot == snapshot);
        match known {
            Some(open) => {
                open.client.clone_from(client);
                // Who asks for the same again does not get on by that.
                if chunk > open.chunk {
                    (open.chunk, open.heard) = (chunk, now);
                }
            }
            None => self.open.push(Open {
                snapshot,
                chunk,
                heard: now,
                client: client.clone(),
            }),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    places: HashMap<Owner, Place>,
    /// Who was sent away, and until when it is expected back.
    waiting: HashMap<Owner, Instant>,
    /// Snapshots that may be begun at once, and when that was counted.
    tokens: f64,
    counted: Instant,
    /// What is left of the shares of those who have begun any lately.
    shares: HashMap<Owner, Bucket>,
    /// How long a node is in the middle of snapshots, on average.
    stay: Duration,
    rng: Rng,
}

impl Admission {
    pub(super) fn new(limits: Limits, now: Instant, rng: Rng) -> Self {
        Admission {
            limits,
            places: HashMap::new(),
            waiting: HashMap::new(),
            tokens: f64::from(limits.rate),
            counted: now,
            shares: HashMap::new(),
            stay: WAIT_MIN,
            rng,
        }
    }

    /// A client wants to begin a snapshot; when it may not now, after which time to ask again. After
    /// this it is [`Admission::joined`] or [`Admission::failed`].
    pub(super) fn begin(&mut self, waiter: &Waiter, now: Instant) -> Result<(), Duration> {
        let owner = &waiter.owner;
        self.refill(now);
        if !self.has_room(waiter) || self.tokens < 1.0 || !self.has_share(owner, now) {
            return Err(self.send_away(owner, now));
        }
        self.tokens -= 1.0;
        self.waiting.remove(owner);
        self.place(waiter, now).begun += 1;
        Ok(())
    }

    /// A client that may begin is given this snapshot.
    pub(super) fn joined(&mut self, waiter: &Waiter, snapshot: u64, now: Instant) {
        let place = self.place(waiter, now);
        place.begun = place.begun.saturating_sub(1);
        place.ask(&waiter.client, (snapshot, 0), now);
    }

    /// A client that may begin is given none.
    pub(super) fn failed(&mut self, waiter: &Waiter, now: Instant) {
        if let Some(place) = self.places.get_mut(&waiter.owner) {
            place.begun = place.begun.saturating_sub(1);
        }
        self.leave(&waiter.owner, now);
    }

    /// A client asks for a chunk of what it was given. Whoever got no further for too long and has lost
    /// its place waits for another as those do who begin.
    pub(super) fn goes_on(
        &mut self,
        waiter: &Waiter,
        (snapshot, chunk): (u64, u32),
        now: Instant,
    ) -> Result<(), Duration> {
        let place = self.places.get(&waiter.owner);
        let known = place.is_some_and(|place| place.has(snapshot));
        if !known && !self.has_room(waiter) {
            return Err(self.send_away(&waiter.owner, now));
        }
        self.waiting.remove(&waiter.owner);
        let place = self.place(waiter, now);
        place.ask(&waiter.client, (snapshot, chunk), now);
        Ok(())
    }

    /// A client was given its last chunk, or there is nothing more to give.
    pub(super) fn ended(&mut self, waiter: &Waiter, snapshot: u64, now: Instant) {
        if let Some(place) = self.places.get_mut(&waiter.owner) {
            place.open.retain(|open| open.snapshot != snapshot);
        }
        self.leave(&waiter.owner, now);
    }

    fn leave(&mut self, owner: &Owner, now: Instant) {
        if let Some(place) = self.places.get(owner).filter(|place| place.is_over()) {
            let stay = now.saturating_duration_since(place.since);
            self.stay = (self.stay * (WEIGHT - 1) + stay) / WEIGHT;
            self.places.remove(owner);
        }
    }

    /// A connection is gone, and what it was in the middle of is over.
    pub(super) fn gone(&mut self, client: &[u8]) {
        for place in self.places.values_mut() {
            place.open.retain(|open| *open.client != *client);
        }
        self.places.retain(|_, place| !place.is_over());
        // Where it is its own owner; a node that has another connection still waits.
        self.waiting.remove(client);
    }

    /// Frees the places of those who do not get on.
    pub(super) fn tick(&mut self, now: Instant) -> usize {
        let before = self.places.len();
        let silent = |open: &Open| now.saturating_duration_since(open.heard) >= SILENT;
        for place in self.places.values_mut() {
            place.open.retain(|open| !silent(open));
        }
        self.places.retain(|_, place| !place.is_over());
        // Some come back a little late; who does not is gone.
        self.waiting.retain(|_, until| *until + WAIT_MAX > now);
        let lately = |share: &Bucket| now.saturating_duration_since(share.counted()) < FULL;
        self.shares.retain(|_, share| lately(share));
        before - self.places.len()
    }

    /// Nodes in the middle of a snapshot.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Nodes that were told to ask again.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether somebody is in the middle of this snapshot.
    pub(super) fn wanted(&self, snapshot: u64) -> bool {
        self.places.values().any(|place| place.has(snapshot))
    }

    /// Snapshots that somebody is in the middle of.
    pub(super) fn open(&self) -> impl Iterator<Item = u64> {
        let places = self.places.values();
        places.flat_map(|place| place.open.iter().map(|open| open.snapshot))
    }

    fn place(&mut self, waiter: &Waiter, now: Instant) -> &mut Place {
        let entry = self.places.entry(waiter.owner.clone());
        entry.or_insert_with(|| Place {
            since: now,
            address: waiter.address,
            begun: 0,
            open: Vec::new(),
        })
    }

    fn has_room(&self, waiter: &Waiter) -> bool {
        let all = self.limits.places;
        match (self.places.get(&waiter.owner), waiter.address) {
            (Some(place), _) => place.has_room(),
            (None, None) => self.places.len() < all,
            (None, address) => {
                let beside = self
                    .places
                    .values()
                    .filter(|place| place.address == address);
                let others = (all / 4).max(usize::from(all > 1));
                self.places.len() < all && beside.count() < all - others
            }
        }
    }

    /// Whether the node may begin another now; alone it may begin all.
    fn has_share(&mut self, owner: &Owner, now: Instant) -> bool {
        let others = self.waiting.len() > usize::from(self.waiting.contains_key(owner));
        let share = (SHARE * f64::from(self.limits.rate)).max(1.0);
        let full = Bucket::full(share, now);
        let left = self.shares.entry(owner.clone()).or_insert(full);
        left.take(share, share, now) || !others
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        let rate = f64::from(self.limits.rate);
        self.tokens = (self.tokens + passed * rate).min(rate.max(1.0));
        self.counted = now;
    }

    fn send_away(&mut self, owner: &Owner, now: Instant) -> Duration {
        let waiting = self.waiting.len() as u32 + 1;
        let places = self.limits.places.max(1) as u32;
        // For all who wait to have had their turn.
        let by_places = self.stay.saturating_mul(waiting) / places;
        let by_rate = Duration::from_secs(1).saturating_mul(waiting) / self.limits.rate.max(1);
        let wait = by_places.max(by_rate).clamp(WAIT_MIN, WAIT_MAX);
        let wait = wait.mul_f64(0.5 + self.rng.f64());
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(owner.clone(), now + wait);
        }
        wait
    }
}

#[cfg(test)]
mod tests;
