//! The protocol of acknowledged publishing, between API workers and the publisher service of their
//! host.
//!
//! A worker's DEALER socket connects to the service's ROUTER on a unix socket beside the PULL one
//! ([`request_path`]). Every message is one frame. Numbers are big-endian; one protocol version
//! is in use, [`VERSION`].
//!
//! # Request
//!
//! | bytes | what |
//! |---|---|
//! | 1 | protocol version |
//! | 4 | tag: chosen by the client, comes back in the reply |
//! | 16 | producer id: random per client |
//! | 8 | floor: the producer's first number that is not acknowledged yet, from 1 |
//! | 8 | first: number of the first event, from the floor on |
//! | 2 | count of events, 1 to [`MAX_EVENTS`] |
//! | | then per event: |
//! | 8 | the writer's version of the object, at most [`MAX_VERSION`]; 0 when it has none |
//! | 4 | length of the event |
//! | | the event in wire form ([`crate::event::codec`]); a stamp in it is not looked at |
//!
//! A request has at most [`MAX_REQUEST`] bytes. The first five bytes and the whole of the reply
//! `Unsupported` are the same in every version of the protocol.
//!
//! # Reply
//!
//! | bytes | what |
//! |---|---|
//! | 1 | protocol version of the reply |
//! | 1 | kind |
//! | 4 | the request's tag, 0 where it could not be read |
//! | 8 | the request's `first`, 0 where it could not be read |
//! | | then by kind: |
//! | 1 `Accepted` | upto 8, count 2, then per refused event: number 8, code 1, length 1, reason |
//! | 2 `Expect` | number 8 |
//! | 3 `Busy` | retry after 4 (milliseconds), length 1, reason |
//! | 4 `Unsupported` | count 1, the versions that are supported, 1 each |
//! | 5 `Malformed` | length 1, reason |
//!
//! Reasons are UTF-8, at most [`MAX_REASON`] bytes.
//!
//! # Rules
//!
//! * A producer numbers its events from 1 without holes and sends them in this order. `Accepted`
//!   settles the numbers from the request's `first` to `upto`: each is durable, or refused for
//!   good. The service keeps the last number of each producer, so that an event that is sent again
//!   is acknowledged again and published once. It is not judged again: where the first answer
//!   refused it and was lost, the second one says that it is settled, and of the refusal nothing.
//! * A request that would leave a hole is answered `Expect` and nothing of it is taken. A producer
//!   that the service does not know stands at the request's floor, not at its `first`: an earlier
//!   request may have been answered `Busy` or lost.
//! * `Busy` takes nothing and acknowledges nothing; the client sends the same again later.
//! * One that gets no reply sends the same again, over a new connection.

mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::event::{Action, Event, topic};
use crate::util::reader::ReadError;

pub use reply::{Answer, Code, MAX_REASON, Refusal, Reply};
pub use request::{Head, Item, Request, encode};

/// The version of the protocol that is spoken.
pub const VERSION: u8 = 1;

/// Most events in one request.
pub const MAX_EVENTS: usize = 1024;

/// Longest request, bytes.
pub const MAX_REQUEST: usize = 16 << 20;

/// Longest event in wire form, bytes: one that fills a request.
pub const MAX_EVENT: usize = MAX_REQUEST - request::HEAD_LEN - request::ITEM_LEN;

/// Most requests of one client that may be unanswered. The service keeps this many replies for a
/// client that does not read, and drops the others.
pub const MAX_WINDOW: usize = 16;

/// Highest version of an object that a writer may give. The publisher gives those above the known one
/// to events without a version: there must be room.
pub const MAX_VERSION: u64 = i64::MAX.unsigned_abs();

/// Who numbers events.
pub type Producer = [u8; 16];

/// Why a message is not of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More frames than one, or none.
    #[error("the message has not exactly one frame")]
    FrameCount,
    /// The bytes end too early, or are too many, or a reason is not UTF-8.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Another version of the protocol.
    #[error("protocol version {0} is not spoken")]
    Version(u8),
    /// An unknown kind of reply.
    #[error("there is no reply of kind {0}")]
    Kind(u8),
    /// No event, or more than [`MAX_EVENTS`].
    #[error("a request has 1 to {MAX_EVENTS} events, this one has {0}")]
    Count(usize),
    /// Not `1 ≤ floor ≤ first`, or the last number is no number any more.
    #[error("the numbers of the events are out of range")]
    Numbers,
    /// Longer than [`MAX_REQUEST`].
    #[error("a request has at most {MAX_REQUEST} bytes, this one has {0}")]
    TooLarge(usize),
}

/// The path of the request socket that goes with `publisher_multiproc_socket`.
pub fn request_path(multiproc_socket: &Path) -> PathBuf {
    let mut path = multiproc_socket.as_os_str().to_owned();
    path.push(".req");
    path.into()
}

/// Why no publisher would take an event and the writer's version of it, whatever its rows are; `Ok`
/// when it may. Both sides ask this, so that a client can tell its caller at once.
pub fn check(event: &Event<'_>, version: Option<u64>) -> Result<(), (Code, String)> {
    let row = |why: &str| Err((Code::NotARow, why.to_owned()));
    match (event.action, event.value) {
        _ if event.table.is_empty() => return row("the table is empty"),
        _ if event.key.is_empty() => return row("the key is empty"),
        (Action::Other(_), _) => return row("the action is none of create, set, delete"),
        (Action::Create | Action::Set, None) => return row("the value is missing"),
        (Action::Delete, Some(_)) => return row("a delete has no value"),
        _ => {}
    }
    if let Some(version) = version.filter(|version| *version > MAX_VERSION) {
        let why = format!("version {version} is above {MAX_VERSION}, the highest there is");
        return Err((Code::Version, why));
    }
    topic::check(event.topic_or_all()).map_err(|error| (Code::Topic, error.to_string()))
}

/// The number that is expected of a producer whose last one in the journal is `last`, when a
/// request's events from `first` on would leave a hole before them; `None` when they can be taken
/// (those up to `last` were taken before).
pub fn hole(last: Option<u64>, floor: u64, first: u64) -> Option<u64> {
    // A service whose state was lost knows less than the client does; it goes on at the floor.
    let expected = last.map_or(floor, |last| last.saturating_add(1).max(floor));
    (first > expected).then_some(expected)
}
