//! How long to wait before trying again.

use std::time::Duration;

use fastrand::Rng;

/// Exponential waiting times with jitter: the n-th lies between half of `min · 2ⁿ` and all of it,
/// and never above `max`. Thousands of agents that lose a publisher at the same moment come back
/// spread out, the more so the longer it is away.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
    rng: Rng,
}

impl Backoff {
    /// Waiting times between half of `min` and `max`, with jitter from `rng`.
    pub fn new(min: Duration, max: Duration, rng: Rng) -> Self {
        Backoff {
            min,
            max: max.max(min),
            attempt: 0,
            rng,
        }
    }

    /// The next waiting time.
    pub fn wait(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = self.min.saturating_mul(factor).min(self.max);
        self.jitter(ceiling)
    }

    /// The longest waiting time, jittered: for what trying again soon will not mend.
    pub fn wait_longest(&mut self) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        self.jitter(self.max)
    }

    /// It worked: the next waiting time is a short one again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    fn jitter(&mut self, ceiling: Duration) -> Duration {
        ceiling.mul_f64(0.5 + self.rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(MIN, MAX, Rng::with_seed(seed))
    }

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let mut backoff = backoff(1);
        for n in 0..40 {
            let ceiling = MIN.saturating_mul(1 << n.min(20)).min(MAX);
            let wait = backoff.wait();
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{n}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= MIN);
        assert!(backoff.wait_longest() >= MAX / 2);
    }

    #[test]
    fn agents_come_back_spread_out() {
        let mut waits: Vec<_> = (0..1000).map(|seed| backoff(seed).wait()).collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 900, "{} different waits of 1000", waits.len());
    }
}
