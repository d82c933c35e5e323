//! What becomes of rows whose call failed: pure, `(input, now) → what to do`.
//!
//! A row that may work later waits; others go on. For [`Delivery::State`] only its name is kept:
//! later events of it are let go, and when its time has come its newest state is given. For
//! [`Delivery::Events`] it keeps its events, and later ones queue behind them; when they grow
//! beyond the limits there is a resync. A row that will never work is held in [`Quarantine`].
//! A handler that starts over is given everything, so that nothing of this is left then, but for
//! rows that brought it down several times.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Delivery;
use super::by_row::ByRow;
use super::quarantine::{Print, Quarantine, Quarantined};
use crate::event::{Event, EventBatch};
use crate::replica::RowKey;

/// Rows asked for in one go.
const ASK: usize = 256;

/// Times the handler may be brought down by one state of a row, one after the other.
const STRIKES: u32 = 3;

/// How long failures wait, and how much may be kept of them, for one handler.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows, or events, that may wait to be given again. With more the handler starts over.
    pub waiting: usize,
    /// Bytes of events that may wait.
    pub bytes: usize,
    /// Rows in quarantine that are listed.
    pub quarantined: usize,
    /// The first wait of a row; half to all of it, as of the waits that follow, each twice as long.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            waiting: 16_384,
            bytes: 4 << 20,
            quarantined: 4096,
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
        }
    }
}

/// What must be done now.
#[derive(Debug)]
pub enum Due {
    /// Ask for the newest states of these rows.
    Ask(Vec<RowKey>),
    /// Give this one event, and say what became of it.
    Give(EventBatch),
    /// Start the handler over.
    Resync,
}

/// When something is due; the number tells two of one instant apart.
type Place = (Instant, u64);

#[derive(Debug, Default)]
struct Waiting {
    attempts: u32,
    /// `None`: its time has come, and it is on its way to the handler.
    place: Option<Place>,
    /// Only for [`Delivery::Events`]: each one event.
    backlog: VecDeque<EventBatch>,
}

/// The rows of one handler that failed.
#[derive(Debug)]
pub struct Troubles {
    delivery: Delivery,
    limits: Limits,
    rng: Rng,
    waiting: ByRow<Waiting>,
    due: BTreeMap<Place, RowKey>,
    places: u64,
    backlog: usize,
    backlog_bytes: usize,
    quarantine: Quarantine,
    /// When the handler must start over, and how often that did not help.
    resync: Option<Instant>,
    resyncs: u32,
    /// The state of a row in whose call the handler came down last, and how many times.
    suspect: Option<(RowKey, Print, u32)>,
}

impl Troubles {
    /// No trouble yet.
    pub fn new(delivery: Delivery, limits: Limits, rng: Rng) -> Self {
        Troubles {
            delivery,
            limits,
            rng,
            waiting: ByRow::default(),
            due: BTreeMap::new(),
            places: 0,
            backlog: 0,
            backlog_bytes: 0,
            quarantine: Quarantine::new(limits.quarantined, limits.bytes),
            resync: None,
            resyncs: 0,
            suspect: None,
        }
    }

    /// Whether no row is held back and nothing is due, ever.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.quarantine.is_empty() && self.resync.is_none()
    }

    /// How many rows wait to be given again.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The rows that are not given again as they are.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Whether more waits than may; [`Troubles::start_over`] ends it.
    pub fn is_overflowing(&self) -> bool {
        self.waiting.len().max(self.backlog) > self.limits.waiting
            || self.backlog_bytes > self.limits.bytes
    }

    /// When [`Troubles::due`] must be asked.
    pub fn wake(&self) -> Option<Instant> {
        self.wake_for_row().into_iter().chain(self.resync).min()
    }

    /// When [`Troubles::row_due`] must be asked.
    pub fn wake_for_row(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether `event`, which is next, is to be given now.
    pub fn admit(&mut self, event: &Event<'_>) -> bool {
        if let Some(waiting) = self.waiting.get_mut(event.table, event.key) {
            if self.delivery == Delivery::State {
                return waiting.place.is_none();
            }
            let event: EventBatch = [*event].into_iter().collect();
            self.backlog += 1;
            self.backlog_bytes += event.bytes();
            waiting.backlog.push_back(event);
            return false;
        }
        !self.quarantine.holds(event)
    }

    /// The handler took `event`.
    pub fn done(&mut self, event: &Event<'_>, now: Instant) {
        self.next(event, now);
    }

    /// `event` may work later.
    pub fn retry(&mut self, event: &Event<'_>, now: Instant) {
        let mut waiting = self.take(event).unwrap_or_default();
        if self.delivery == Delivery::Events {
            let event: EventBatch = [*event].into_iter().collect();
            self.backlog += 1;
            self.backlog_bytes += event.bytes();
            waiting.backlog.push_front(event);
        }
        let wait = self.wait(waiting.attempts);
        waiting.attempts = waiting.attempts.saturating_add(1);
        self.put(RowKey::new(event.table, event.key), waiting, now + wait);
    }

    /// `event` will never work. `false` when it is held back by nothing: a newer one is there
    /// already, or there is no more room.
    pub fn give_up(&mut self, event: &Event<'_>, reason: &str, now: Instant) -> bool {
        if self.next(event, now) {
            return false;
        }
        self.hold(event, reason, false, now)
    }

    /// The handler came down in its call with `event`, and will start over. `true` when that was
    /// once too often, and the row is not given again as it is.
    pub fn blame(&mut self, event: &Event<'_>, reason: &str, now: Instant) -> bool {
        let (row, print) = (RowKey::new(event.table, event.key), Print::of(event));
        let strikes = match &self.suspect {
            Some((suspect, at, strikes)) if *suspect == row && *at == print => strikes + 1,
            _ => 1,
        };
        self.suspect = Some((row, print, strikes));
        strikes >= STRIKES && {
            self.suspect = None;
            self.hold(event, reason, true, now)
        }
    }

    /// The handler could not take that it starts over, or that it has, or its order is lost: it must
    /// start over later. Where it is to do so already that stands, however much fails until then.
    pub fn mark_failed(&mut self, now: Instant) {
        if self.resync.is_some() {
            return;
        }
        let wait = self.wait(self.resyncs);
        self.resyncs = self.resyncs.saturating_add(1);
        self.resync = Some(now + wait);
    }

    /// What there is to do now, to be asked again until there is nothing.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.resync.is_some_and(|at| at <= now) {
            self.resync = None;
            return Some(Due::Resync);
        }
        self.row_due(now)
    }

    /// As [`Troubles::due`], but for a resync, which waits.
    pub fn row_due(&mut self, now: Instant) -> Option<Due> {
        let mut names = Vec::new();
        while names.len() < ASK
            && let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let row = first.remove();
            let Some(waiting) = self.waiting.get_mut(&row.table, &row.key) else {
                continue;
            };
            waiting.place = None;
            if self.delivery == Delivery::State {
                names.push(row);
            } else if let Some(event) = waiting.backlog.pop_front() {
                self.backlog -= 1;
                self.backlog_bytes -= event.bytes();
                return Some(Due::Give(event));
            } else {
                self.waiting.remove(&row.table, &row.key);
            }
        }
        (!names.is_empty()).then_some(Due::Ask(names))
    }

    /// Everything asked for was given, or there is nothing of it to give.
    pub fn up_to_date(&mut self) {
        if self.delivery == Delivery::State && self.waiting.len() > self.due.len() {
            self.waiting.retain(|waiting| waiting.place.is_some());
        }
    }

    /// The handler starts over.
    pub fn start_over(&mut self) {
        self.waiting = ByRow::default();
        self.due.clear();
        (self.backlog, self.backlog_bytes) = (0, 0);
        self.quarantine.start_over();
        self.resync = None;
    }

    /// It has started over, and took that.
    pub fn started_over(&mut self) {
        if self.resync.is_none() {
            self.resyncs = 0;
        }
    }

    /// The operator wants a row in quarantine to be tried again; `false` when it is not there.
    pub fn release(&mut self, table: &str, key: &str, now: Instant) -> bool {
        let Some(held) = self.quarantine.remove(table, key) else {
            return false;
        };
        let mut waiting = Waiting::default();
        if self.delivery == Delivery::Events {
            let Some(event) = held.event else {
                // There was no room to keep it.
                self.resync = Some(now);
                return true;
            };
            self.backlog += 1;
            self.backlog_bytes += event.bytes();
            waiting.backlog.push_back(event);
        }
        self.put(RowKey::new(table, key), waiting, now);
        true
    }

    /// As [`Troubles::release`], every row; says how many were listed. Rows that were not are
    /// given by a resync.
    pub fn release_all(&mut self, now: Instant) -> usize {
        if self.quarantine.take_unlisted() {
            self.resync = Some(now);
        }
        let rows = self.quarantine.list();
        for (row, _) in &rows {
            self.release(&row.table, &row.key, now);
        }
        rows.len()
    }

    /// The row of `event` is through with it. `true` when more of its events wait, the next one
    /// from now on.
    fn next(&mut self, event: &Event<'_>, now: Instant) -> bool {
        let Some(mut waiting) = self.take(event) else {
            return false;
        };
        let more = !waiting.backlog.is_empty();
        if more {
            waiting.attempts = 0;
            self.put(RowKey::new(event.table, event.key), waiting, now);
        }
        more
    }

    fn hold(&mut self, event: &Event<'_>, reason: &str, lasting: bool, now: Instant) -> bool {
        let mut held = Quarantined::new(event, reason, lasting, now);
        if self.delivery == Delivery::Events {
            held.event = Some([*event].into_iter().collect());
        }
        let row = RowKey::new(event.table, event.key);
        self.quarantine.insert(row, held)
    }

    fn take(&mut self, event: &Event<'_>) -> Option<Waiting> {
        let waiting = self.waiting.remove(event.table, event.key)?;
        if let Some(place) = waiting.place {
            self.due.remove(&place);
        }
        Some(waiting)
    }

    fn put(&mut self, row: RowKey, mut waiting: Waiting, at: Instant) {
        let place = (at, self.places);
        self.places += 1;
        waiting.place = Some(place);
        self.due.insert(place, row.clone());
        self.waiting.insert(row, waiting);
    }

    /// Half to all of the time that doubles with each attempt.
    fn wait(&mut self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts).unwrap_or(u32::MAX);
        let Limits {
            retry_min,
            retry_max,
            ..
        } = self.limits;
        let ceiling = retry_min.saturating_mul(factor).min(retry_max);
        ceiling.mul_f64(0.5 + self.rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests;
