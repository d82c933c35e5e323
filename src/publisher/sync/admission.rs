//! Who may fetch a snapshot now, and when the others are to ask again: pure.
//!
//! A snapshot is what costs most, and after a partition everybody wants one at once. A bounded
//! number of clients is in the middle of one; whoever asks beyond that is told a time, with jitter,
//! that grows with the number of those who wait. A client that gets on is never cut: its place is
//! free again after its last chunk, or when it has not asked for anything for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Who asks: the identity that ROUTER gave the connection.
pub(super) type Client = Box<[u8]>;

/// A place is free again when its client has not asked for anything for this long.
const SILENT: Duration = Duration::from_secs(30);

/// Shortest and longest time that a client is told to wait, before jitter.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Those who were sent away and are remembered, so that it is known how many wait. With more than
/// this the longest time is told anyway.
const MAX_WAITING: usize = 16_384;

/// Snapshots of different topics that one client may be in the middle of.
const PER_CLIENT: usize = 16;

/// How much the newest stay weighs in the average, one in so many.
const WEIGHT: u32 = 8;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Clients in the middle of a snapshot.
    pub(super) places: usize,
    /// Snapshots begun per second.
    pub(super) rate: u32,
}

/// A client in the middle of snapshots.
#[derive(Debug)]
struct Place {
    since: Instant,
    heard: Instant,
    /// Snapshots it was given and has not seen the end of.
    open: Vec<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    places: HashMap<Client, Place>,
    /// Who was sent away, and until when it is expected back.
    waiting: HashMap<Client, Instant>,
    /// Snapshots that may be begun at once, and when that was counted.
    tokens: f64,
    counted: Instant,
    /// How long a client is in the middle of a snapshot, on average.
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
            stay: WAIT_MIN,
            rng,
        }
    }

    /// A client wants to begin a snapshot; when it may not now, after which time to ask again.
    pub(super) fn begin(&mut self, client: &[u8], now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let room = match self.places.get(client) {
            Some(place) => place.open.len() < PER_CLIENT,
            None => self.places.len() < self.limits.places,
        };
        if !room || self.tokens < 1.0 {
            return Err(self.send_away(client, now));
        }
        self.tokens -= 1.0;
        self.waiting.remove(client);
        self.place(client, now);
        Ok(())
    }

    /// A client that may begin was given this snapshot, or asks for more of it. Whoever was silent
    /// for too long gets its place back: it gets on.
    pub(super) fn goes_on(&mut self, client: &[u8], snapshot: u64, now: Instant) {
        let place = self.place(client, now);
        place.heard = now;
        if !place.open.contains(&snapshot) {
            place.open.push(snapshot);
        }
    }

    /// A client was given its last chunk, or there is nothing more to give.
    pub(super) fn ended(&mut self, client: &[u8], snapshot: u64, now: Instant) {
        let Some(place) = self.places.get_mut(client) else {
            return;
        };
        place.open.retain(|open| *open != snapshot);
        if !place.open.is_empty() {
            return;
        }
        let stay = now.saturating_duration_since(place.since);
        self.stay = (self.stay * (WEIGHT - 1) + stay) / WEIGHT;
        self.places.remove(client);
    }

    /// A client is gone, and its place is free.
    pub(super) fn gone(&mut self, client: &[u8]) {
        self.places.remove(client);
        self.waiting.remove(client);
    }

    /// Frees the places of those who are silent.
    pub(super) fn tick(&mut self, now: Instant) -> usize {
        let before = self.places.len();
        let silent = |place: &Place| now.saturating_duration_since(place.heard) >= SILENT;
        self.places.retain(|_, place| !silent(place));
        // Some come back a little late; who does not is gone.
        self.waiting.retain(|_, until| *until + WAIT_MAX > now);
        before - self.places.len()
    }

    /// Clients in the middle of a snapshot.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Clients that were told to ask again.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether somebody is in the middle of this snapshot.
    pub(super) fn wanted(&self, snapshot: u64) -> bool {
        self.places
            .values()
            .any(|place| place.open.contains(&snapshot))
    }

    /// Snapshots that somebody is in the middle of.
    pub(super) fn open(&self) -> impl Iterator<Item = u64> {
        self.places
            .values()
            .flat_map(|place| place.open.iter().copied())
    }

    fn place(&mut self, client: &[u8], now: Instant) -> &mut Place {
        self.places.entry(client.into()).or_insert_with(|| Place {
            since: now,
            heard: now,
            open: Vec::new(),
        })
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        let rate = f64::from(self.limits.rate);
        self.tokens = (self.tokens + passed * rate).min(rate.max(1.0));
        self.counted = now;
    }

    fn send_away(&mut self, client: &[u8], now: Instant) -> Duration {
        let waiting = self.waiting.len() as u32 + 1;
        let places = self.limits.places.max(1) as u32;
        // For all who wait to have had their turn.
        let by_places = self.stay.saturating_mul(waiting) / places;
        let by_rate = Duration::from_secs(1).saturating_mul(waiting) / self.limits.rate.max(1);
        let wait = by_places.max(by_rate).clamp(WAIT_MIN, WAIT_MAX);
        let wait = wait.mul_f64(0.5 + self.rng.f64());
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(client.into(), now + wait);
        }
        wait
    }
}

#[cfg(test)]
mod tests;
