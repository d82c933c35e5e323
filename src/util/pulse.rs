//! Whether a thread gets on.
//!
//! The thread counts, and never asks for the time: whoever watches does, now and then. A thread
//! that waits for work is well however long it waits; one that works on the same thing for long
//! may be stuck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counted up by the one thread it belongs to. Odd: at work.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// The thread is at work and has got on since the last call.
    pub fn beat(&self) {
        // Only its own thread writes, so this is no race and costs no locked instruction.
        let count = self.0.load(Ordering::Relaxed);
        self.0.store((count | 1).wrapping_add(2), Ordering::Relaxed);
    }

    /// The thread is about to wait for work, for as long as it takes.
    pub fn rest(&self) {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store((count | 1).wrapping_add(1), Ordering::Relaxed);
    }
}

/// What a watcher remembers of one pulse.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    count: u64,
    since: Instant,
}

impl Watched {
    /// Nothing was seen yet.
    pub fn new(pulse: &Pulse, now: Instant) -> Self {
        Watched {
            count: pulse.0.load(Ordering::Relaxed),
            since: now,
        }
    }

    /// For how long the thread is known to have been at work on the same thing; zero while it
    /// waits. As exact as the calls are frequent.
    pub fn stuck_for(&mut self, pulse: &Pulse, now: Instant) -> Duration {
        let count = pulse.0.load(Ordering::Relaxed);
        if count != self.count || count & 1 == 0 {
            *self = Watched { count, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_progress_is_stuck() {
        let (pulse, start) = (Pulse::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watched = Watched::new(&pulse, start);
        assert_eq!(watched.stuck_for(&pulse, at(100)), Duration::ZERO);
        pulse.beat();
        assert_eq!(watched.stuck_for(&pulse, at(101)), Duration::ZERO);
        assert_eq!(watched.stuck_for(&pulse, at(105)), Duration::from_secs(4));
        pulse.beat();
        assert_eq!(watched.stuck_for(&pulse, at(106)), Duration::ZERO);
        assert_eq!(watched.stuck_for(&pulse, at(107)), Duration::from_secs(1));
        pulse.rest();
        assert_eq!(watched.stuck_for(&pulse, at(108)), Duration::ZERO);
        assert_eq!(watched.stuck_for(&pulse, at(999)), Duration::ZERO);
    }

    #[test]
    fn resting_twice_is_still_rest() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        pulse.rest();
        pulse.rest();
        let mut watched = Watched::new(&pulse, now);
        assert_eq!(
            watched.stuck_for(&pulse, now + Duration::from_secs(9)),
            Duration::ZERO
        );
    }
}
