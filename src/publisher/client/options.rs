//! How a client behaves, and what it tells.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::publisher::submit::{Code, Producer, request_path};

/// How a client behaves. Values out of range are taken as the nearest one that is allowed.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The request socket, an absolute path; see [`ClientOptions::beside`].
    pub socket: PathBuf,
    /// Who numbers the events; `None`: a random producer, which is right unless the caller keeps
    /// its events and numbers itself.
    pub identity: Option<Identity>,
    /// Most events that wait for acknowledgement, from 1.
    pub spool_events: usize,
    /// Most bytes that they may take; one event of any size always finds room.
    pub spool_bytes: usize,
    /// Most events in one request, 1 to [`crate::publisher::submit::MAX_EVENTS`].
    pub batch_events: usize,
    /// A request is closed before it has more bytes than this, but takes one event of any size.
    pub batch_bytes: usize,
    /// Most requests that await an answer, 1 to [`crate::publisher::submit::MAX_WINDOW`].
    pub window: usize,
    /// A request without an answer for this long is sent again, over a new connection; twice,
    /// four and eight times as long where that does not help.
    pub resend: Duration,
    /// Longest that `publish` waits for room in the spool.
    pub send_timeout: Duration,
    /// Longest that closing waits for acknowledgements.
    pub linger: Duration,
}

impl ClientOptions {
    /// The defaults, for the service whose `publisher_multiproc_socket` this is.
    pub fn beside(multiproc_socket: &Path) -> Self {
        ClientOptions {
            socket: request_path(multiproc_socket),
            identity: None,
            spool_events: 10_000,
            spool_bytes: 16 << 20,
            batch_events: 256,
            batch_bytes: 256 << 10,
            window: 8,
            resend: Duration::from_secs(5),
            send_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(1),
        }
    }
}

/// A producer that goes on where it was. Never to be used by two clients at once: the service would
/// take the second one's events for those it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The producer's id.
    pub producer: Producer,
    /// Number of the first event published: one above the last one acknowledged, from 1.
    pub first: u64,
}

/// What became of the events of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Events that are durable at the service, or were refused by an answer that got lost: sent again,
    /// they are settled, and why is not told a second time.
    pub acknowledged: u64,
    /// Events that the service said it will not publish.
    pub refused: u64,
    /// Events of which neither is known.
    pub pending: u64,
}

/// Why an event was not taken, named by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No publisher would take this event; mend it.
    #[error("{reason}")]
    Event {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// Nothing was acknowledged for too long; publish again later, or do without.
    #[error("no room for another event within {waited:?}: {why}")]
    SpoolFull {
        /// The options' `send_timeout`.
        waited: Duration,
        /// Why events are not acknowledged.
        why: String,
    },
    /// The client was used before the process forked; make one per process.
    #[error("this client was used before the fork; every process needs its own")]
    Forked,
    /// The client's number are used up or it was closed; make another.
    #[error("this client is closed")]
    Closed,
    /// The client cannot start: a wrong path, or nothing left of threads or descriptors.
    #[error("cannot start publishing: {0}")]
    Start(String),
}
