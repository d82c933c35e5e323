//! What others may know of a lane and ask of it, without waiting for its handler.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::LaneMetrics;
use crate::dispatch::hub::Bell;
use crate::dispatch::lookout::Stopwatch;
use crate::dispatch::quarantine::Quarantined;
use crate::dispatch::troubles::Troubles;
use crate::handler::SyncReason;
use crate::metrics::{Counts, Sample};
use crate::replica::RowKey;
use crate::util::printable;
use crate::util::pulse::Pulse;
use crate::util::stop::{Stop, StopToken, stop};

/// Longest text kept of an error, bytes.
const MAX_ERROR: usize = 512;

/// What a handler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// It is being made.
    Starting,
    /// It runs.
    Running,
    /// Too many rows failed; it is given nothing until then and then starts over.
    Pausing(Instant),
    /// It cannot be made or was lost; it is made again then.
    Waiting(Instant),
    /// A call runs longer than the time limit. It was asked to end.
    Stuck(Instant),
    /// The lane was closed.
    Ended,
}

impl LaneState {
    /// A stable name for status lines.
    pub fn as_str(self) -> &'static str {
        match self {
            LaneState::Starting => "starting",
            LaneState::Running => "running",
            LaneState::Pausing(_) => "pausing",
            LaneState::Waiting(_) => "waiting",
            LaneState::Stuck(_) => "stuck",
            LaneState::Ended => "ended",
        }
    }
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneError {
    /// What, printable.
    pub text: String,
    /// When.
    pub at: Instant,
}

/// A lane as it is now.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    /// The handler's name.
    pub name: String,
    /// What it does, and since or until when.
    pub state: LaneState,
    /// Times the handler was made.
    pub starts: u64,
    /// Whether it has yet to be given rows beside its queue.
    pub behind: bool,
    /// Batches in its queue.
    pub queued: usize,
    /// Bytes in its queue.
    pub queued_bytes: usize,
    /// Changed rows remembered for it while it is behind.
    pub rows_waiting: u64,
    /// Rows that failed and wait to be given again.
    pub retries_waiting: usize,
    /// Whether something that it is to do failed and has yet to work.
    pub failing: bool,
    /// Rows in quarantine; see [`LaneHandle::quarantine`].
    pub quarantined: usize,
    /// The last thing that went wrong, however long ago.
    pub last_error: Option<LaneError>,
}

/// What the lane's thread shares with others.
#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    pub time_limit: Option<Duration>,
    /// Whether the lane's thread gets on: at rest while it waits for work.
    pub pulse: Pulse,
    metrics: Arc<LaneMetrics>,
    bell: Bell,
    /// The number of the handler's call that runs, 0 when none does.
    pub call: AtomicU64,
    stopwatch: Mutex<Stopwatch>,
    /// The call that was found to run too long; 0 when none was in this life of the handler.
    pub late_call: AtomicU64,
    /// Whether calls that are for no single row failed and have yet to work.
    pub calls_fail: AtomicBool,
    life: Mutex<Option<Stop>>,
    no_more_lives: AtomicBool,
    state: Mutex<(LaneState, u64)>,
    last_error: Mutex<Option<LaneError>>,
    own: Mutex<Option<Arc<dyn Counts>>>,
    troubles: Mutex<Troubles>,
}

impl Shared {
    pub fn new(
        name: String,
        time_limit: Option<Duration>,
        troubles: Troubles,
        metrics: Arc<LaneMetrics>,
        bell: Bell,
    ) -> Self {
        Shared {
            name,
            time_limit,
            pulse: Pulse::default(),
            metrics,
            bell,
            call: AtomicU64::new(0),
            stopwatch: Mutex::default(),
            late_call: AtomicU64::new(0),
            calls_fail: AtomicBool::new(false),
            life: Mutex::default(),
            no_more_lives: AtomicBool::new(false),
            state: Mutex::new((LaneState::Starting, 0)),
            last_error: Mutex::default(),
            own: Mutex::default(),
            troubles: Mutex::new(troubles),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Never held while the handler is called.
    pub fn troubles(&self) -> MutexGuard<'_, Troubles> {
        lock(&self.troubles)
    }

    /// Shows how many rows are held back, and whether something fails.
    pub fn show(&self, troubles: &Troubles) {
        self.metrics.retries_waiting.set(troubles.waiting() as u64);
        self.metrics
            .quarantined
            .set(troubles.quarantine().len() as u64);
        let failing = troubles.waiting() > 0 || self.calls_fail.load(Ordering::Relaxed);
        self.metrics.failing.set(failing.into());
    }

    /// For the lookout.
    pub(in crate::dispatch) fn stopwatch(&self) -> MutexGuard<'_, Stopwatch> {
        lock(&self.stopwatch)
    }

    pub fn set_state(&self, state: LaneState) {
        lock(&self.state).0 = state;
    }

    pub fn set_own(&self, own: Option<Arc<dyn Counts>>) {
        *lock(&self.own) = own;
    }

    pub fn error(&self, text: &str, at: Instant) {
        let text = printable::text(text, MAX_ERROR).to_string();
        *lock(&self.last_error) = Some(LaneError { text, at });
    }

    /// The token of the handler's next life.
    pub fn new_life(&self) -> io::Result<StopToken> {
        let (stop, token) = stop()?;
        self.late_call.store(0, Ordering::SeqCst);
        self.metrics.late.set(0);
        {
            let mut state = lock(&self.state);
            *state = (LaneState::Starting, state.1 + 1);
        }
        *lock(&self.life) = Some(stop);
        // After the life is there to be ended: `end_lives` does it in the other order.
        if self.no_more_lives.load(Ordering::SeqCst) {
            self.end_life();
        }
        Ok(token)
    }

    /// The call of this number runs since `since`, longer than it may: it is told to end.
    pub fn late(&self, call: u64, since: Instant) {
        self.metrics.late_calls_total.inc();
        self.metrics.late.set(1);
        self.set_state(LaneState::Stuck(since));
        self.late_call.store(call, Ordering::SeqCst);
        self.end_life();
        // It may have ended just now, and its lane be waiting.
        self.bell.ring();
    }

    /// Takes the lane out of the hub.
    pub fn leave(&self) {
        self.bell.leave();
    }

    /// Stops what the handler is doing.
    pub fn end_life(&self) {
        *lock(&self.life) = None;
    }

    /// Stops what the handler is doing and all it does later.
    pub fn end_lives(&self) {
        self.no_more_lives.store(true, Ordering::SeqCst);
        self.end_life();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What others may know of a lane and ask of it. Cheap to clone; no call waits for the handler.
#[derive(Debug, Clone)]
pub struct LaneHandle(pub(super) Arc<Shared>);

impl LaneHandle {
    /// The handler's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The lane as it is now.
    pub fn status(&self) -> LaneStatus {
        let (state, starts) = *lock(&self.0.state);
        let (queued, queued_bytes) = self.0.bell.queued();
        let troubles = self.0.troubles();
        LaneStatus {
            name: self.0.name.clone(),
            state,
            starts,
            behind: self.0.metrics.behind.get() == 1,
            queued,
            queued_bytes,
            rows_waiting: self.0.metrics.rows_waiting.get(),
            retries_waiting: troubles.waiting(),
            failing: self.0.metrics.failing.get() == 1,
            quarantined: troubles.quarantine().len(),
            last_error: lock(&self.0.last_error).clone(),
        }
    }

    /// What the handler itself counts, if anything; from zero in each of its lives.
    pub fn own_counts(&self) -> Vec<Sample> {
        let own = lock(&self.0.own);
        own.as_ref().map_or_else(Vec::new, |own| own.samples())
    }

    /// Whether the lane's thread gets on: at rest while it waits for work.
    pub fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// Has the handler start over.
    pub fn resync(&self, reason: SyncReason) {
        self.0.bell.resync(reason);
    }

    /// The rows in quarantine, by table and key.
    pub fn quarantine(&self) -> Vec<(RowKey, Quarantined)> {
        let mut rows = self.0.troubles().quarantine().list();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        rows
    }

    /// Lets the handler try a row in quarantine again; `false` when it is not there.
    pub fn release(&self, table: &str, key: &str) -> bool {
        let released = self.change(|troubles, now| troubles.release(table, key, now));
        self.0.bell.ring();
        released
    }

    /// Lets the handler try all rows in quarantine again; says how many were listed.
    pub fn release_all(&self) -> usize {
        let released = self.change(Troubles::release_all);
        self.0.bell.ring();
        released
    }

    fn change<T>(&self, act: impl FnOnce(&mut Troubles, Instant) -> T) -> T {
        let mut troubles = self.0.troubles();
        let result = act(&mut troubles, Instant::now());
        self.0.show(&troubles);
        result
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}
