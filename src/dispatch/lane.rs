//! One handler's thread, and what others may know of it and ask of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::hub::{Hub, SeatOptions};
use super::troubles::{Limits, Troubles};
use crate::handler::{BuildError, Handler, TopicRequests};
use crate::util::backoff::Backoff;
use crate::util::rate::RateLimit;
use crate::util::stop::StopToken;
use crate::util::thread::Thread;
use handle::Shared;
use worker::{End, Failing, Worker};

mod handle;
mod worker;

pub use handle::{LaneError, LaneHandle, LaneState, LaneStatus};

crate::metrics! {
    /// What a lane counts.
    pub struct LaneMetrics {
        events_applied_total: Counter = "Events and rows the handler took.",
        events_failed_total: Counter = "Events and rows the handler reported as failed.",
        calls_failed_total: Counter = "Calls that are for no single row and failed: the begin or end of a resync, or what the handler does by itself, such as to write a file.",
        retries_total: Counter = "Rows that were given again because they had failed.",
        quarantines_total: Counter = "Rows that are not given again as they are.",
        too_many_failures_total: Counter = "Times more rows had failed than can wait, so that the handler had to start over.",
        resyncs_total: Counter = "Times the handler was told to start over.",
        overflows_total: Counter = "Times the handler's queue was full, so that it fell behind.",
        panics_total: Counter = "Times the handler panicked.",
        losses_total: Counter = "Times the handler was lost, as when its child died.",
        late_calls_total: Counter = "Calls that ran longer than the handler's time limit.",
        starts_failed_total: Counter = "Times the handler could not be started.",
        behind: Gauge = "Whether the handler has yet to be given rows beside its queue (1).",
        rows_waiting: Gauge = "Changed rows remembered for a handler that is behind.",
        retries_waiting: Gauge = "Rows that failed and wait to be given again.",
        quarantined: Gauge = "Rows in quarantine.",
        failing: Gauge = "Whether something that the handler is to do failed and has yet to work (1): rows wait to be given again, or a call that is for no single row failed.",
        late: Gauge = "Whether a call runs longer than the time limit just now (1).",
        running: Gauge = "Whether the handler runs (1) or waits to be started again (0).",
    }
}

/// Makes the handler, at the start and whenever it was lost.
pub type Build = Box<dyn Fn(&StopToken) -> Result<Box<dyn Handler>, BuildError> + Send>;

/// What a lane is made of.
pub struct LaneOptions {
    /// The handler's name.
    pub name: String,
    /// Makes the handler.
    pub build: Build,
    /// How it joins the hub.
    pub seat: SeatOptions,
    /// Longest that one call may take before it is interrupted and told of; `None` for ever.
    pub time_limit: Option<Duration>,
    /// What may be kept of failures.
    pub limits: Limits,
}

impl LaneOptions {
    /// A handler called `name` that is made by `build`, without a time limit.
    pub fn new(name: impl Into<String>, seat: SeatOptions, build: Build) -> Self {
        LaneOptions {
            name: name.into(),
            build,
            seat,
            time_limit: None,
            limits: Limits::default(),
        }
    }
}

/// A running lane. Dropping it ends it: the handler's running command is stopped at once.
pub struct Lane {
    thread: Thread,
    closing: Arc<OnceLock<End>>,
    handle: LaneHandle,
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
    /// Joins `hub` and starts the thread, which makes the handler. The handler's requests for
    /// topics go to nobody.
    pub fn start(hub: &Arc<Hub>, options: LaneOptions) -> std::io::Result<Self> {
        Self::start_with(hub, options, TopicRequests::unserved())
    }

    /// As [`Lane::start`], with someone who serves requests for topics.
    pub fn start_with(
        hub: &Arc<Hub>,
        options: LaneOptions,
        topics: TopicRequests,
    ) -> std::io::Result<Self> {
        let metrics = Arc::new(LaneMetrics::default());
        let closing = Arc::new(OnceLock::new());
        let filter = options.seat.filter.clone();
        let delivery = options.seat.delivery;
        let seat = hub.join(options.seat, Arc::clone(&metrics));
        let shared = Arc::new(Shared::new(
            options.name.clone(),
            options.time_limit,
            Troubles::new(delivery, options.limits, Rng::new()),
            Arc::clone(&metrics),
            seat.bell(),
        ));
        let worker = Worker {
            shared: Arc::clone(&shared),
            seat,
            filter,
            delivery,
            build: options.build,
            topics,
            closing: Arc::clone(&closing),
            metrics: Arc::clone(&metrics),
            complaints: RateLimit::new(COMPLAINTS, COMPLAINT_INTERVAL),
            restarts: Backoff::new(RESTART_MIN, RESTART_MAX, Rng::new()),
            pauses: Backoff::new(RESTART_MIN, RESTART_MAX, Rng::new()),
            calls: 0,
            troubled: false,
            syncing: true,
            taken: 0,
            ending: None,
            failing: Failing::default(),
        };
        let thread = Thread::spawn(options.name, move || worker.run());
        // Nobody would take what the hub goes on offering.
        let thread = thread.inspect_err(|_| shared.leave())?;
        Ok(Lane {
            thread,
            closing,
            handle: LaneHandle(shared),
            metrics,
        })
    }

    /// The handler's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// What others may know of it and ask of it.
    pub fn handle(&self) -> &LaneHandle {
        &self.handle
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

    /// Takes the lane out of the hub, while the others go on; [`Lane::close_by`] comes first.
    pub fn leave(&self) {
        self.handle.0.leave();
    }

    /// Stops what the handler is doing now, such as a running command, and all it does later.
    pub fn interrupt(&mut self) {
        self.handle.0.end_lives();
    }

    /// Waits for the lane to end until `deadline`; says whether it has.
    pub fn join_by(&mut self, deadline: Instant) -> bool {
        self.thread.join_by(deadline)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.interrupt();
    }
}

#[cfg(test)]
mod tests;
