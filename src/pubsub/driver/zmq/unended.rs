//! Messages that do not end.
//!
//! libzmq's bounds are for frames and for whole messages. A message of ever more frames is neither:
//! it is held until its last frame comes, out of reach and however much that is. What can be seen is
//! how many bytes the system has received on a connection since a message was last heard from it.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::tcp;

/// How often the side that connects looks at its connection. Each look wakes an agent that has nothing
/// else to do.
pub const MEASURE: Duration = Duration::from_secs(1);

/// What connections may send beside messages, bytes per second: heartbeats.
const BESIDE: f64 = 256.0;

/// How often so many connections are measured. Each costs a system call.
pub fn pace(connections: usize) -> Duration {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    Duration::from_millis(100) + Duration::from_micros(50).saturating_mul(connections)
}

/// What a connection has sent since its last whole message: pure.
#[derive(Debug, Default)]
pub struct Unended {
    /// Whether a message came since the last look.
    heard: bool,
    /// Bytes that belong to messages that were heard, or to none, as of the last look.
    settled: f64,
    /// How much of that belongs to none, since the last message.
    forgiven: f64,
    looked: Option<Instant>,
}

impl Unended {
    /// A message came.
    pub fn message(&mut self) {
        self.heard = true;
    }

    /// What the connection, on which `bytes` have come in all, has sent since its last message. To be asked
    /// when everything that is whole was heard.
    pub fn left(&mut self, bytes: u64, now: Instant) -> u64 {
        let since = self.looked.replace(now).unwrap_or(now);
        let beside = now.saturating_duration_since(since).as_secs_f64() * BESIDE;
        let bytes = bytes as f64;
        if std::mem::take(&mut self.heard) {
            (self.settled, self.forgiven) = (bytes, 0.0);
        } else {
            let beside = beside.min(bytes - self.settled).max(0.0);
            self.settled += beside;
            self.forgiven += beside;
        }
        (bytes - self.settled) as u64
    }

    /// How much it has sent since its last message that was taken for no part of one. It may be one.
    pub fn forgiven(&self) -> u64 {
        self.forgiven as u64
    }
}

/// The one connection of a socket that connects.
#[derive(Debug)]
pub struct Measured {
    unended: Unended,
    most: u64,
    at: Instant,
}

impl Measured {
    /// One that may send `most` bytes since its last whole message.
    pub fn new(most: u64) -> Self {
        Measured {
            unended: Unended::default(),
            most,
            at: Instant::now(),
        }
    }

    /// A message came.
    pub fn message(&mut self) {
        self.unended.message();
    }

    /// Bytes that there may be since the last whole message.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Whether more than that came, looked at once in [`MEASURE`], when everything that is whole was
    /// heard. `None` where there is nothing to look at: no connection, or not over tcp, where it is a
    /// process of this host, which may be trusted so far.
    pub fn is_over(&mut self, connection: Option<RawFd>, now: Instant) -> Option<bool> {
        let connection = connection?;
        if now.saturating_duration_since(self.at) < MEASURE {
            return Some(false);
        }
        self.at = now;
        let bytes = tcp::bytes_received(connection)?;
        Some(self.unended.left(bytes, now) > self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_end_is_left() {
        let (mut unended, start) = (Unended::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(unended.left(900, at(0)), 900);
        unended.message();
        assert_eq!(unended.left(1 << 30, at(0)), 0);
        assert_eq!(unended.left((1 << 30) + 1_000, at(0)), 1_000);
    }

    #[test]
    fn heartbeats_do_not_add_up_but_are_told_of() {
        let (mut unended, start) = (Unended::default(), Instant::now());
        for n in 0..100_000 {
            let now = start + Duration::from_secs(5 * n);
            assert!(unended.left(300 + 100 * n, now) <= 300, "{n}");
        }
        assert!(unended.forgiven() >= 9_999_900);
        // And are no credit for later.
        let (bytes, end) = (300 + 100 * 99_999, start + Duration::from_secs(500_000));
        assert!(unended.left(bytes + 3_000, end) > 1_000);
        unended.message();
        assert_eq!(
            (unended.left(bytes + 3_000, end), unended.forgiven()),
            (0, 0)
        );
    }
}
