//! The way back to a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::publisher::submit::{Answer, Refusal, Reply};
use crate::util::waker::Commands;

/// What the thread of the socket is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this answer to this client.
    Answer(Box<[u8]>, Answer),
    /// Send the answers before this and end.
    Stop,
    #[cfg(test)]
    Break,
}

/// Bytes of one request that awaits an answer; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    pub fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Waiting {
            all: Arc::clone(all),
            bytes,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whom to answer. Dropped without an answer, the client sends its events again after a while.
#[derive(Debug)]
pub struct ReplyTo {
    pub(super) commands: Arc<Commands<Command>>,
    pub(super) client: Box<[u8]>,
    pub(super) tag: u32,
    pub(super) first: u64,
    /// Events that the socket's thread refused already.
    pub(super) refused: Vec<Refusal>,
    pub(super) waiting: Waiting,
}

impl ReplyTo {
    /// Answers. May be called on any thread, and does not wait for the client; the answer is lost
    /// when that is gone.
    pub fn send(self, mut reply: Reply) {
        if let Reply::Accepted { refused, .. } = &mut reply
            && !self.refused.is_empty()
        {
            // Ours says more than whatever the service says of the event's empty place.
            let ours = self.refused;
            refused.retain(|theirs| ours.iter().all(|own| own.number != theirs.number));
            refused.extend(ours);
            refused.sort_unstable_by_key(|refusal| refusal.number);
        }
        let answer = Answer {
            tag: self.tag,
            first: self.first,
            reply,
        };
        // Before the bell, so that its owner finds room to read on.
        drop(self.waiting);
        if !self.commands.send(Command::Answer(self.client, answer)) {
            log::debug!("an answer is lost: the request socket is closed");
        }
    }
}
