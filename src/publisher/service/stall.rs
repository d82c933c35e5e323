//! Whether events are accepted, and when the journal is tried again: pure.
//!
//! ```text
//!            failed                  reopened
//!  Open ───────────────▶ Waiting ───────────────▶ Proving
//!   ▲                       ▲         failed         │
//!   │                       └────────────────────────┤
//!   └────────────────────────────────────────────────┘
//!                 wrote, or all quiet for a while
//! ```
//!
//! That it could be opened does not prove that a full disk has room again, so the waits go on
//! growing until something was written.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::util::backoff::Backoff;

/// Waits between attempts to write the journal again.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Stall {
    phase: Phase,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Open,
    Waiting { since: Instant, until: Instant },
    Proving { since: Instant, from: Instant },
}

impl Stall {
    /// Events are accepted; waits are jittered by `rng`.
    pub(super) fn new(rng: Rng) -> Self {
        Stall {
            phase: Phase::Open,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, rng),
        }
    }

    /// Until when nothing is accepted and the journal is left alone; `None` while events are
    /// accepted.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until, .. } => Some(until),
            Phase::Open | Phase::Proving { .. } => None,
        }
    }

    /// The journal could not be opened, written or looked after. Says for how long it has been so,
    /// nothing at the first time.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        let known = match self.phase {
            Phase::Open => None,
            Phase::Waiting { since, .. } | Phase::Proving { since, .. } => Some(since),
        };
        let until = now + self.backoff.wait();
        let since = known.unwrap_or(now);
        self.phase = Phase::Waiting { since, until };
        known.map(|since| now.saturating_duration_since(since))
    }

    /// The next attempt is not to be waited for: there will be no other time.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Phase::Waiting { until, .. } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    /// The journal is open again; whether it can be written is to be seen.
    pub(super) fn reopened(&mut self, now: Instant) {
        if let Phase::Waiting { since, .. } = self.phase {
            self.phase = Phase::Proving { since, from: now };
        }
    }

    /// Something was written. When that ends a stall, for how long it lasted.
    pub(super) fn wrote(&mut self, now: Instant) -> Option<Duration> {
        let Phase::Proving { since, .. } = self.phase else {
            return None;
        };
        self.phase = Phase::Open;
        self.backoff.reset();
        Some(now.saturating_duration_since(since))
    }

    /// Time passes: where nothing is to be written, no failure for a while is proof enough. When
    /// that ends a stall, for how long it lasted.
    pub(super) fn passed(&mut self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Proving { from, .. } if now >= from + RETRY_MAX => self.wrote(now),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall() -> Stall {
        Stall::new(Rng::with_seed(1))
    }

    #[test]
    fn waits_grow_until_something_is_written() {
        let (mut stall, start) = (stall(), Instant::now());
        let mut now = start;
        assert_eq!(stall.until(), None);
        assert_eq!(stall.failed(now), None);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let until = stall.until().unwrap();
            waits.push(until - now);
            now = until;
            // It can be opened, but not written.
            stall.reopened(now);
            assert_eq!(stall.until(), None);
            assert_eq!(stall.failed(now), Some(now - start));
        }
        assert!(waits[0] <= RETRY_MIN, "{waits:?}");
        assert!(waits[9] >= RETRY_MAX / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= RETRY_MAX), "{waits:?}");
        stall.reopened(now);
        assert_eq!(stall.wrote(now), Some(now - start));
        assert_eq!(stall.wrote(now), None, "told once");
        assert_eq!(stall.failed(now), None, "another stall");
        assert!(stall.until().unwrap() - now <= RETRY_MIN);
    }

    #[test]
    fn in_a_hurry_only_the_wait_is_cut_short() {
        let (mut stall, start) = (stall(), Instant::now());
        stall.hurry(start);
        assert_eq!(stall.until(), None);
        stall.failed(start);
        stall.hurry(start);
        assert_eq!(stall.until(), Some(start));
        assert_eq!(stall.failed(start), Some(Duration::ZERO));
        assert!(stall.until() > Some(start));
    }

    #[test]
    fn without_events_time_shows_it() {
        let (mut stall, start) = (stall(), Instant::now());
        assert_eq!(stall.passed(start + RETRY_MAX * 9), None);
        stall.failed(start);
        assert_eq!(stall.passed(start + RETRY_MAX * 9), None, "not reopened");
        let opened = start + RETRY_MAX;
        stall.reopened(opened);
        assert_eq!(stall.passed(opened + RETRY_MAX / 2), None);
        let now = opened + RETRY_MAX;
        assert_eq!(stall.passed(now), Some(now - start));
        assert_eq!(stall.until(), None);
    }

    #[test]
    fn what_is_written_before_it_is_reopened_proves_nothing() {
        let (mut stall, now) = (stall(), Instant::now());
        stall.failed(now);
        assert_eq!(stall.wrote(now), None);
        assert!(stall.until().is_some());
    }
}
