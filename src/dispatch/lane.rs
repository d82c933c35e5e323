//! One handler's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use fastrand::Rng;

use super::Filter;
use super::catchup::Step;
use super::hub::{Hub, Seat, SeatOptions, Work};
use crate::event::EventBatch;
use crate::handler::{BuildError, Closing, Handler, HandlerError, SyncReason};
use crate::util::backoff::Backoff;
use crate::util::rate::RateLimit;
use crate::util::stop::{Stop, StopToken, stop};
use crate::util::thread::Thread;

crate::metrics! {
    /// What a lane counts.
    pub struct LaneMetrics {
        events_applied_total: Counter = "Events and rows the handler took.",
        events_failed_total: Counter = "Events and rows the handler reported as failed.",
        resyncs_total: Counter = "Times the handler was told to start over.",
        overflows_total: Counter = "Times the handler's queue was full, so that it fell behind.",
        panics_total: Counter = "Times the handler panicked.",
        losses_total: Counter = "Times the handler was lost, as when its child died.",
        starts_failed_total: Counter = "Times the handler could not be started.",
        behind: Gauge = "Whether the handler has yet to be given rows beside its queue (1).",
        rows_waiting: Gauge = "Changed rows remembered for a handler that is behind.",
        running: Gauge = "Whether the handler runs (1) or waits to be started again (0).",
    }
}

/// Makes the handler, at the start and after each panic.
pub type Build = Box<dyn Fn(&StopToken) -> Result<Box<dyn Handler>, BuildError> + Send>;

/// What a lane is made of.
pub struct LaneOptions {
    /// The handler's name.
    pub name: String,
    /// Makes the handler.
    pub build: Build,
    /// How it joins the hub.
    pub seat: SeatOptions,
}

/// A running lane. Dropping it ends it: the handler's running command is stopped at once.
pub struct Lane {
    name: String,
    thread: Thread,
    closing: Arc<OnceLock<End>>,
    stop: Option<Stop>,
    /// What it counts.
    pub metrics: Arc<LaneMetrics>,
}

/// Waits between starts of a handler that fails.
const RESTART_MIN: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A life that lasts so many times the wait before it ends the series of waits: so a handler that
/// dies again and again is down for a fifth of the time at most, or is waited for longer each time.
const WORTH_ITS_WAIT: u32 = 4;

/// Complaints about one handler per [`COMPLAINT_INTERVAL`].
const COMPLAINTS: u32 = 5;
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

impl Lane {
    /// Joins `hub` and starts the thread, which makes the handler.
    pub fn start(hub: &Arc<Hub>, options: LaneOptions) -> std::io::Result<Self> {
        let metrics = Arc::new(LaneMetrics::default());
        let closing = Arc::new(OnceLock::new());
        let (stop, token) = stop()?;
        let filter = options.seat.filter.clone();
        let worker = Worker {
            name: options.name.clone(),
            seat: hub.join(options.seat, Arc::clone(&metrics)),
            filter,
            build: options.build,
            token,
            closing: Arc::clone(&closing),
            metrics: Arc::clone(&metrics),
            complaints: RateLimit::new(COMPLAINTS, COMPLAINT_INTERVAL),
            backoff: Backoff::new(RESTART_MIN, RESTART_MAX, Rng::new()),
            lost: false,
        };
        let thread = Thread::spawn(options.name.clone(), move || worker.run())?;
        Ok(Lane {
            name: options.name,
            thread,
            closing,
            stop: Some(stop),
            metrics,
        })
    }

    /// The handler's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says by when the lane must have ended; to be followed by [`Hub::close`]. A quarter of the
    /// time is the handler's own, to write what must survive.
    pub fn close_by(&self, deadline: Instant) {
        self.closing.get_or_init(|| {
            let time = deadline.saturating_duration_since(Instant::now());
            End {
                work_until: deadline - time / 4,
                deadline,
            }
        });
    }

    /// Stops what the handler is doing now, such as a running command.
    pub fn interrupt(&mut self) {
        self.stop = None;
    }

    /// Waits for the lane to end until `deadline`; says whether it has.
    pub fn join_by(&mut self, deadline: Instant) -> bool {
        self.thread.join_by(deadline)
    }
}

struct Worker {
    name: String,
    seat: Seat,
    filter: Filter,
    build: Build,
    token: StopToken,
    closing: Arc<OnceLock<End>>,
    metrics: Arc<LaneMetrics>,
    complaints: RateLimit,
    backoff: Backoff,
    /// The handler said [`HandlerError::Lost`].
    lost: bool,
}

/// The times of a lane's end.
struct End {
    /// From then on no more events are given.
    work_until: Instant,
    /// Then the thread must have ended.
    deadline: Instant,
}

/// Why one life of the handler ended.
enum Death {
    /// The hub is closed.
    Closed,
    /// It panicked.
    Panicked,
    /// It said that it is lost.
    Lost,
}

impl Worker {
    fn run(mut self) {
        let mut lives = 0;
        let mut waited = Duration::ZERO;
        loop {
            match (self.build)(&self.token) {
                Ok(handler) => {
                    lives += 1;
                    if lives > 1 {
                        self.seat.restart(SyncReason::HandlerRestarted);
                    }
                    self.metrics.running.set(1);
                    let born = Instant::now();
                    let end = self.live(handler);
                    // One that fails on the first row it is given must not be hammered; but one that
                    // ran for much longer than it was waited for has proved that it can run.
                    if born.elapsed() >= waited * WORTH_ITS_WAIT {
                        self.backoff.reset();
                    }
                    self.metrics.running.set(0);
                    match end {
                        Death::Closed => return,
                        Death::Panicked => self.metrics.panics_total.inc(),
                        Death::Lost => self.metrics.losses_total.inc(),
                    }
                }
                Err(error) => {
                    self.metrics.starts_failed_total.inc();
                    self.complain(format_args!("cannot start: {error}"));
                }
            }
            waited = self.backoff.wait();
            if !self.idle_until(Instant::now() + waited) {
                return;
            }
        }
    }

    /// Takes work and drops it: the resync of the next life covers it. `false` on close.
    fn idle_until(&mut self, until: Instant) -> bool {
        loop {
            match self.seat.work.recv_deadline(until) {
                Ok(Work::Events(events)) => self.seat.taken(&events),
                Ok(Work::Look) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// One life of the handler. It is owned by the closure: after a panic nothing is called on it,
    /// it is only dropped.
    fn live(&mut self, mut handler: Box<dyn Handler>) -> Death {
        self.lost = false;
        let lived = catch_unwind(AssertUnwindSafe(|| {
            self.work(handler.as_mut());
            if self.lost {
                return;
            }
            let deadline = self
                .closing
                .get()
                .map_or_else(Instant::now, |end| end.deadline);
            let closed = handler.close(Closing { deadline });
            self.report(closed);
        }));
        let death = match lived {
            Ok(()) if self.lost => Death::Lost,
            Ok(()) => return Death::Closed,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                self.complain(format_args!("panicked: {}", text.unwrap_or("no text")));
                Death::Panicked
            }
        };
        // Its drop may panic as well.
        if catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
            self.complain(format_args!("panicked while it was dropped"));
        }
        death
    }

    /// Until the hub is closed and all is worked off, or time is up.
    fn work(&mut self, handler: &mut dyn Handler) {
        let mut closed = false;
        loop {
            let mut wake = None;
            // Before the first wait too: what there is to catch up with may have been told to a
            // former life of the handler.
            if self.seat.work.is_empty() {
                self.catch_up(handler);
                if closed || self.is_over() {
                    return;
                }
                if self.seat.work.is_empty() {
                    wake = handler.idle(Instant::now()).unwrap_or_else(|error| {
                        self.report(Err(error));
                        Some(Instant::now() + RESTART_MIN)
                    });
                    self.late_failures(handler);
                }
            }
            if self.lost {
                return;
            }
            let received = match wake {
                Some(at) => self.seat.work.recv_deadline(at),
                None => self
                    .seat
                    .work
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(Work::Events(events)) => {
                    self.seat.taken(&events);
                    self.apply_all(handler, &events, true);
                }
                Ok(Work::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => closed = true,
            }
        }
    }

    fn catch_up(&mut self, handler: &mut dyn Handler) {
        // What is queued comes first: it is older.
        while self.seat.work.is_empty() && self.seat.is_behind() && !self.is_over() {
            match self.seat.next() {
                Step::Begin(reason) => self.begin(handler, reason),
                Step::Rows(rows) => self.apply_all(handler, &rows, false),
                Step::End => self.report(handler.end_sync()),
                Step::UpToDate => return,
            }
        }
    }

    fn begin(&mut self, handler: &mut dyn Handler, reason: SyncReason) {
        self.metrics.resyncs_total.inc();
        log::debug!("handler {}: starts over ({})", self.name, reason.as_str());
        self.report(handler.begin_sync(reason));
    }

    fn apply_all(&mut self, handler: &mut dyn Handler, events: &EventBatch, filter: bool) {
        let mut applied = 0;
        for event in events.iter() {
            if filter && !self.filter.wants_event(&event) {
                continue;
            }
            if self.is_over() {
                break;
            }
            match handler.apply(&event) {
                Ok(()) => applied += 1,
                Err(error) => self.failed(event.action.as_str(), event.table, event.key, &error),
            }
            self.late_failures(handler);
        }
        self.metrics.events_applied_total.add(applied);
    }

    /// Rows that were taken and failed after that.
    fn late_failures(&mut self, handler: &mut dyn Handler) {
        handler.late_failures(&mut |event, error| {
            self.failed(event.action.as_str(), event.table, event.key, &error);
        });
    }

    /// Whether nothing more is to be given: the time to end has come, or the handler is lost.
    fn is_over(&self) -> bool {
        let late = |end: &End| Instant::now() >= end.work_until;
        self.lost || self.closing.get().is_some_and(late)
    }

    #[cold]
    fn failed(&mut self, action: &str, table: &str, key: &str, error: &HandlerError) {
        use crate::util::printable::name;
        self.lost |= matches!(error, HandlerError::Lost(_));
        self.metrics.events_failed_total.inc();
        let (table, key) = (name(table, 64), name(key, 128));
        self.complain(format_args!("{action} of {table} {key} failed: {error}"));
    }

    fn report(&mut self, result: Result<(), HandlerError>) {
        if let Err(error) = result {
            self.lost |= matches!(error, HandlerError::Lost(_));
            self.complain(format_args!("{error}"));
        }
    }

    #[cold]
    fn complain(&self, what: std::fmt::Arguments<'_>) {
        if let Some(permit) = self.complaints.permit(Instant::now()) {
            log::error!("handler {}: {what}{permit}", self.name);
        }
    }
}

#[cfg(test)]
mod tests;
