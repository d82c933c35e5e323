//! What the service answers.

use std::fmt;

use super::{MAX_EVENTS, SubmitError, VERSION};
use crate::util::printable;
use crate::util::reader::Reader;

/// Longest reason, bytes; longer ones are cut.
pub const MAX_REASON: usize = 160;

/// Why an event was refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A higher version of the object is known.
    Older,
    /// Nobody can subscribe to the topic.
    Topic,
    /// It changes no row: no table, no key, an unknown action, or a value missing or too many.
    NotARow,
    /// More bytes than the service takes (`max_message_size`).
    TooLarge,
    /// It is not in wire form.
    Malformed,
    /// The version is above [`super::MAX_VERSION`].
    Version,
    /// A reason of a later service.
    Other(u8),
}

impl Code {
    fn to_byte(self) -> u8 {
        match self {
            Code::Older => 1,
            Code::Topic => 2,
            Code::NotARow => 3,
            Code::TooLarge => 4,
            Code::Malformed => 5,
            Code::Version => 6,
            Code::Other(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Code::Older,
            2 => Code::Topic,
            3 => Code::NotARow,
            4 => Code::TooLarge,
            5 => Code::Malformed,
            6 => Code::Version,
            other => Code::Other(other),
        }
    }
}

impl fmt::Display for Code {
    /// The stable name of the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Older => f.write_str("older"),
            Code::Topic => f.write_str("topic"),
            Code::NotARow => f.write_str("not_a_row"),
            Code::TooLarge => f.write_str("too_large"),
            Code::Malformed => f.write_str("malformed"),
            Code::Version => f.write_str("version"),
            Code::Other(byte) => write!(f, "code_{byte}"),
        }
    }
}

/// One event that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The event's number.
    pub number: u64,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub reason: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The events from the request's first to `upto` are durable, but for those refused for good.
    Accepted {
        /// The last number that is settled.
        upto: u64,
        /// Events that were not taken, at most [`MAX_EVENTS`].
        refused: Vec<Refusal>,
    },
    /// Nothing was taken, because events before it are missing.
    Expect {
        /// The number to go on with.
        number: u64,
    },
    /// Nothing was taken, because it could not be made durable just now.
    Busy {
        /// When to try again, milliseconds.
        retry_after_ms: u32,
        /// Why.
        reason: String,
    },
    /// The request is of another version of the protocol.
    Unsupported {
        /// The versions that are spoken.
        versions: Vec<u8>,
    },
    /// The request could not be read.
    Malformed {
        /// Why.
        reason: String,
    },
}

/// A reply and the request it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request's tag.
    pub tag: u32,
    /// Number of the request's first event.
    pub first: u64,
    /// What became of it.
    pub reply: Reply,
}

impl Answer {
    /// Writes the answer into `out`, which is emptied first and keeps its memory.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let kind = match self.reply {
            Reply::Accepted { .. } => 1,
            Reply::Expect { .. } => 2,
            Reply::Busy { .. } => 3,
            Reply::Unsupported { .. } => 4,
            Reply::Malformed { .. } => 5,
        };
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&self.tag.to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        match &self.reply {
            Reply::Accepted { upto, refused } => {
                out.extend_from_slice(&upto.to_be_bytes());
                let refused = &refused[..refused.len().min(MAX_EVENTS)];
                out.extend_from_slice(&(refused.len() as u16).to_be_bytes());
                for refusal in refused {
                    out.extend_from_slice(&refusal.number.to_be_bytes());
                    out.push(refusal.code.to_byte());
                    short_text(&refusal.reason, out);
                }
            }
            Reply::Expect { number } => out.extend_from_slice(&number.to_be_bytes()),
            Reply::Busy {
                retry_after_ms,
                reason,
            } => {
                out.extend_from_slice(&retry_after_ms.to_be_bytes());
                short_text(reason, out);
            }
            Reply::Unsupported { versions } => {
                let versions = &versions[..versions.len().min(usize::from(u8::MAX))];
                out.push(versions.len() as u8);
                out.extend_from_slice(versions);
            }
            Reply::Malformed { reason } => short_text(reason, out),
        }
    }

    /// Reads an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, SubmitError> {
        const UNSUPPORTED: u8 = 4;
        let mut reader = Reader::new(bytes);
        let (version, kind) = (reader.u8()?, reader.u8()?);
        if version != VERSION && kind != UNSUPPORTED {
            return Err(SubmitError::Version(version));
        }
        let (tag, first) = (reader.u32()?, reader.u64()?);
        let reply = match kind {
            1 => accepted(&mut reader)?,
            2 => Reply::Expect {
                number: reader.u64()?,
            },
            3 => Reply::Busy {
                retry_after_ms: reader.u32()?,
                reason: reader.short_text()?,
            },
            UNSUPPORTED => {
                let count = reader.u8()?;
                Reply::Unsupported {
                    versions: reader.take(count.into())?.to_vec(),
                }
            }
            5 => Reply::Malformed {
                reason: reader.short_text()?,
            },
            other => return Err(SubmitError::Kind(other)),
        };
        reader.end()?;
        Ok(Answer { tag, first, reply })
    }
}

fn accepted(reader: &mut Reader<'_>) -> Result<Reply, SubmitError> {
    let upto = reader.u64()?;
    let count = usize::from(reader.u16()?);
    if count > MAX_EVENTS {
        return Err(SubmitError::Count(count));
    }
    let mut refused = Vec::with_capacity(count);
    for _ in 0..count {
        refused.push(Refusal {
            number: reader.u64()?,
            code: Code::from_byte(reader.u8()?),
            reason: reader.short_text()?,
        });
    }
    Ok(Reply::Accepted { upto, refused })
}

fn short_text(text: &str, out: &mut Vec<u8>) {
    let text = printable::cut(text, MAX_REASON);
    // At most 160, so that it fits one byte.
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}
