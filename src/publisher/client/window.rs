//! The spool and the window of requests in flight: which events to send, when to send them again,
//! and what an answer settles. It knows no socket and no clock.
//!
//! Invariants: events are sent in the order of their numbers, without holes, from the first that
//! is not settled; each is settled once; an answer settles only what was sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{ClientOptions, Identity, Summary};
use crate::publisher::submit::{
    Answer, Head, Item, MAX_EVENTS, MAX_REQUEST, MAX_WINDOW, Producer, Refusal, Reply, encode,
};

/// Bounds, all within what the protocol allows.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub spool_events: usize,
    pub spool_bytes: usize,
    pub batch_events: usize,
    pub batch_bytes: usize,
    pub window: usize,
    pub resend: Duration,
}

impl Limits {
    pub fn new(options: &ClientOptions) -> Self {
        Limits {
            spool_events: options.spool_events.max(1),
            spool_bytes: options.spool_bytes,
            batch_events: options.batch_events.clamp(1, MAX_EVENTS),
            batch_bytes: options.batch_bytes.min(MAX_REQUEST),
            window: options.window.clamp(1, MAX_WINDOW),
            resend: options.resend.max(Duration::from_millis(1)),
        }
    }
}

/// The longest wait that a service can ask for, and the one after what it cannot read.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const PAUSE_UNREAD: Duration = Duration::from_secs(5);

/// The wait after a second `Expect` without anything settled between: a service that loses what it
/// is sent must not be sent it as fast as it answers.
const PAUSE_EXPECT: Duration = Duration::from_millis(10);

struct Entry {
    version: Option<u64>,
    payload: Vec<u8>,
    settled: bool,
}

/// What an event takes beside its bytes.
const ENTRY_BYTES: usize = size_of::<Entry>();

struct Flight {
    first: u64,
    upto: u64,
    since: Instant,
}

/// What an answer did.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// Events that are refused, each told once.
    pub refused: Vec<Refusal>,
    /// Whether any event was settled.
    pub progress: bool,
    /// What an operator should know.
    pub trouble: Option<String>,
}

pub(super) struct Window {
    producer: Producer,
    limits: Limits,
    /// Events from `floor` on, without holes.
    entries: VecDeque<Entry>,
    /// Number of the first entry: the first that is not settled.
    floor: u64,
    /// Entries sent since the last rewind, from the front.
    sent: usize,
    /// The number after the highest that was ever sent.
    sent_end: u64,
    bytes: usize,
    /// The tag of requests; changed by a rewind, so that answers to what was sent before it are
    /// told from those that count.
    tag: u32,
    flights: VecDeque<Flight>,
    paused: Option<Instant>,
    /// Timeouts and `Expect`s since the last progress.
    setbacks: u32,
    summary: Summary,
}

impl Window {
    pub fn new(identity: Identity, limits: Limits) -> Self {
        let first = identity.first.max(1);
        Window {
            producer: identity.producer,
            limits,
            entries: VecDeque::new(),
            floor: first,
            sent: 0,
            sent_end: first,
            bytes: 0,
            tag: 0,
            flights: VecDeque::new(),
            paused: None,
            setbacks: 0,
            summary: Summary::default(),
        }
    }

    /// Whether an event of so many bytes may be pushed.
    pub fn has_room(&self, payload: usize) -> bool {
        self.entries.is_empty()
            || (self.entries.len() < self.limits.spool_events
                && self.bytes + payload + ENTRY_BYTES <= self.limits.spool_bytes)
    }

    /// Takes an event and gives its number; `None` when the numbers are used up.
    pub fn push(&mut self, version: Option<u64>, payload: Vec<u8>) -> Option<u64> {
        let number = self.next_number();
        // The protocol needs a number after the last.
        if number == u64::MAX {
            return None;
        }
        self.bytes += payload.capacity() + ENTRY_BYTES;
        self.entries.push_back(Entry {
            version,
            payload,
            settled: false,
        });
        self.summary.pending += 1;
        Some(number)
    }

    /// The first number that is not settled.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of the next event pushed.
    pub fn next_number(&self) -> u64 {
        self.floor + self.entries.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Whether an event pushed at `now` could be sent at once.
    pub fn is_open(&self, now: Instant) -> bool {
        self.flights.len() < self.limits.window && self.paused.is_none_or(|until| now >= until)
    }

    /// Writes the next request into `out`; `false` when nothing is to be sent now.
    pub fn request(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if !self.is_open(now) || self.sent == self.entries.len() {
            return false;
        }
        self.paused = None;
        let first = self.floor + self.sent as u64;
        let head = Head {
            tag: self.tag,
            producer: self.producer,
            floor: self.floor,
            first,
        };
        let items = self.entries.range(self.sent..).map(|entry| Item {
            version: entry.version,
            payload: &entry.payload,
        });
        let items = items.take(self.limits.batch_events);
        let taken = encode(&head, items, self.limits.batch_bytes, out);
        self.sent += taken;
        let end = first + taken as u64;
        self.sent_end = self.sent_end.max(end);
        self.flights.push_back(Flight {
            first,
            upto: end - 1,
            since: now,
        });
        true
    }

    /// Begins again with the first event that is not settled: what was sent since is lost, or may
    /// be.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.flights.clear();
        self.tag = self.tag.wrapping_add(1);
    }

    /// Whether a request has been unanswered for too long; the connection should then be made
    /// again and the window rewound.
    pub fn timed_out(&mut self, now: Instant) -> bool {
        let late = self.flight_deadline().is_some_and(|due| now >= due);
        if late {
            self.setbacks = self.setbacks.saturating_add(1);
        }
        late
    }

    /// When [`Window::request`] or [`Window::timed_out`] may say something else than now.
    pub fn deadline(&self) -> Option<Instant> {
        let pause = self.paused.filter(|_| self.sent < self.entries.len());
        [pause, self.flight_deadline()].into_iter().flatten().min()
    }

    fn flight_deadline(&self) -> Option<Instant> {
        let oldest = self.flights.front()?;
        Some(oldest.since + self.limits.resend * (1 << self.setbacks.min(3)))
    }

    /// Takes an answer.
    pub fn answer(&mut self, answer: Answer, now: Instant) -> Effect {
        // What was sent before the last rewind is sent again anyway; only what it settled counts.
        let current = answer.tag == self.tag;
        let mut effect = Effect::default();
        match answer.reply {
            Reply::Accepted { upto, refused } => {
                self.accepted(answer.first, upto, refused, &mut effect);
            }
            Reply::Expect { number } if current => {
                self.setbacks = self.setbacks.saturating_add(1);
                if self.setbacks > 1 {
                    self.pause(now, PAUSE_EXPECT * (1 << self.setbacks.min(6)));
                }
                if number > self.next_number() {
                    let why = "another publishes as the same producer, or numbers were used again";
                    effect.trouble = Some(format!("the service expects event {number}: {why}"));
                }
                self.rewind();
            }
            Reply::Busy {
                retry_after_ms,
                reason,
            } if current => {
                self.pause(now, Duration::from_millis(retry_after_ms.max(1).into()));
                self.rewind();
                effect.trouble = Some(format!("the publisher service is busy: {reason}"));
            }
            Reply::Unsupported { versions } => {
                self.pause(now, PAUSE_UNREAD);
                self.rewind();
                let why = format!("the publisher service speaks protocol versions {versions:?}");
                effect.trouble = Some(why);
            }
            Reply::Malformed { reason } if current => {
                self.pause(now, PAUSE_UNREAD);
                self.rewind();
                let why = format!("the publisher service cannot read our requests: {reason}");
                effect.trouble = Some(why);
            }
            Reply::Expect { .. } | Reply::Busy { .. } | Reply::Malformed { .. } => {}
        }
        effect
    }

    fn pause(&mut self, now: Instant, time: Duration) {
        self.paused = Some(now + time.min(PAUSE_MAX));
    }

    fn accepted(&mut self, first: u64, upto: u64, refused: Vec<Refusal>, effect: &mut Effect) {
        let begin = first.max(self.floor);
        let end = upto.saturating_add(1).min(self.sent_end);
        if begin >= end {
            return;
        }
        for refusal in refused {
            if (begin..end).contains(&refusal.number) && self.settle(refusal.number) {
                self.summary.refused += 1;
                effect.refused.push(refusal);
                effect.progress = true;
            }
        }
        for number in begin..end {
            if self.settle(number) {
                self.summary.acknowledged += 1;
                effect.progress = true;
            }
        }
        let settled = self
            .entries
            .iter()
            .take_while(|entry| entry.settled)
            .count();
        for entry in self.entries.drain(..settled) {
            self.bytes -= entry.payload.capacity() + ENTRY_BYTES;
        }
        self.floor += settled as u64;
        self.sent = self.sent.saturating_sub(settled);
        let floor = self.floor;
        self.flights.retain(|flight| {
            let answered = first <= flight.first && flight.upto <= upto;
            flight.upto >= floor && !answered
        });
        if effect.progress {
            self.setbacks = 0;
        }
    }

    /// Whether it was not settled before.
    fn settle(&mut self, number: u64) -> bool {
        let place = (number - self.floor) as usize;
        let Some(entry) = self.entries.get_mut(place) else {
            return false;
        };
        let new = !std::mem::replace(&mut entry.settled, true);
        self.summary.pending -= u64::from(new);
        new
    }
}

#[cfg(test)]
mod tests;
