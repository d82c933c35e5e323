//! One recovery, a clock, and short ways to say what happens.

use super::super::*;
pub use std::time::Duration;

pub use crate::event::EventBatch;
pub use crate::event::hello::{Hello, topic_hash};
use crate::event::{Event, Stamp, codec};
pub use crate::sync::{Answer, Request};
use crate::sync::{Digest, Packed};

pub const PUBLISHER: [u8; 16] = [7; 16];

pub struct Rig {
    pub recovery: Recovery,
    pub now: Instant,
    pub incarnation: u64,
}

pub fn options() -> Options {
    Options {
        ask_timeout: Duration::from_secs(10),
        in_flight: 4,
        held_bytes: 10_000,
        heads_every: Duration::from_secs(45),
        retry_min: Duration::from_millis(200),
        retry_max: Duration::from_secs(30),
        all_topics: 0,
    }
}

pub fn life(incarnation: u64) -> Life {
    Life {
        publisher: PUBLISHER,
        incarnation,
    }
}

pub fn positions(incarnation: u64, topics: &[(&str, u64)]) -> Positions {
    Positions {
        life: life(incarnation),
        topics: topics
            .iter()
            .map(|(name, seq)| ((*name).into(), *seq))
            .collect(),
    }
}

/// An event of the rig's publisher.
pub fn event(incarnation: u64, topic: &str, seq: u64, prev: u64) -> EventBatch {
    let stamp = Stamp {
        publisher: PUBLISHER,
        incarnation,
        seq,
        prev,
        version: seq,
        unix_micros: 1,
    };
    let event = Event {
        stamp: Some(stamp),
        ..Event::set("t", "k", "v").on(topic)
    };
    [event].into_iter().collect()
}

pub fn packed(events: &[EventBatch]) -> Packed {
    let (mut packed, mut bytes) = (Packed::default(), Vec::new());
    for event in events.iter().flat_map(EventBatch::iter) {
        codec::encode(&event, &mut bytes);
        packed.push(&bytes);
    }
    packed
}

pub fn asks(out: &[Action]) -> Vec<(u64, Request)> {
    let ask = |action: &Action| match action {
        Action::Ask(tag, request) => Some((*tag, request.clone())),
        _ => None,
    };
    out.iter().filter_map(ask).collect()
}

/// The only question.
pub fn ask(out: &[Action]) -> (u64, Request) {
    let mut asks = asks(out);
    assert_eq!(asks.len(), 1, "{out:?}");
    asks.remove(0)
}

/// Seqs of what is handed on.
pub fn applied(out: &[Action]) -> Vec<u64> {
    let batches = out.iter().filter_map(|action| match action {
        Action::Apply(batch) => Some(batch.iter().map(|event| event.stamp.unwrap().seq)),
        _ => None,
    });
    batches.flatten().collect()
}

pub fn has_note(out: &[Action], wanted: Note) -> bool {
    out.iter()
        .any(|action| matches!(action, Action::Note(note) if *note == wanted))
}

impl Rig {
    pub fn new(kept: Vec<Positions>) -> Self {
        Rig::with(options(), kept)
    }

    pub fn with(options: Options, kept: Vec<Positions>) -> Self {
        Rig {
            recovery: Recovery::new(options, kept, Rng::with_seed(1)),
            now: Instant::now(),
            incarnation: 5,
        }
    }

    /// One that is in sync on `topics`, which end at their seqs; the publisher's head is `head`.
    pub fn live(topics: &[(&str, u64)], head: u64) -> Self {
        let mut rig = Rig::new(vec![positions(5, topics)]);
        rig.want(topics);
        rig.up();
        let out = rig.hello(head, head, &[]);
        if head > 0 {
            let (tag, _) = ask(&out);
            rig.heads(tag, &[]);
        }
        assert!(rig.recovery.is_in_sync());
        rig
    }

    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.recovery.step(input, self.now, &mut out);
        out
    }

    pub fn want(&mut self, topics: &[(&str, u64)]) {
        for (name, _) in topics {
            assert!(asks(&self.step(Input::Wanted((*name).into()))).is_empty());
        }
    }

    pub fn up(&mut self) {
        let out = self.step(Input::Up { again: false });
        assert!(out.is_empty(), "{out:?}");
    }

    pub fn said(&self, head: u64, since: u64, recent: &[(&str, u64)]) -> Hello {
        Hello {
            publisher: PUBLISHER,
            incarnation: self.incarnation,
            head,
            since,
            sync_endpoint: "tcp://service".into(),
            recent: recent
                .iter()
                .map(|(name, seq)| (topic_hash(name), *seq))
                .collect(),
            ..Hello::default()
        }
    }

    pub fn hello(&mut self, head: u64, since: u64, recent: &[(&str, u64)]) -> Vec<Action> {
        let hello = self.said(head, since, recent);
        self.step(Input::Hello(hello))
    }

    pub fn event(&mut self, topic: &str, seq: u64, prev: u64) -> Vec<Action> {
        let batch = event(self.incarnation, topic, seq, prev);
        self.step(Input::Events(batch))
    }

    pub fn heads(&mut self, tag: u64, behind: &[(&str, u64)]) -> Vec<Action> {
        let answer = Answer::Heads {
            incarnation: self.incarnation,
            head: 0,
            behind: behind
                .iter()
                .map(|(name, seq)| ((*name).into(), *seq))
                .collect(),
        };
        self.step(Input::Answer(tag, answer))
    }

    pub fn replay(
        &mut self,
        tag: u64,
        (upto, last): (u64, u64),
        events: &[EventBatch],
    ) -> Vec<Action> {
        let answer = Answer::Events {
            incarnation: self.incarnation,
            upto,
            last,
            events: packed(events),
        };
        self.step(Input::Answer(tag, answer))
    }

    pub fn gone(&mut self, tag: u64) -> Vec<Action> {
        let incarnation = self.incarnation;
        self.step(Input::Answer(tag, Answer::Gone { incarnation }))
    }

    /// A whole snapshot in one chunk.
    pub fn rows(&mut self, tag: u64, seq: u64, rows: &[EventBatch]) -> Vec<Action> {
        let rows = packed(rows);
        let mut digest = Digest::default();
        digest.add(&rows);
        self.chunk(tag, (0, 1), seq, rows, Some((digest.rows, digest.sum)))
    }

    pub fn chunk(
        &mut self,
        tag: u64,
        (chunk, chunks): (u32, u32),
        seq: u64,
        rows: Packed,
        total: Option<(u64, u64)>,
    ) -> Vec<Action> {
        let answer = Answer::Rows {
            id: 3,
            chunk,
            chunks,
            incarnation: self.incarnation,
            seq,
            complete_since: 5,
            total,
            rows,
        };
        self.step(Input::Answer(tag, answer))
    }

    /// Lets time pass up to the next deadline and says what is done then.
    pub fn next(&mut self) -> Vec<Action> {
        self.now = self.recovery.deadline().expect("nothing is due");
        let out = self.step(Input::Tick);
        let deadline = self.recovery.deadline();
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "a deadline in the past"
        );
        out
    }

    /// Lets time pass until something is asked; says how long that took.
    pub fn until_asked(&mut self) -> (Duration, (u64, Request)) {
        let start = self.now;
        for _ in 0..10 {
            let out = self.next();
            if !asks(&out).is_empty() {
                return (self.now - start, ask(&out));
            }
        }
        panic!("nothing is asked");
    }
}
