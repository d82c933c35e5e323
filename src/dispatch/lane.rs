//! One handler's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use fastrand::Rng;

use super::Filter;
use super::catchup::Step;
use super::hub::{Hub, Seat, SeatOptions, Work};
use crate::event::{Event, EventBatch};
use crate::handler::{BuildError, Closing, Handler, HandlerError, SyncReason};
use crate::util::backoff::Backoff;
use crate::util::pulse::Pulse;
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
    hub: Arc<Hub>,
    number: usize,
    /// Whether it gets on: at work while the handler is called.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub metrics: Arc<LaneMetrics>,
}

/// Waits between starts of a handler that fails.
const RESTART_MIN: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);

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
        let pulse = Arc::new(Pulse::default());
        let seat = hub.join(options.seat, Arc::clone(&metrics));
        let number = seat.number();
        let worker = Worker {
            name: options.name.clone(),
            seat,
            pulse: Arc::clone(&pulse),
            filter,
            build: options.build,
            token,
            closing: Arc::clone(&closing),
            metrics: Arc::clone(&metrics),
            complaints: RateLimit::new(COMPLAINTS, COMPLAINT_INTERVAL),
            backoff: Backoff::new(RESTART_MIN, RESTART_MAX, Rng::new()),
        };
        let thread = Thread::spawn(options.name.clone(), move || worker.run())
            .inspect_err(|_| hub.leave(number))?;
        Ok(Lane {
            name: options.name,
            hub: Arc::clone(hub),
            number,
            pulse,
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

    /// Has the handler start over.
    pub fn resync(&self, reason: SyncReason) {
        self.hub.resync_one(self.number, reason);
    }

    /// Takes the lane out of the hub, while the others go on; [`Lane::close_by`] comes first.
    pub fn leave(&self) {
        self.hub.leave(self.number);
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
    pulse: Arc<Pulse>,
    metrics: Arc<LaneMetrics>,
    complaints: RateLimit,
    backoff: Backoff,
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
}

impl Worker {
    fn run(mut self) {
        let mut lives = 0;
        loop {
            self.pulse.beat();
            match (self.build)(&self.token) {
                Ok(handler) => {
                    lives += 1;
                    if lives > 1 {
                        self.seat.restart(SyncReason::HandlerRestarted);
                    }
                    self.metrics.running.set(1);
                    let born = Instant::now();
                    let end = self.live(handler);
                    // One that fails on the first row it is given must not be hammered.
                    if born.elapsed() >= RESTART_MAX {
                        self.backoff.reset();
                    }
                    self.metrics.running.set(0);
                    match end {
                        Death::Closed => return,
                        Death::Panicked => self.metrics.panics_total.inc(),
                    }
                }
                Err(error) => {
                    self.metrics.starts_failed_total.inc();
                    self.complain(format_args!("cannot start: {error}"));
                }
            }
            let wait = self.backoff.wait();
            if !self.idle_until(Instant::now() + wait) {
                return;
            }
        }
    }

    /// Takes work and drops it: the resync of the next life covers it. `false` on close.
    fn idle_until(&mut self, until: Instant) -> bool {
        self.pulse.rest();
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
        let lived = catch_unwind(AssertUnwindSafe(|| {
            self.work(handler.as_mut());
            let deadline = self
                .closing
                .get()
                .map_or_else(Instant::now, |end| end.deadline);
            let closed = handler.close(Closing { deadline });
            self.report(closed);
        }));
        match lived {
            Ok(()) => Death::Closed,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                self.complain(format_args!("panicked: {}", text.unwrap_or("no text")));
                // Its drop may panic as well.
                if catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
                    self.complain(format_args!("panicked while it was dropped"));
                }
                Death::Panicked
            }
        }
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
                if closed || self.is_late() {
                    return;
                }
                if self.seat.work.is_empty() {
                    wake = handler.idle(Instant::now()).unwrap_or_else(|error| {
                        self.report(Err(error));
                        Some(Instant::now() + RESTART_MIN)
                    });
                }
            }
            self.pulse.rest();
            let received = match wake {
                Some(at) => self.seat.work.recv_deadline(at),
                None => self
                    .seat
                    .work
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            self.pulse.beat();
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
        while self.seat.work.is_empty() && self.seat.is_behind() && !self.is_late() {
            self.pulse.beat();
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
            if self.is_late() {
                break;
            }
            self.pulse.beat();
            match handler.apply(&event) {
                Ok(()) => applied += 1,
                Err(error) => self.failed(&event, &error),
            }
        }
        self.metrics.events_applied_total.add(applied);
    }

    /// Whether the time to end has come, done or not.
    fn is_late(&self) -> bool {
        self.closing
            .get()
            .is_some_and(|end| Instant::now() >= end.work_until)
    }

    #[cold]
    fn failed(&self, event: &Event<'_>, error: &HandlerError) {
        use crate::util::printable::name;
        self.metrics.events_failed_total.inc();
        let (table, key) = (name(event.table, 64), name(event.key, 128));
        let action = event.action.as_str();
        self.complain(format_args!("{action} of {table} {key} failed: {error}"));
    }

    fn report(&self, result: Result<(), HandlerError>) {
        if let Err(error) = result {
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
