//! What a driver adds to [`super::SubscriberAgentBase`]: how to connect and receive.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::event::codec::Malformed;
use crate::pubsub::api::PubSubError;
use crate::pubsub::endpoint::Endpoint;

/// Opens links. Shared by all readers.
pub trait Transport: Send + Sync {
    /// Whether the driver speaks this kind of address.
    fn supports(&self, endpoint: &Endpoint) -> bool;

    /// Whether links carry only what is subscribed to; otherwise every topic is handed on.
    fn selects(&self) -> bool {
        true
    }

    /// A new link to `endpoint`, in which there is no name to resolve. Must return at once; the
    /// connection is made in the background and reported by [`Link::signal`]. `uri` is the address as
    /// registered, by which the publisher's key is known.
    fn open(&self, endpoint: &Endpoint, uri: &str) -> Result<Box<dyn Link>, PubSubError>;
}

/// One message as it lies in the link, until the next call.
#[derive(Debug)]
pub enum Received<'a> {
    /// Nothing is waiting.
    Nothing,
    /// A message of two frames.
    Message {
        /// Frame 0.
        topic: &'a [u8],
        /// Frame 1.
        payload: &'a [u8],
    },
    /// A message that cannot be looked at; it is dropped already.
    Malformed(Malformed),
}

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Connected, handshake done.
    Up,
    /// The attempt failed; libzmq or the system says why.
    ConnectFailed(String),
    /// The peer ended the connection in the middle of the handshake, and nothing says why.
    BrokenOff(String),
    /// The peer refused us or does not speak the protocol.
    Refused(String),
    /// The connection is lost.
    Down,
    /// At a socket that is bound: so many connections were not taken, of users who may not use it as
    /// a rule.
    TurnedAway(u64),
}

/// One connection to one publisher; used by its reader's thread only. Dropping it disconnects.
pub trait Link {
    /// Asks for messages whose frame 0 begins with `prefix`.
    fn subscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError>;

    /// Takes one `subscribe` of `prefix` back.
    fn unsubscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError>;

    /// The next message, without waiting. A message of any other number of frames or over the size
    /// limit is taken in bounded memory and reported as malformed.
    fn receive(&mut self) -> Result<Received<'_>, PubSubError>;

    /// The next signal, without waiting.
    fn signal(&mut self) -> Result<Option<Signal>, PubSubError>;

    /// Waits until there may be something to receive, a signal, or one of `wakes` is readable (they
    /// may be the same one), at most `timeout` (`None`: without end). May return early. To be called only when `receive` and
    /// then `signal` have just had nothing.
    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError>;
}
