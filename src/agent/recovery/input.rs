//! What a recovery is told, and what it is bounded by.

use std::sync::Arc;
use std::time::Duration;

use crate::event::EventBatch;
use crate::event::hello::Hello;
use crate::sync::Answer;

/// Bounds and times of a recovery.
#[derive(Debug, Clone)]
pub struct Options {
    /// An answer that takes longer is given up, and asked for again.
    pub ask_timeout: Duration,
    /// Questions that may be under way at once.
    pub in_flight: usize,
    /// Events that may be held while what is before them is fetched, bytes, for all topics together.
    pub held_bytes: usize,
    /// The time between two rounds of `HEADS`; up to a third is added or taken off, at random.
    pub heads_every: Duration,
    /// First and longest wait before something that failed is asked for again.
    pub retry_min: Duration,
    /// See `retry_min`.
    pub retry_max: Duration,
    /// Whether the publisher is followed on every topic it has, not only on those that are wanted: it
    /// is asked which there are. At most so many; 0: only those that are wanted.
    pub all_topics: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ask_timeout: Duration::from_secs(10),
            in_flight: 4,
            held_bytes: 16 << 20,
            heads_every: Duration::from_secs(45),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(30),
            all_topics: 0,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Connected.
    Up {
        /// Whether it was connected before.
        again: bool,
    },
    /// The connection is lost.
    Down,
    /// The heartbeat.
    Hello(Hello),
    /// The publisher says no hello, so that nobody can be asked for what is missing.
    Legacy,
    /// Events, in the order in which they came.
    Events(EventBatch),
    /// A topic is subscribed to.
    Wanted(Arc<str>),
    /// It is no longer.
    Unwanted(Arc<str>),
    /// An answer to [`super::Action::Ask`].
    Answer(u64, Answer),
    /// What came in place of an answer is none: whatever is under way will not be answered.
    Lost,
    /// What was told, or was to be done, may be lost in part: nothing is known of any topic. A new
    /// connection is made.
    Anew,
    /// Time has passed; see [`super::Recovery::deadline`].
    Tick,
}
