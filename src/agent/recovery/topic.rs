//! One topic of one publisher.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::event::{Event, EventBatch, Stamp};
use crate::sync::{Digest, Request, SnapshotId};

/// Where a topic stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// No position: a snapshot is needed.
    Unknown,
    /// What is known to have been sent is here.
    Live,
    /// Events after the position are fetched.
    Replaying {
        /// The journal was searched up to here.
        after: u64,
        /// Events fetched so far.
        events: u64,
        /// Whether a snapshot was fetched just before.
        loaded: bool,
    },
    /// A snapshot is fetched.
    Loading(Box<Loading>),
}

/// A snapshot that is under way.
#[derive(Debug)]
pub(super) struct Loading {
    pub id: SnapshotId,
    /// The chunk to ask for.
    pub next: u32,
    pub chunks: u32,
    pub seq: u64,
    pub complete_since: u64,
    pub digest: Digest,
    /// The rows it has, by [`super::name_hash`].
    pub has: HashSet<u64>,
}

/// What an event is to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one.
    Take,
    /// Applied already.
    Duplicate,
    /// Something is missing before it.
    Gap,
    /// It contradicts what was applied.
    Broken,
    /// It must wait.
    Hold,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub phase: Phase,
    /// Seq of the last applied event; without meaning where there is no position.
    pub last: u64,
    /// The highest seq that was claimed or heard; not above `last` in a live topic.
    known: u64,
    held: EventBatch,
    /// Whether it is among the questions.
    pub asked: bool,
    /// Whether something was missed that nobody could be asked for.
    pub holed: bool,
    /// Whether the publisher does not let this node have it.
    pub forbidden: bool,
}

impl Topic {
    /// One that was followed up to `position`, or never.
    pub fn new(position: Option<u64>) -> Self {
        Topic {
            phase: match position {
                Some(_) => Phase::Live,
                None => Phase::Unknown,
            },
            last: position.unwrap_or(0),
            known: position.unwrap_or(0),
            held: EventBatch::new(),
            asked: false,
            holed: false,
            forbidden: false,
        }
    }

    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// Seq of the last applied event; `None` when that is not known, or not all before it is here.
    pub fn position(&self) -> Option<u64> {
        match self.phase {
            _ if self.holed => None,
            Phase::Live | Phase::Replaying { .. } => Some(self.last),
            Phase::Unknown | Phase::Loading(_) => None,
        }
    }

    /// What an event with this stamp is. Only the stamp counts: nothing is changed.
    pub fn judge(&self, stamp: &Stamp) -> Verdict {
        match self.phase {
            Phase::Live | Phase::Replaying { .. } if stamp.seq <= self.last => Verdict::Duplicate,
            _ if stamp.prev >= stamp.seq => Verdict::Broken,
            Phase::Live => match stamp.prev.cmp(&self.last) {
                Ordering::Equal => Verdict::Take,
                Ordering::Greater => Verdict::Gap,
                Ordering::Less => Verdict::Broken,
            },
            Phase::Unknown | Phase::Replaying { .. } | Phase::Loading(_) => Verdict::Hold,
        }
    }

    /// The event was applied.
    pub fn took(&mut self, stamp: &Stamp) {
        self.last = stamp.seq;
    }

    /// Something was sent up to `seq`; says whether a topic that was live is not any more.
    pub fn claim(&mut self, seq: u64) -> bool {
        self.known = self.known.max(seq);
        let behind = self.is_live() && self.known > self.last;
        if behind {
            self.fetch();
        }
        behind
    }

    /// What was claimed counts no longer.
    pub fn unclaim(&mut self) {
        self.known = self.last;
    }

    /// The events after the position are to be fetched.
    pub fn fetch(&mut self) {
        self.phase = Phase::Replaying {
            after: self.last,
            events: 0,
            loaded: false,
        };
    }

    /// The chain is broken: nothing is known of the topic but what is held.
    pub fn restart(&mut self) {
        self.phase = Phase::Unknown;
        self.last = 0;
    }

    /// What is to be asked for; `None` when nothing is.
    pub fn question(&self, incarnation: u64, name: &str) -> Option<Request> {
        let topic = name.to_owned();
        match &self.phase {
            Phase::Live => None,
            Phase::Unknown => Some(Request::Snapshot { topic, chunk: None }),
            Phase::Loading(loading) => Some(Request::Snapshot {
                topic,
                chunk: Some((loading.id, loading.next)),
            }),
            Phase::Replaying { after, .. } => Some(Request::Replay {
                incarnation,
                topic,
                after: *after,
            }),
        }
    }

    /// There is nobody to ask: follows what comes, with a hole. Returns what is held.
    pub fn go_blind(&mut self) -> EventBatch {
        let held = std::mem::take(&mut self.held);
        let mut next = EventBatch::new();
        for event in held.iter() {
            if let Some(stamp) = event.stamp
                && stamp.seq > self.last
            {
                next.push(&event);
                self.last = stamp.seq;
            }
        }
        self.last = self.known.max(self.last);
        self.holed = true;
        self.phase = Phase::Live;
        next
    }

    /// A snapshot is complete, which stands at `seq`. It may be an old one that the service had at
    /// hand, and its rows may be newer than `seq`, so what followed is to be fetched.
    pub fn loaded(&mut self, seq: u64) {
        // A snapshot that is older than what was applied takes nothing back.
        self.last = self.last.max(seq);
        self.holed = false;
        self.phase = Phase::Replaying {
            after: self.last,
            events: 0,
            loaded: true,
        };
    }

    /// A replay is complete up to `upto`, the publisher's head when it answered; says whether the topic
    /// is live again. It is not if more was claimed, or the last hello was said at a higher `head`: the
    /// answer may be an old one that the service keeps for all who ask. A claim that is below and was
    /// not met is none of this topic's (topics may share a hash).
    pub fn replay_done(&mut self, upto: u64, head: u64) -> bool {
        if self.known.max(head) > self.last.max(upto) {
            self.fetch();
        } else {
            self.known = self.last;
            self.phase = Phase::Live;
        }
        self.is_live()
    }

    /// Keeps an event that must wait, if `room` is enough; says what that takes.
    pub fn hold(&mut self, event: &Event<'_>, seq: u64, room: usize) -> Option<usize> {
        self.known = self.known.max(seq);
        let before = self.held.bytes();
        let needed = event.table.len() + event.key.len() + event.value.map_or(0, str::len) + 256;
        (needed <= room && self.held.push(event)).then(|| self.held.bytes() - before)
    }

    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Takes the held events that follow the position without a hole, and lets go of the others.
    pub fn take_held(&mut self) -> EventBatch {
        let held = std::mem::take(&mut self.held);
        let mut next = EventBatch::new();
        for event in held.iter() {
            let Some(stamp) = event.stamp else { continue };
            // What does not come after its `prev` is not held.
            if stamp.prev == self.last {
                next.push(&event);
                self.last = stamp.seq;
            }
        }
        if let Phase::Replaying { after, .. } = &mut self.phase {
            *after = self.last.max(*after);
        }
        next
    }
}
