//! What a client sends.

use super::{MAX_EVENTS, MAX_REQUEST, Producer, SubmitError, VERSION};
use crate::util::reader::{ReadError, Reader};

/// Bytes before the events.
pub(super) const HEAD_LEN: usize = 1 + 4 + 16 + 8 + 8 + 2;

/// Bytes before each event.
pub(super) const ITEM_LEN: usize = 8 + 4;

/// What stands before the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Comes back in the reply.
    pub tag: u32,
    /// Who numbers the events.
    pub producer: Producer,
    /// The producer's first number that is not acknowledged yet.
    pub floor: u64,
    /// Number of the first event.
    pub first: u64,
}

/// One event of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The writer's version of the object; `None` when it has none.
    pub version: Option<u64>,
    /// The event in wire form; it may still be malformed.
    pub payload: &'a [u8],
}

/// A request; its events borrow from the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What stands before the events.
    pub head: Head,
    count: usize,
    /// The events, each of which was seen to be whole.
    events: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request. The events themselves are not looked into.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SubmitError> {
        if bytes.len() > MAX_REQUEST {
            return Err(SubmitError::TooLarge(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(SubmitError::Version(version));
        }
        let head = Head {
            tag: reader.u32()?,
            producer: reader.array()?,
            floor: reader.u64()?,
            first: reader.u64()?,
        };
        let count = usize::from(reader.u16()?);
        if !(1..=MAX_EVENTS).contains(&count) {
            return Err(SubmitError::Count(count));
        }
        // The number after the last must exist too.
        let beyond = head.first.checked_add(count as u64);
        if head.floor == 0 || head.first < head.floor || beyond.is_none() {
            return Err(SubmitError::Numbers);
        }
        let events = reader.rest;
        for _ in 0..count {
            item(&mut reader)?;
        }
        reader.end()?;
        Ok(Request {
            head,
            count,
            events,
        })
    }

    /// The tag and `first` of what may be no request of this version; zeros where they are not
    /// there. For answers that say so.
    pub fn peek(bytes: &[u8]) -> (u32, u64) {
        let mut reader = Reader::new(bytes);
        let version = reader.u8();
        let tag = reader.u32().unwrap_or(0);
        let first = match version {
            Ok(VERSION) => reader.take(16 + 8).and_then(|_| reader.u64()),
            _ => Ok(0),
        };
        (tag, first.unwrap_or(0))
    }

    /// How many events, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of the last event.
    pub fn upto(&self) -> u64 {
        self.head.first + (self.count as u64 - 1)
    }

    /// The events in their order.
    pub fn items(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let mut reader = Reader::new(self.events);
        // `decode` has read them once, so this ends with the last and not before.
        std::iter::from_fn(move || item(&mut reader).ok())
    }
}

fn item<'a>(reader: &mut Reader<'a>) -> Result<Item<'a>, SubmitError> {
    let version = reader.u64()?;
    let len = usize::try_from(reader.u32()?).map_err(|_| ReadError::Truncated)?;
    Ok(Item {
        version: (version != 0).then_some(version),
        payload: reader.take(len)?,
    })
}

/// Where the count stands.
const COUNT_AT: std::ops::Range<usize> = HEAD_LEN - 2..HEAD_LEN;

/// Writes a request into `out`, which is emptied first and keeps its memory. It takes `items` up to
/// [`MAX_EVENTS`] and as long as the request has at most `max_bytes` bytes, but at least one; says
/// how many it took. The caller gives at least one.
pub fn encode<'a>(
    head: &Head,
    items: impl Iterator<Item = Item<'a>>,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> usize {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&head.tag.to_be_bytes());
    out.extend_from_slice(&head.producer);
    out.extend_from_slice(&head.floor.to_be_bytes());
    out.extend_from_slice(&head.first.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    let mut count: u16 = 0;
    for item in items.take(MAX_EVENTS) {
        if count > 0 && out.len() + ITEM_LEN + item.payload.len() > max_bytes {
            break;
        }
        out.extend_from_slice(&item.version.unwrap_or(0).to_be_bytes());
        // Payloads are at most `MAX_EVENT` long; the client refuses longer ones.
        out.extend_from_slice(&(item.payload.len() as u32).to_be_bytes());
        out.extend_from_slice(item.payload);
        count += 1;
    }
    out[COUNT_AT].copy_from_slice(&count.to_be_bytes());
    usize::from(count)
}
