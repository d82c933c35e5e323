//! When to say hello: pure.

use std::time::{Duration, Instant};

/// Least time between two hellos that joining subscribers cause. A thousand agents that come back
/// at once are answered together.
const JOIN_SPACING: Duration = Duration::from_millis(100);

/// Keeps the time of the next hello: within `hello_interval` after an event, every `max_idle_time`
/// without one, and at once when a subscriber joins.
#[derive(Debug)]
pub struct Heartbeat {
    hello_interval: Duration,
    max_idle_time: Duration,
    last: Option<Instant>,
    due: Instant,
}

impl Heartbeat {
    /// The first hello is due at once.
    pub fn new(hello_interval: Duration, max_idle_time: Duration, now: Instant) -> Self {
        Heartbeat {
            hello_interval,
            max_idle_time,
            last: None,
            due: now,
        }
    }

    /// When the next hello is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Events were sent: without a hello after them, nobody would miss the last one.
    pub fn sent_events(&mut self, now: Instant) {
        self.due = self.due.min(now + self.hello_interval);
    }

    /// A subscriber joined.
    pub fn joined(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + JOIN_SPACING));
        self.due = self.due.min(earliest);
    }

    /// The hello was sent.
    pub fn said(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = now + self.max_idle_time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(5);

    #[test]
    fn events_bring_it_forward_and_never_put_it_off() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(INTERVAL, IDLE, start);
        assert_eq!(beat.due(), start);
        beat.said(start);
        assert_eq!(beat.due(), start + IDLE);
        for millis in [0, 400, 900] {
            beat.sent_events(start + Duration::from_millis(millis));
        }
        // Constant traffic must not keep it from being said.
        assert_eq!(beat.due(), start + INTERVAL);
        beat.said(start + INTERVAL);
        assert_eq!(beat.due(), start + INTERVAL + IDLE);
    }

    #[test]
    fn a_storm_of_joins_is_answered_together() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(INTERVAL, IDLE, start);
        beat.said(start);
        let mut hellos = 0;
        for millis in 0..1000 {
            let now = start + Duration::from_millis(millis);
            beat.joined(now);
            if now >= beat.due() {
                beat.said(now);
                hellos += 1;
            }
        }
        assert_eq!(hellos, 9);
        beat.said(beat.due());
        // A lone one is answered at once.
        let later = start + Duration::from_secs(3);
        beat.joined(later);
        assert_eq!(beat.due(), later);
    }
}
