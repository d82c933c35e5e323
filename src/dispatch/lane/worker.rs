//! The lane's thread: it owns the handler.

mod calls;
mod failing;
mod mending;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::handle::Shared;
use super::{Build, LaneMetrics, LaneState, RESTART_MIN, WORTH_ITS_WAIT};
use crate::dispatch::catchup::Step;
use crate::dispatch::hub::{Seat, Work};
use crate::dispatch::{Delivery, Filter};
use crate::event::Event;
use crate::handler::{BuildError, Closing, Handler, SyncReason, TopicRequests};
use crate::util::backoff::Backoff;
use crate::util::rate::RateLimit;
use crate::util::stop::StopToken;

use calls::{For, text};
pub(super) use failing::Failing;

pub(super) struct Worker {
    pub shared: Arc<Shared>,
    pub seat: Seat,
    pub filter: Filter,
    pub delivery: Delivery,
    pub build: Build,
    pub topics: TopicRequests,
    pub closing: Arc<OnceLock<End>>,
    pub metrics: Arc<LaneMetrics>,
    pub complaints: RateLimit,
    pub restarts: Backoff,
    pub pauses: Backoff,
    /// The number of the handler's last call.
    pub calls: u64,
    /// Whether rows are held back; else they need not be asked for.
    pub troubled: bool,
    /// Whether all rows have yet to be given: until the end of a bracket.
    pub syncing: bool,
    /// Rows that the handler took since the last bracket was opened.
    pub taken: usize,
    /// Why this life of the handler ends.
    pub ending: Option<Ending>,
    /// Calls for no single row that failed.
    pub failing: Failing,
}

/// The times of a lane's end.
pub(super) struct End {
    /// From then on no more events are given.
    pub work_until: Instant,
    /// Then the thread must have ended.
    pub deadline: Instant,
}

/// Why one life of the handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The hub is closed.
    Closed,
    /// It panicked; nothing more is called on it.
    Panicked,
    /// It said that it is lost.
    Lost,
    /// A call ran too long; its stop token is used up.
    Late,
}

impl Worker {
    pub fn run(mut self) {
        let mut lives = 0;
        let mut waited = Duration::ZERO;
        loop {
            self.shared.pulse.beat();
            match self.make() {
                Ok(handler) => {
                    lives += 1;
                    if lives > 1 {
                        self.start_over(SyncReason::HandlerRestarted);
                    }
                    self.metrics.running.set(1);
                    self.shared.set_state(LaneState::Running);
                    let born = Instant::now();
                    let ending = self.live(handler);
                    // One that fails on the first row it is given must not be hammered; but one that
                    // ran for much longer than it was waited for has proved that it can run.
                    if born.elapsed() >= waited * WORTH_ITS_WAIT {
                        self.restarts.reset();
                    }
                    self.metrics.running.set(0);
                    match ending {
                        Ending::Closed => break,
                        Ending::Panicked => self.metrics.panics_total.inc(),
                        Ending::Lost => self.metrics.losses_total.inc(),
                        // Counted when it was seen, which may be long ago.
                        Ending::Late => {}
                    }
                }
                Err(error) => {
                    self.metrics.starts_failed_total.inc();
                    self.complain(format_args!("cannot start: {error}"));
                }
            }
            waited = self.restarts.wait();
            let until = Instant::now() + waited;
            self.shared.set_state(LaneState::Waiting(until));
            if !self.idle_until(until) {
                break;
            }
        }
        self.shared.pulse.rest();
        self.shared.set_state(LaneState::Ended);
    }

    fn make(&self) -> Result<Box<dyn Handler>, BuildError> {
        let token: StopToken = self.shared.new_life().map_err(|error| {
            BuildError::Environment(format!("cannot make what stops it: {error}"))
        })?;
        let made = catch_unwind(AssertUnwindSafe(|| (self.build)(&token)));
        made.unwrap_or_else(|panic| Err(BuildError::Environment(text(&*panic))))
    }

    /// Takes work and drops it: the resync that follows covers it. `false` on close.
    fn idle_until(&mut self, until: Instant) -> bool {
        self.shared.pulse.rest();
        loop {
            match self.seat.work.recv_deadline(until) {
                Ok(Work::Events(events)) => self.seat.taken(&events),
                Ok(Work::Look) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// One life of the handler.
    fn live(&mut self, mut handler: Box<dyn Handler>) -> Ending {
        self.ending = None;
        self.failing = Failing::default();
        self.tell_failing();
        let topics = self.topics.clone();
        self.call(For::Itself, || {
            handler.attach(topics);
            Ok(())
        });
        let own = self.call(For::Itself, || Ok(handler.counts()));
        self.shared.set_own(own.flatten());
        if self.ending.is_none() {
            self.work(handler.as_mut());
        }
        let ending = self.ending.unwrap_or(Ending::Closed);
        if ending == Ending::Closed {
            let closing = self.closing.get();
            let deadline = closing.map_or_else(Instant::now, |end| end.deadline);
            self.call(For::Itself, || handler.close(Closing { deadline }));
            let left = self.shared.troubles().waiting();
            if left > 0 {
                self.complain(format_args!("ends while {left} rows wait for a retry"));
            }
        }
        // Its drop may panic as well.
        if catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
            self.complain(format_args!("panicked while it was dropped"));
        }
        ending
    }

    /// Until the hub is closed and all is worked off, or time is up, or the handler is lost.
    fn work(&mut self, handler: &mut dyn Handler) {
        let mut closed = false;
        while self.ending.is_none() {
            if self.shared.late_call.load(Ordering::SeqCst) != 0 {
                self.ending = Some(Ending::Late);
                return;
            }
            self.mend(handler);
            let mut wake = None;
            // Before the first wait too: what there is to catch up with may have been told to a
            // former life of the handler.
            if self.seat.work.is_empty() && self.ending.is_none() {
                self.catch_up(handler);
                if closed || self.is_late() {
                    return;
                }
                if self.seat.work.is_empty() && self.ending.is_none() {
                    let now = Instant::now();
                    let called = self.call(For::Itself, || handler.idle(now));
                    self.failing.idle(now, called);
                    self.tell_failing();
                    let again = called.unwrap_or_else(|| Some(Instant::now() + RESTART_MIN));
                    self.late_failures(handler);
                    wake = again;
                }
            }
            if self.ending.is_some() {
                return;
            }
            // Now: what was just given may have failed, or worked at last.
            if self.troubled {
                self.look();
                wake = wake.into_iter().chain(self.mend_at()).min();
            }
            self.shared.pulse.rest();
            let received = match wake {
                Some(at) => self.seat.work.recv_deadline(at),
                None => self
                    .seat
                    .work
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            self.shared.pulse.beat();
            match received {
                Ok(Work::Events(events)) => {
                    self.seat.taken(&events);
                    let filter = std::mem::take(&mut self.filter);
                    self.give_all(handler, events.seen(&filter));
                    self.filter = filter;
                }
                Ok(Work::Look) => self.look(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => closed = true,
            }
        }
    }

    fn catch_up(&mut self, handler: &mut dyn Handler) {
        // What is queued comes first: it is older.
        while self.seat.work.is_empty()
            && self.seat.is_behind()
            && !self.is_late()
            && self.ending.is_none()
        {
            match self.seat.next() {
                Step::Begin(reason) => self.begin(handler, reason),
                Step::Rows(rows) => self.give_all(handler, rows.iter()),
                Step::End => self.end(handler),
                Step::UpToDate => return self.shared.troubles().up_to_date(),
            }
            // There may be no end to it: what fails must neither wait for that nor pile up.
            self.mend(handler);
        }
    }

    fn begin(&mut self, handler: &mut dyn Handler, reason: SyncReason) {
        self.metrics.resyncs_total.inc();
        let name = self.shared.name();
        log::debug!("handler {name}: starts over ({})", reason.as_str());
        (self.syncing, self.taken) = (true, 0);
        self.shared.troubles().start_over();
        self.look();
        let begun = self.call(For::Bracket, || handler.begin_sync(reason));
        self.forget_late_failures(handler);
        self.failing.begun(begun.is_some());
        self.tell_failing();
    }

    fn end(&mut self, handler: &mut dyn Handler) {
        let taken = self.call(For::Bracket, || handler.end_sync());
        self.failing.ended(taken.is_some());
        self.tell_failing();
        self.syncing = false;
        if taken.is_some() {
            let mut troubles = self.shared.troubles();
            troubles.started_over();
            // A few rows may fail for ever: the next pause is for another failure all the same.
            if troubles.waiting() * 2 <= self.taken {
                self.pauses.reset();
            }
        }
    }

    fn give_all<'a>(&mut self, handler: &mut dyn Handler, events: impl Iterator<Item = Event<'a>>) {
        let mut applied = 0;
        for event in events {
            if self.is_late() || self.ending.is_some() {
                break;
            }
            if self.troubled {
                let mut troubles = self.shared.troubles();
                // The bracket after the pause covers the rest.
                if troubles.is_overflowing() {
                    break;
                }
                if !troubles.admit(&event) {
                    continue;
                }
            }
            applied += usize::from(self.give(handler, &event));
            self.late_failures(handler);
        }
        self.taken = self.taken.saturating_add(applied);
        self.metrics.events_applied_total.add(applied as u64);
    }

    /// Whether the handler took it.
    fn give(&mut self, handler: &mut dyn Handler, event: &Event<'_>) -> bool {
        let taken = self
            .call(For::Row(event), || handler.apply(event))
            .is_some();
        if taken && self.troubled {
            self.shared.troubles().done(event, Instant::now());
        }
        taken
    }

    /// Whether the time to end has come, done or not.
    fn is_late(&self) -> bool {
        self.closing
            .get()
            .is_some_and(|end| Instant::now() >= end.work_until)
    }
}
