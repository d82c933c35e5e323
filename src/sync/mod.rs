//! The protocol between an agent that missed something and the publisher's sync service.
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
//! * [`Request::Topics`]: the names of all topics that have rows, a page of them: what a publisher
//!   asks that follows another one.
//!
//! # Whom an answer is for
//!
//! Chunks of events and rows hold events in wire form ([`crate::event::codec`]), stamps and all:
//! what is decoded is what is decoded off the SUB socket.
//!
//! # On the wire
//!
//! [`request`] and [`answer`] have the bytes, numbers big-endian. Every message begins with
//!
//! | bytes | what |
//! |---|---|
//! | 1 | protocol version |
//! | 1 | kind |
//! | 8 | tag: chosen by the client, comes back in the answer |
//!
//! which is the same in every version of the protocol, as the whole of [`Answer::Refused`] is. So
//! a client of a version that the service does not speak can read that, and which it does speak.

pub mod answer;
mod packed;
pub mod request;
#[cfg(test)]
mod tests;

use crate::event::topic::MAX_TOPIC_LEN;
use crate::util::reader::{ReadError, Reader};

pub use packed::{MAX_UNPACKED, Packed};

/// The version of the protocol that is spoken.
pub const VERSION: u8 = 1;

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
    /// Which topics have rows, by name.
    Topics {
        /// The last name the client was told; empty at first.
        after: String,
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
        /// How far this reaches: no event of the topic is between the last one given and this. Where
        /// that is all, it is the publisher's head when the answer was made, so that a client sees
        /// whether it is older than what it heard since.
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
    /// To [`Request::Topics`].
    Topics {
        /// The publisher's incarnation.
        incarnation: u64,
        /// The next names, at most [`MAX_TOPICS`].
        topics: Vec<String>,
        /// Whether there are others after them.
        more: bool,
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

/// Most topics in one [`Request::Heads`], and in one [`Answer::Topics`].
pub const MAX_TOPICS: usize = 1024;

/// Longest text of a refusal, bytes.
pub const MAX_REASON: usize = 255;

/// Longest request, bytes: one for the heads of as many topics as may be, of the longest names.
pub const MAX_REQUEST: usize = HEAD_LEN + 8 + 2 + MAX_TOPICS * (1 + MAX_TOPIC_LEN + 8);

/// Longest answer, bytes: events or rows that cannot be compressed, and what stands before them.
pub const MAX_ANSWER: usize = MAX_UNPACKED + 1024;

/// Bytes before what depends on the kind of a message.
const HEAD_LEN: usize = 1 + 1 + 8;

/// Why bytes are no request or no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another version of the protocol.
    #[error("protocol version {0} is not spoken, only {VERSION}")]
    Version(u8),
    /// The bytes end too early, or are too many, or a text is not UTF-8.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// An unknown kind of message.
    #[error("there is no message of kind {0}")]
    Kind(u8),
    /// A mark that is not one of those there are.
    #[error("{0} is no mark that is known here")]
    Mark(u8),
    /// More topics than [`MAX_TOPICS`].
    #[error("a message names at most {MAX_TOPICS} topics, this one {0}")]
    Topics(usize),
    /// A topic that nobody can publish on: no byte, or more than [`MAX_TOPIC_LEN`].
    #[error("a topic has 1 to {MAX_TOPIC_LEN} bytes, this one {0}")]
    Topic(usize),
    /// A number of a chunk that is not below the number of chunks.
    #[error("chunk {0} of {1}")]
    Chunk(u32, u32),
    /// Events that are longer than [`MAX_UNPACKED`] when unpacked.
    #[error("{0} bytes of events are more than {MAX_UNPACKED}")]
    TooLarge(usize),
    /// What was packed cannot be unpacked, or is not as long, or not as many, as it says.
    #[error("the packed events are not what they are said to be")]
    Packed,
}

fn head(kind: u8, tag: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend([VERSION, kind]);
    out.extend(tag.to_be_bytes());
}

/// Writes a topic after its length of one byte. What is too long is cut off, where it can only be
/// refused: nobody can publish on such a topic.
fn write_topic(topic: &str, out: &mut Vec<u8>) {
    let len = topic.len().min(usize::from(u8::MAX));
    out.push(len as u8);
    out.extend(&topic.as_bytes()[..len]);
}

fn read_topic(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let topic = reader.short_text()?;
    match topic.len() {
        1..=MAX_TOPIC_LEN => Ok(topic),
        len => Err(Malformed::Topic(len)),
    }
}

fn write_topics(topics: &[(String, u64)], out: &mut Vec<u8>) {
    let topics = &topics[..topics.len().min(MAX_TOPICS)];
    out.extend((topics.len() as u16).to_be_bytes());
    for (topic, seq) in topics {
        write_topic(topic, out);
        out.extend(seq.to_be_bytes());
    }
}

fn read_topics(reader: &mut Reader<'_>) -> Result<Vec<(String, u64)>, Malformed> {
    let count = usize::from(reader.u16()?);
    if count > MAX_TOPICS {
        return Err(Malformed::Topics(count));
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push((read_topic(reader)?, reader.u64()?));
    }
    Ok(topics)
}

fn write_names(topics: &[String], out: &mut Vec<u8>) {
    let topics = &topics[..topics.len().min(MAX_TOPICS)];
    out.extend((topics.len() as u16).to_be_bytes());
    topics.iter().for_each(|topic| write_topic(topic, out));
}

fn read_names(reader: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let count = usize::from(reader.u16()?);
    if count > MAX_TOPICS {
        return Err(Malformed::Topics(count));
    }
    (0..count).map(|_| read_topic(reader)).collect()
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
