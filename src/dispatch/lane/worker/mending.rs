//! Rows that failed: given again when they are due, started over with when they are too many.

use std::time::Instant;

use super::calls::For;
use super::{Ending, Worker};
use crate::dispatch::Delivery;
use crate::dispatch::hub::Work;
use crate::dispatch::lane::LaneState;
use crate::dispatch::troubles::Due;
use crate::event::{Event, EventBatch};
use crate::handler::{Handler, HandlerError, SyncReason};

impl Worker {
    /// Does what is due for rows that failed.
    pub(super) fn mend(&mut self, handler: &mut dyn Handler) {
        while self.troubled && self.ending.is_none() && !self.is_late() {
            let mut troubles = self.shared.troubles();
            if troubles.is_overflowing() {
                drop(troubles);
                self.pause();
                continue;
            }
            let now = Instant::now();
            // A bracket that is open goes on: one that takes longer than the wait would never end.
            let due = match self.syncing {
                true => troubles.row_due(now),
                false => troubles.due(now),
            };
            let Some(due) = due else {
                drop(troubles);
                return self.look();
            };
            drop(troubles);
            match due {
                Due::Ask(names) => {
                    self.metrics.retries_total.add(names.len() as u64);
                    self.seat.again(names);
                }
                Due::Give(event) => {
                    self.metrics.retries_total.inc();
                    for event in event.iter() {
                        let taken = self.give(handler, &event);
                        self.metrics.events_applied_total.add(u64::from(taken));
                    }
                }
                Due::Resync => self.start_over(SyncReason::Failed),
            }
        }
    }

    /// When [`Worker::mend`] has something to do.
    pub(super) fn mend_at(&self) -> Option<Instant> {
        let troubles = self.shared.troubles();
        match troubles.is_overflowing() {
            true => Some(Instant::now()),
            false if self.syncing => troubles.wake_for_row(),
            false => troubles.wake(),
        }
    }

    /// Too much has failed: gives the handler time, then starts it over.
    fn pause(&mut self) {
        self.metrics.too_many_failures_total.inc();
        let until = Instant::now() + self.pauses.wait();
        self.complain(format_args!("too many rows fail: it will start over"));
        self.shared.set_state(LaneState::Pausing(until));
        if self.idle_until(until) {
            self.shared.set_state(LaneState::Running);
        } else {
            self.ending = Some(Ending::Closed);
        }
        self.start_over(SyncReason::Failed);
    }

    /// What was queued before, and what waits to be given again, is let go: after a pause it follows
    /// a hole, and a handler's first call opens a bracket. The bracket covers it.
    pub(super) fn start_over(&mut self, reason: SyncReason) {
        self.syncing = true;
        self.seat.restart(reason);
        self.shared.troubles().start_over();
        self.look();
        while let Ok(work) = self.seat.work.try_recv() {
            if let Work::Events(events) = work {
                self.seat.taken(&events);
            }
        }
    }

    /// Whether rows are held back may have changed.
    pub(super) fn look(&mut self) {
        let troubles = self.shared.troubles();
        self.shared.show(&troubles);
        self.troubled = !troubles.is_quiet();
        // All was given and nothing is left that failed: what made it pause is over.
        if !self.syncing && troubles.waiting() == 0 {
            self.pauses.reset();
        }
    }

    /// What has failed by the time that a bracket is open was given before it, and is given again in it:
    /// were it to wait, the bracket would be without it, and say that it is gone.
    pub(super) fn forget_late_failures(&mut self, handler: &mut dyn Handler) {
        if self.ending.is_none() {
            self.call(For::Itself, || {
                handler.late_failures(&mut |_, _| {});
                Ok(())
            });
        }
    }

    pub(super) fn late_failures(&mut self, handler: &mut dyn Handler) {
        if self.ending.is_some() {
            return;
        }
        let mut failures = Vec::new();
        let mut tell = |event: &Event<'_>, error: HandlerError| {
            let event: EventBatch = [*event].into_iter().collect();
            failures.push((event, error));
        };
        self.call(For::Itself, || {
            handler.late_failures(&mut tell);
            Ok(())
        });
        for (event, error) in &failures {
            for event in event.iter() {
                match (error, self.delivery) {
                    // Later events of the row may have been taken: its order cannot be kept.
                    (HandlerError::Retry(_), Delivery::Events) => {
                        self.failing.must_start_over();
                        self.failed(For::Bracket, error);
                        self.tell_failing();
                    }
                    _ => self.failed(For::Row(&event), error),
                }
            }
        }
    }
}
