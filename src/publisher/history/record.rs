//! Journal records: one after the other in a blob, and what the journal's key does not say.
//!
//! A record is: length of the topic u16 | length of the payload u32 | topic | payload, numbers
//! big-endian. The payload is the event as it goes on the wire; its last 56 bytes are the stamp
//! (`event::codec` writes it last), so the stamp is not kept a second time.
//!
//! A blob has no checksum of its own: redb keeps one of every page, verifies them when it opens a
//! database that was not closed, and a commit is visible only when they hold. What is left is a
//! fault of the disk in use, against which the checks here keep from reading nonsense: lengths,
//! UTF-8, and that sequence numbers run without a hole within and across blobs.

use crate::event::codec;
use crate::event::stamp::STAMP_LEN;
use crate::event::{Event, Stamp};

const HEAD: usize = 6;

/// One journalled event, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its stamp, read from the end of `payload`.
    pub stamp: Stamp,
    /// The topic it was published on; `D` where the event names none.
    pub topic: &'a str,
    /// Frame 1 as it goes on the wire, stamp included.
    pub payload: &'a [u8],
    /// The record as it stands in the blob.
    pub(super) raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// The event in the payload.
    pub fn event(&self) -> Result<Event<'a>, codec::Malformed> {
        codec::decode(self.payload)
    }
}

/// The stamp of a blob's last record.
pub(super) fn last_stamp(blob: &[u8]) -> Option<Stamp> {
    Stamp::from_bytes(blob.last_chunk::<STAMP_LEN>()?)
}

/// What a record takes in a blob, bytes.
pub(super) fn size(topic: &str, payload: &[u8]) -> usize {
    HEAD + topic.len() + payload.len()
}

/// Adds a record; `false` when a length does not fit its field.
pub(super) fn push(topic: &str, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let (Ok(topic_len), Ok(len)) = (u16::try_from(topic.len()), u32::try_from(payload.len()))
    else {
        return false;
    };
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
    true
}

/// The records of a blob. Ends at the first byte that is no record; `is_whole` tells.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Self {
        Records { rest: blob }
    }

    /// Whether nothing is left over.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    fn parse(blob: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
        let (topic_len, rest) = blob.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let topic_len = usize::from(u16::from_be_bytes(*topic_len));
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (topic, rest) = rest.split_at_checked(topic_len)?;
        let (payload, rest) = rest.split_at_checked(len)?;
        let stamp = payload.get(payload.len().checked_sub(STAMP_LEN)?..)?;
        let record = Record {
            stamp: Stamp::from_bytes(stamp)?,
            topic: std::str::from_utf8(topic).ok()?,
            payload,
            raw: blob.get(..HEAD + topic_len + len)?,
        };
        Some((record, rest))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (record, rest) = Self::parse(self.rest)?;
        self.rest = rest;
        Some(record)
    }
}

/// Records of one answer, owned in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordBuf {
    bytes: Vec<u8>,
    count: usize,
}

impl RecordBuf {
    pub(super) fn push(&mut self, record: &Record<'_>) {
        self.bytes.extend_from_slice(record.raw);
        self.count += 1;
    }

    /// Adds a record that is yet to be written; see [`push`].
    pub(super) fn append(&mut self, topic: &str, payload: &[u8]) -> bool {
        let fits = push(topic, payload, &mut self.bytes);
        self.count += usize::from(fits);
        fits
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What they take, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records in the order of their numbers.
    pub fn iter(&self) -> Records<'_> {
        Records::new(&self.bytes)
    }
}
