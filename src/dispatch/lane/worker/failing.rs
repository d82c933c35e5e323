//! Whether calls that are for no single row fail: pure. Rows that fail are seen to by
//! [`Troubles`](crate::dispatch::troubles::Troubles).

use std::time::Instant;

/// What failed of one life of a handler and has not worked since.
#[derive(Debug, Default)]
pub(in crate::dispatch::lane) struct Failing {
    idle: Idle,
    /// The opening or closing of a bracket.
    bracket: bool,
    /// The bracket that is open failed to open.
    unopened: bool,
}

/// What [`Handler::idle`](crate::handler::Handler::idle) did last.
#[derive(Debug, Default)]
enum Idle {
    #[default]
    Works,
    /// It failed, and has not said yet when it tries again.
    Failed,
    /// It failed, and tries again then: that it is called before, and does not fail, proves nothing.
    Waits(Instant),
}

impl Failing {
    /// Whether something failed and has not worked since.
    pub fn is(&self) -> bool {
        self.bracket || !matches!(self.idle, Idle::Works)
    }

    /// `idle` was called at `now`: when it wants to be called again, `None` when it failed.
    pub fn idle(&mut self, now: Instant, said: Option<Option<Instant>>) {
        self.idle = match (said, &self.idle) {
            (None, _) => Idle::Failed,
            (Some(None), _) | (_, Idle::Works) => Idle::Works,
            (Some(Some(_)), Idle::Waits(at)) if now >= *at => Idle::Works,
            (Some(Some(at)), _) => Idle::Waits(at),
        };
    }

    /// The handler must start over: what is given to it until then proves nothing.
    pub fn must_start_over(&mut self) {
        (self.bracket, self.unopened) = (true, true);
    }

    /// A bracket was opened, or failed to.
    pub fn begun(&mut self, well: bool) {
        self.bracket |= !well;
        self.unopened = !well;
    }

    /// The bracket was closed, or failed to.
    pub fn ended(&mut self, well: bool) {
        self.bracket = self.unopened || !well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_failed_fails_until_the_next_attempt_works() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failing = Failing::default();
        failing.idle(at(0), Some(Some(at(5))));
        assert!(!failing.is());
        failing.idle(at(5), None);
        assert!(failing.is());
        // It says when it tries again, then an event comes, which puts it off.
        failing.idle(at(6), Some(Some(at(10))));
        failing.idle(at(7), Some(Some(at(11))));
        failing.idle(at(10), Some(Some(at(11))));
        assert!(failing.is());
        failing.idle(at(11), None);
        failing.idle(at(12), Some(Some(at(20))));
        assert!(failing.is());
        // The attempt works, and there is more to do later.
        failing.idle(at(20), Some(Some(at(30))));
        assert!(!failing.is());
        failing.idle(at(30), None);
        failing.idle(at(31), Some(None));
        assert!(!failing.is());
    }

    #[test]
    fn a_bracket_must_open_and_close() {
        let mut failing = Failing::default();
        for (begun, ended) in [(false, true), (true, false), (false, false)] {
            failing.begun(begun);
            failing.ended(ended);
            assert!(failing.is(), "{begun} {ended}");
            failing.begun(true);
            assert!(failing.is());
            failing.ended(true);
            assert!(!failing.is());
        }
        // Within one that is open.
        failing.begun(true);
        failing.must_start_over();
        failing.ended(true);
        assert!(failing.is());
    }
}
