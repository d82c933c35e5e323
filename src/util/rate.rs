//! At most so many lines of one kind in a time.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lets a few lines through per interval and counts the rest, so that a peer cannot fill the log.
///
/// The caller passes the time, as every state machine here is given it.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    interval: Duration,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    used: u32,
    suppressed: u64,
}

/// Permission to write one line; shows how many like it were held back before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Lines held back since the last permitted one.
    pub suppressed: u64,
}

impl fmt::Display for Permit {
    /// Nothing, or ` (and N more like it)`: to be put at the end of the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suppressed {
            0 => Ok(()),
            n => write!(f, " (and {n} more like it)"),
        }
    }
}

impl RateLimit {
    /// At most `burst` lines per `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        RateLimit {
            burst,
            interval,
            window: Mutex::new(Window {
                start: None,
                used: 0,
                suppressed: 0,
            }),
        }
    }

    /// Whether a line may be written at `now`.
    pub fn permit(&self, now: Instant) -> Option<Permit> {
        let mut window = match self.window.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        let fresh = window
            .start
            .is_none_or(|start| now.saturating_duration_since(start) >= self.interval);
        if fresh {
            window.start = Some(now);
            window.used = 0;
        }
        if window.used >= self.burst {
            window.suppressed += 1;
            return None;
        }
        window.used += 1;
        Some(Permit {
            suppressed: std::mem::take(&mut window.suppressed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_counted() {
        let limit = RateLimit::new(2, Duration::from_secs(10));
        let start = Instant::now();
        assert!(limit.permit(start).is_some());
        assert!(limit.permit(start).is_some());
        assert_eq!(limit.permit(start), None);
        assert_eq!(limit.permit(start + Duration::from_secs(9)), None);
        let permit = limit.permit(start + Duration::from_secs(10)).unwrap();
        assert_eq!(permit.to_string(), " (and 2 more like it)");
    }
}
