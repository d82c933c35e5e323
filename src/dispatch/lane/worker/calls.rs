//! One call of the handler, and what becomes of it when it does not work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Ending, Worker};
use crate::event::Event;
use crate::handler::HandlerError;

/// What a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For<'a> {
    /// This row.
    Row(&'a Event<'a>),
    /// All rows: a bracket opens or closes.
    Bracket,
    /// The handler itself, which sees to its own failures.
    Itself,
}

impl Worker {
    /// Calls the handler. `None` when it did not work, which is seen to.
    pub(super) fn call<T>(
        &mut self,
        what: For<'_>,
        call: impl FnOnce() -> Result<T, HandlerError>,
    ) -> Option<T> {
        self.calls += 1;
        self.shared.pulse.beat();
        self.shared.call.store(self.calls, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(call));
        self.shared.call.store(0, Ordering::Relaxed);
        let late = self.shared.late_call.load(Ordering::Relaxed);
        if late != 0 {
            self.ending = Some(Ending::Late);
        }
        match result {
            Ok(Ok(value)) if late != self.calls => return Some(value),
            Ok(Ok(_)) => self.came_down(what, "ran longer than the time limit"),
            Ok(Err(error)) if late == self.calls => self.came_down(what, &error.to_string()),
            Ok(Err(error)) => self.failed(what, &error),
            Err(panic) => {
                self.ending = Some(Ending::Panicked);
                self.came_down(what, &text(&*panic));
            }
        }
        None
    }

    #[cold]
    pub(super) fn failed(&mut self, what: For<'_>, error: &HandlerError) {
        if let HandlerError::Lost(_) = error {
            self.ending = Some(Ending::Lost);
        }
        let now = Instant::now();
        let mut troubles = self.shared.troubles();
        match (what, error) {
            (For::Row(event), HandlerError::Retry(_)) => troubles.retry(event, now),
            (For::Row(event), HandlerError::Permanent(why)) => {
                if troubles.give_up(event, why, now) {
                    self.metrics.quarantines_total.inc();
                }
            }
            (For::Bracket, HandlerError::Retry(_)) => troubles.mark_failed(now),
            (For::Bracket, HandlerError::Permanent(_))
            | (For::Itself, _)
            | (_, HandlerError::Lost(_)) => {}
        }
        drop(troubles);
        self.look();
        match what {
            For::Row(event) => self.complain_of(event, format_args!("failed: {error}")),
            For::Bracket | For::Itself => {
                self.metrics.calls_failed_total.inc();
                self.complain(format_args!("{error}"));
            }
        }
    }

    /// The handler panicked, or ran too long, in a call for `event`.
    #[cold]
    fn came_down(&mut self, what: For<'_>, why: &str) {
        let For::Row(event) = what else {
            self.metrics.calls_failed_total.inc();
            return self.complain(format_args!("came down: {why}"));
        };
        let now = Instant::now();
        if self.shared.troubles().blame(event, why, now) {
            self.metrics.quarantines_total.inc();
        }
        self.look();
        self.complain_of(event, format_args!("brought it down: {why}"));
    }

    fn complain_of(&self, event: &Event<'_>, what: std::fmt::Arguments<'_>) {
        use crate::util::printable::name;
        self.metrics.events_failed_total.inc();
        let (table, key) = (name(event.table, 64), name(event.key, 128));
        let action = event.action.as_str();
        self.complain(format_args!("{action} of {table} {key} {what}"));
    }

    /// Shows whether calls for no single row fail.
    pub(super) fn tell_failing(&mut self) {
        if self
            .shared
            .calls_fail
            .swap(self.failing.is(), Ordering::Relaxed)
            != self.failing.is()
        {
            self.look();
        }
    }

    #[cold]
    pub(super) fn complain(&self, what: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        self.shared.error(&what.to_string(), now);
        if let Some(permit) = self.complaints.permit(now) {
            log::error!("handler {}: {what}{permit}", self.shared.name());
        }
    }
}

/// What a panic says.
pub(super) fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no text"))
}
