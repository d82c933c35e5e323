//! What the service sends. After the head that all messages have:
//!
//! | kind | what follows |
//! |---|---|
//! | 1 `Heads` | incarnation 8, head 8, count of topics 2, then per topic: length 1, topic, seq 8 |
//! | 2 `Events` | incarnation 8, upto 8, last 8, events |
//! | 3 `Gone` | incarnation 8 |
//! | 4 `Rows` | id 8, chunk 4, chunks 4, incarnation 8, seq 8, complete since 8, mark 1; where that is 1: rows 8, digest 8; then events |
//! | 5 `Lapsed` | |
//! | 6 `RetryAfter` | milliseconds 4 |
//! | 7 `Refused` | code 1 (1 `Version`, 2 `Malformed`, 3 `Forbidden`), length 1, reason |
//! | 8 `Topics` | incarnation 8, mark 1 (1: there are more), count of topics 2, then per topic: length 1, topic |
//!
//! Events are as [`super::Packed`] says. The service makes all but the head once and sends it to
//! all who ask for the same.

use super::{Answer, MAX_REASON, Malformed, Packed, Refusal, VERSION};
use super::{head, read_names, read_topics, write_names, write_topics};
use crate::util::printable;
use crate::util::reader::Reader;

const HEADS: u8 = 1;
const EVENTS: u8 = 2;
const GONE: u8 = 3;
const ROWS: u8 = 4;
const LAPSED: u8 = 5;
const RETRY_AFTER: u8 = 6;
const REFUSED: u8 = 7;
const TOPICS: u8 = 8;

/// Where the tag of an answer stands.
const TAG_AT: std::ops::Range<usize> = 2..super::HEAD_LEN;

/// Writes an answer into `out`, which is emptied first and keeps its memory. Topics beyond
/// [`super::MAX_TOPICS`] are left out, and a reason beyond [`MAX_REASON`] is cut.
pub fn encode(tag: u64, answer: &Answer, out: &mut Vec<u8>) {
    let numbers = |numbers: &[u64], out: &mut Vec<u8>| {
        for number in numbers {
            out.extend(number.to_be_bytes());
        }
    };
    match answer {
        Answer::Heads {
            incarnation,
            head: seq,
            behind,
        } => {
            head(HEADS, tag, out);
            numbers(&[*incarnation, *seq], out);
            write_topics(behind, out);
        }
        Answer::Events {
            incarnation,
            upto,
            last,
            events,
        } => {
            head(EVENTS, tag, out);
            numbers(&[*incarnation, *upto, *last], out);
            events.encode(out);
        }
        Answer::Gone { incarnation } => {
            head(GONE, tag, out);
            numbers(&[*incarnation], out);
        }
        Answer::Rows {
            id,
            chunk,
            chunks,
            incarnation,
            seq,
            complete_since,
            total,
            rows,
        } => {
            head(ROWS, tag, out);
            numbers(&[*id], out);
            out.extend(chunk.to_be_bytes());
            out.extend(chunks.to_be_bytes());
            numbers(&[*incarnation, *seq, *complete_since], out);
            out.push(total.is_some().into());
            if let Some((rows, digest)) = total {
                numbers(&[*rows, *digest], out);
            }
            rows.encode(out);
        }
        Answer::Topics {
            incarnation,
            topics,
            more,
        } => {
            head(TOPICS, tag, out);
            numbers(&[*incarnation], out);
            out.push((*more).into());
            write_names(topics, out);
        }
        Answer::Lapsed => head(LAPSED, tag, out),
        Answer::RetryAfter(millis) => {
            head(RETRY_AFTER, tag, out);
            out.extend(millis.to_be_bytes());
        }
        Answer::Refused { code, reason } => {
            head(REFUSED, tag, out);
            let reason = printable::cut(reason, MAX_REASON);
            // At most 255, so that it fits one byte.
            out.extend([code_byte(*code), reason.len() as u8]);
            out.extend(reason.as_bytes());
        }
    }
}

/// Makes the answer to one client that of another who asked for the same.
pub fn set_tag(tag: u64, answer: &mut [u8]) {
    if let Some(place) = answer.get_mut(TAG_AT) {
        place.copy_from_slice(&tag.to_be_bytes());
    }
}

/// Reads an answer and the tag of the request it is given to. What is packed in it is unpacked and
/// was seen to be whole.
pub fn decode(bytes: &[u8]) -> Result<(u64, Answer), Malformed> {
    let mut reader = Reader::new(bytes);
    let (version, kind) = (reader.u8()?, reader.u8()?);
    if version != VERSION && kind != REFUSED {
        return Err(Malformed::Version(version));
    }
    let tag = reader.u64()?;
    let answer = match kind {
        HEADS => Answer::Heads {
            incarnation: reader.u64()?,
            head: reader.u64()?,
            behind: read_topics(&mut reader)?,
        },
        EVENTS => Answer::Events {
            incarnation: reader.u64()?,
            upto: reader.u64()?,
            last: reader.u64()?,
            events: Packed::decode(&mut reader)?,
        },
        GONE => Answer::Gone {
            incarnation: reader.u64()?,
        },
        ROWS => rows(&mut reader)?,
        TOPICS => Answer::Topics {
            incarnation: reader.u64()?,
            more: match reader.u8()? {
                0 => false,
                1 => true,
                other => return Err(Malformed::Mark(other)),
            },
            topics: read_names(&mut reader)?,
        },
        LAPSED => Answer::Lapsed,
        RETRY_AFTER => Answer::RetryAfter(reader.u32()?),
        REFUSED => Answer::Refused {
            code: code(reader.u8()?)?,
            reason: reader.short_text()?,
        },
        other => return Err(Malformed::Kind(other)),
    };
    reader.end()?;
    Ok((tag, answer))
}

fn rows(reader: &mut Reader<'_>) -> Result<Answer, Malformed> {
    let id = reader.u64()?;
    let (chunk, chunks) = (reader.u32()?, reader.u32()?);
    if chunk >= chunks {
        return Err(Malformed::Chunk(chunk, chunks));
    }
    Ok(Answer::Rows {
        id,
        chunk,
        chunks,
        incarnation: reader.u64()?,
        seq: reader.u64()?,
        complete_since: reader.u64()?,
        total: match reader.u8()? {
            0 => None,
            1 => Some((reader.u64()?, reader.u64()?)),
            other => return Err(Malformed::Mark(other)),
        },
        rows: Packed::decode(reader)?,
    })
}

fn code_byte(code: Refusal) -> u8 {
    match code {
        Refusal::Version => 1,
        Refusal::Malformed => 2,
        Refusal::Forbidden => 3,
    }
}

fn code(byte: u8) -> Result<Refusal, Malformed> {
    match byte {
        1 => Ok(Refusal::Version),
        2 => Ok(Refusal::Malformed),
        3 => Ok(Refusal::Forbidden),
        other => Err(Malformed::Mark(other)),
    }
}
