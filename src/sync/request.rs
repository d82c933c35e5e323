//! What a client sends. After the head that all messages have:
//!
//! | kind | what follows |
//! |---|---|
//! | 1 `Heads` | incarnation 8, count of topics 2, then per topic: length 1, topic, seq 8 |
//! | 2 `Replay` | incarnation 8, after 8, length 1, topic |
//! | 3 `Snapshot` | length 1, topic, mark 1; where that is 1: id 8, chunk 4; where it is 0 nothing |
//! | 4 `Topics` | length 1, topic (none at first: length 0) |
//!
//! A request has at most [`super::MAX_REQUEST`] bytes.

use super::{HEAD_LEN, Malformed, Request, VERSION};
use super::{head, read_topic, read_topics, write_topic, write_topics};
use crate::event::topic::MAX_TOPIC_LEN;
use crate::util::reader::Reader;

/// Why bytes are no request, and what can still be told the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadRequest {
    /// The tag to answer with; 0 where it could not be read.
    pub tag: u64,
    /// What is wrong.
    pub why: Malformed,
}

const HEADS: u8 = 1;
const REPLAY: u8 = 2;
const SNAPSHOT: u8 = 3;
const TOPICS: u8 = 4;

/// Writes a request into `out`, which is emptied first and keeps its memory. Topics beyond
/// [`super::MAX_TOPICS`] are left out.
pub fn encode(tag: u64, request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Heads {
            incarnation,
            topics,
        } => {
            head(HEADS, tag, out);
            out.extend(incarnation.to_be_bytes());
            write_topics(topics, out);
        }
        Request::Replay {
            incarnation,
            topic,
            after,
        } => {
            head(REPLAY, tag, out);
            out.extend(incarnation.to_be_bytes());
            out.extend(after.to_be_bytes());
            write_topic(topic, out);
        }
        Request::Snapshot { topic, chunk } => {
            head(SNAPSHOT, tag, out);
            write_topic(topic, out);
            out.push(chunk.is_some().into());
            if let Some((id, chunk)) = chunk {
                out.extend(id.to_be_bytes());
                out.extend(chunk.to_be_bytes());
            }
        }
        Request::Topics { after } => {
            head(TOPICS, tag, out);
            write_topic(after, out);
        }
    }
}

/// The tag to answer with, whatever else is there; 0 where there is none.
pub fn tag(bytes: &[u8]) -> u64 {
    let tag = bytes.get(2..HEAD_LEN).and_then(|tag| tag.try_into().ok());
    tag.map_or(0, u64::from_be_bytes)
}

/// Reads a request and its tag.
pub fn decode(bytes: &[u8]) -> Result<(u64, Request), BadRequest> {
    let tag = tag(bytes);
    let mut reader = Reader::new(bytes);
    match read(&mut reader) {
        Ok(request) => Ok((tag, request)),
        Err(why) => Err(BadRequest { tag, why }),
    }
}

fn read(reader: &mut Reader<'_>) -> Result<Request, Malformed> {
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let (kind, _tag) = (reader.u8()?, reader.u64()?);
    let request = match kind {
        HEADS => Request::Heads {
            incarnation: reader.u64()?,
            topics: read_topics(reader)?,
        },
        REPLAY => Request::Replay {
            incarnation: reader.u64()?,
            after: reader.u64()?,
            topic: read_topic(reader)?,
        },
        SNAPSHOT => Request::Snapshot {
            topic: read_topic(reader)?,
            chunk: match reader.u8()? {
                0 => None,
                1 => Some((reader.u64()?, reader.u32()?)),
                other => return Err(Malformed::Mark(other)),
            },
        },
        TOPICS => Request::Topics {
            after: match reader.short_text()? {
                after if after.len() <= MAX_TOPIC_LEN => after,
                after => return Err(Malformed::Topic(after.len())),
            },
        },
        other => return Err(Malformed::Kind(other)),
    };
    reader.end()?;
    Ok(request)
}
