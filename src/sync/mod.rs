//! The protocol between an agent that missed something and the publisher's sync service
//! (design §5, §6).
//!
//! An agent's DEALER socket connects to the service's ROUTER, at the endpoint that hellos name.
//! Every message is one frame. Each answer is given to one request, which names its tag: a request
//! is the credit for one answer, so a client is never sent more than it asked for, and the service
//! keeps nothing for a client that is slow or gone.
//!
//! # What is asked
//!
//! * [`Request::Heads`]: which of these topics have moved on.
//! * [`Request::Replay`]: the events of a topic after a seq, a chunk of them. The client asks for
//!   the next chunk by the last one's `upto`.
//! * [`Request::Snapshot`]: the rows of a topic, tombstones too, a chunk of them. The first answer
//!   names the snapshot; the others are asked for by that name and their number. A snapshot is
//!   *fuzzy*: its rows are at least as new as `seq`, some may be newer. What follows `seq` is to be
//!   replayed (or was held), and since the last version wins, the result is the same.
//!
//! # Whom an answer is for
//!
//! Chunks of events and rows hold events in wire form ([`crate::event::codec`]), stamps and all:
//! what is decoded is what is decoded off the SUB socket.

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which topics are beyond what the client has.
    Heads {
        /// The incarnation the positions belong to; positions of another are void, so that all
        /// topics are behind.
        incarnation: u64,
        /// Topics and the seq of the last event the client has of each; at most [`MAX_TOPICS`].
        topics: Vec<(String, u64)>,
    },
    /// Events of `topic` after `after`.
    Replay {
        /// The incarnation `after` belongs to.
        incarnation: u64,
        /// The topic, as in frame 0 of events.
        topic: String,
        /// The seq of the last event the client has of the topic.
        after: u64,
    },
    /// Rows of `topic`.
    Snapshot {
        /// The topic, as in frame 0 of events.
        topic: String,
        /// Which chunk of which snapshot; `None` for the first one of whichever the service likes.
        chunk: Option<(SnapshotId, u32)>,
    },
}

/// Names one snapshot of one topic within one run of the service.
pub type SnapshotId = u64;

/// What the service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Heads`].
    Heads {
        /// The publisher's incarnation.
        incarnation: u64,
        /// Its last seq of all.
        head: u64,
        /// The topics that have moved on, and the seq of their last events.
        behind: Vec<(String, u64)>,
    },
    /// To [`Request::Replay`]: the next events, in order.
    Events {
        /// The publisher's incarnation, which is the one asked for.
        incarnation: u64,
        /// The position the client has with these events. No event of the topic is between the last
        /// one given and this.
        upto: u64,
        /// Seq of the topic's last event: there is more to ask for while `upto` is below.
        last: u64,
        /// The events.
        events: Packed,
    },
    /// To [`Request::Replay`]: the journal does not reach back to `after`, or `after` belongs to
    /// another incarnation. Only a snapshot helps.
    Gone {
        /// The publisher's incarnation.
        incarnation: u64,
    },
    /// To [`Request::Snapshot`].
    Rows {
        /// The snapshot's name.
        id: SnapshotId,
        /// Number of this chunk, from 0.
        chunk: u32,
        /// How many chunks the snapshot has, at least 1.
        chunks: u32,
        /// The publisher's incarnation.
        incarnation: u64,
        /// The position the client has with all chunks: the seq of the topic's last event when
        /// the snapshot was begun.
        seq: u64,
        /// The publisher knows all rows it stamped in this or a later incarnation: one that the
        /// snapshot lacks is gone. 0: it vouches for whatever it ever stamped. `u64::MAX`: for none.
        complete_since: u64,
        /// In the last chunk: how many rows all chunks together have and their digest, see
        /// [`Digest`].
        total: Option<(u64, u64)>,
        /// The rows: `set` or, for tombstones, `delete`.
        rows: Packed,
    },
    /// The snapshot named is not kept any more: ask for a new one.
    Lapsed,
    /// Too much is asked for just now: ask again in this time, milliseconds.
    RetryAfter(u32),
    /// It cannot be answered and asking again will not help.
    Refused {
        /// Why.
        code: Refusal,
        /// More of it, for a log; at most [`MAX_REASON`] bytes.
        reason: String,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client speaks a version of the protocol that the service does not; `reason` names those
    /// it does.
    Version,
    /// The request cannot be read.
    Malformed,
    /// The client may not ask for this topic.
    Forbidden,
}

/// Events in wire form, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    count: u32,
}

/// Most topics in one [`Request::Heads`].
pub const MAX_TOPICS: usize = 1024;

/// Longest text of a refusal, bytes.
pub const MAX_REASON: usize = 255;

impl Packed {
    /// Adds one event in wire form.
    pub fn push(&mut self, payload: &[u8]) {
        self.bytes.extend((payload.len() as u32).to_be_bytes());
        self.bytes.extend(payload);
        self.count += 1;
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their length, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events in wire form, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            let (payload, after) = after.split_at_checked(len)?;
            rest = after;
            Some(payload)
        })
    }
}

/// A digest of rows that does not depend on their order: the sum of the FNV-1a hashes of their wire
/// forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// The digest of their wire forms.
    pub sum: u64,
}

impl Digest {
    /// Adds rows.
    pub fn add(&mut self, rows: &Packed) {
        for row in rows.iter() {
            self.rows += 1;
            self.sum = self.sum.wrapping_add(crate::event::hello::fnv(row));
        }
    }
}
