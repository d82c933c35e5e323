//! What follows one publisher on its reader's thread.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::event::EventBatch;
use crate::event::hello::Hello;
use crate::pubsub::api::{Callback, LinkChange, Source};
use crate::pubsub::endpoint::Endpoint;

/// Follows one publisher: is told of all that its reader hears, in order, and may have a socket of
/// its own beside the reader's, to ask for what is missing. Owned by the reader's thread; nothing it
/// does may block.
pub trait Follow: Send {
    /// Events in the order in which they came, each a change of a row.
    fn events(&mut self, events: EventBatch, now: Instant);

    /// The publisher's heartbeat, after all events that came before it.
    fn hello(&mut self, hello: Hello, now: Instant);

    /// The connection changed; `target` is where it leads, without a name in it.
    fn link(&mut self, change: LinkChange, target: &Endpoint, now: Instant);

    /// The publisher says no hello, so that nothing proves that all it sent has come.
    fn legacy(&mut self, now: Instant);

    /// The reader begins again after a panic: what it was told last, or was about to do, may be lost. A
    /// new connection is made after this.
    fn begin_anew(&mut self, now: Instant);

    /// From now on `topic` is subscribed to, or is not.
    fn topic(&mut self, topic: &str, wanted: bool, now: Instant);

    /// Does what is due, and takes what has come to its socket, a bounded part of it; says whether
    /// that was all, so that its descriptor may be waited for.
    fn turn(&mut self, now: Instant) -> bool;

    /// What to wake up for; `None` when it has no socket.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// When [`Follow::turn`] is wanted whatever comes; `None`: not until something else happens.
    fn deadline(&self) -> Option<Instant>;
}

/// Hands on what comes and asks for nothing.
pub struct Passing {
    callback: Arc<dyn Callback>,
    source: Arc<Source>,
}

impl Passing {
    /// Hands on to `callback`.
    pub fn new(callback: &Arc<dyn Callback>, source: &Arc<Source>) -> Self {
        Passing {
            callback: Arc::clone(callback),
            source: Arc::clone(source),
        }
    }
}

impl Follow for Passing {
    fn events(&mut self, events: EventBatch, _: Instant) {
        self.callback.events(&self.source, events);
    }

    fn hello(&mut self, _: Hello, _: Instant) {}

    fn link(&mut self, change: LinkChange, _: &Endpoint, _: Instant) {
        self.callback.link(&self.source, change);
    }

    fn legacy(&mut self, _: Instant) {}

    /// The connection that is made again tells that something may be missing.
    fn begin_anew(&mut self, _: Instant) {}

    fn topic(&mut self, _: &str, _: bool, _: Instant) {}

    fn turn(&mut self, _: Instant) -> bool {
        true
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}
