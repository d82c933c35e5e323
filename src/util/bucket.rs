//! So many of something at once, and so many more as time goes by: pure.

use std::time::Instant;

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    left: f64,
    counted: Instant,
}

impl Bucket {
    /// A full one.
    pub fn full(size: f64, now: Instant) -> Self {
        Bucket {
            left: size,
            counted: now,
        }
    }

    /// Takes one, of an allowance of `size` that grows by `rate` a second; whether there was one.
    pub fn take(&mut self, size: f64, rate: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.left = (self.left + passed * rate).min(size);
        self.counted = self.counted.max(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// When anything was asked of it last.
    pub fn counted(&self) -> Instant {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_fills_as_time_goes_by_and_no_further() {
        let start = Instant::now();
        let mut bucket = Bucket::full(2.0, start);
        let mut take = |millis| bucket.take(2.0, 10.0, start + Duration::from_millis(millis));
        assert!(take(0) && take(0) && !take(0));
        assert!(!take(99) && take(100) && !take(100));
        assert!(take(10_000) && take(10_000) && !take(10_000));
        // A clock that is read in another order gives nothing twice.
        assert!(!take(0) && !take(10_000));
    }
}
