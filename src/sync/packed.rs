//! Events one after the other, compressed on their way.
//!
//! On the wire, to the end of the message:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | mark: 0 as they are, 1 one LZ4 block |
//! | 4 | count of events |
//! | 4 | length of the events when unpacked, at most [`MAX_UNPACKED`] |
//! | | the events, each after its length of 4 bytes; packed as the mark says |

use super::Malformed;
use crate::util::reader::{ReadError, Reader};

/// Longest events of one answer when unpacked, bytes. Checked before memory is taken for them.
pub const MAX_UNPACKED: usize = 16 << 20;

/// No LZ4 block becomes more than this many times longer.
const MAX_RATIO: usize = 255;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// Events in wire form, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Each after its length of four bytes: seen to be whole, or put together here.
    bytes: Vec<u8>,
    count: u32,
}

impl Packed {
    /// What one event takes beside its own bytes.
    pub const PER_EVENT: usize = 4;

    /// Adds one event in wire form. Whoever sends it keeps [`Packed::bytes`] within
    /// [`MAX_UNPACKED`]; a client does not read more.
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
        let mut reader = Reader::new(&self.bytes);
        // They are whole, so this ends with the last and not before.
        std::iter::from_fn(move || next(&mut reader).ok())
    }

    /// Adds them to a message as its end.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let packed = lz4_flex::block::compress(&self.bytes);
        let (mark, bytes) = match packed.len() < self.bytes.len() {
            true => (LZ4, &packed),
            false => (PLAIN, &self.bytes),
        };
        out.reserve(1 + 4 + 4 + bytes.len());
        out.push(mark);
        out.extend(self.count.to_be_bytes());
        out.extend((self.bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
    }

    /// Reads them off the end of a message, and that they are whole.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mark = reader.u8()?;
        let count = reader.u32()?;
        let len = reader.u32()? as usize;
        if len > MAX_UNPACKED {
            return Err(Malformed::TooLarge(len));
        }
        let packed = reader.take(reader.rest.len())?;
        let bytes = match mark {
            PLAIN if packed.len() < len => return Err(ReadError::Truncated.into()),
            PLAIN if packed.len() > len => return Err(ReadError::TrailingBytes.into()),
            PLAIN => packed.to_vec(),
            LZ4 if len > packed.len().saturating_mul(MAX_RATIO) => return Err(Malformed::Packed),
            LZ4 => {
                let mut bytes = vec![0; len];
                match lz4_flex::block::decompress_into(packed, &mut bytes) {
                    Ok(written) if written == len => bytes,
                    _ => return Err(Malformed::Packed),
                }
            }
            other => return Err(Malformed::Mark(other)),
        };
        let mut events = Reader::new(&bytes);
        let mut found = 0_u32;
        while !events.rest.is_empty() {
            next(&mut events).map_err(|_| Malformed::Packed)?;
            found += 1;
        }
        match found == count {
            true => Ok(Packed { bytes, count }),
            false => Err(Malformed::Packed),
        }
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ReadError> {
    let len = usize::try_from(reader.u32()?).map_err(|_| ReadError::Truncated)?;
    reader.take(len)
}
