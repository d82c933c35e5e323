//! What the service answers, without its socket, its thread and its clock: for tests that hold what
//! they take it to answer against it.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::SyncOptions;
use super::desk::{Action, Desk};
use super::waiters::Waiter;
use crate::publisher::history::{History, HistoryError};
use crate::sync::{Answer, Request, answer};

/// See the module.
pub struct Oracle {
    desk: Desk,
}

impl Oracle {
    /// One that behaves by `options`; what it does by chance follows from `seed`.
    pub fn new(options: &SyncOptions, seed: u64, now: Instant) -> Self {
        Oracle {
            desk: Desk::new(options, Arc::default(), now, Rng::with_seed(seed)),
        }
    }

    /// What a client is answered at `now`, when the publisher's history is this; `None` would be a fault.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn answer(
        &mut self,
        history: &History,
        request: Request,
        now: Instant,
    ) -> Result<Option<Answer>, HistoryError> {
        self.desk.tick(now);
        let waiter = Waiter {
            client: b"client"[..].into(),
            owner: b"node"[..].into(),
            address: None,
            tag: 0,
        };
        self.desk.request(waiter, (request, Vec::new()), now);
        let mut last = None;
        loop {
            let actions = self.desk.actions();
            if actions.is_empty() {
                return Ok(last);
            }
            for action in actions {
                match action {
                    Action::Ask(ticket, ask) => self.desk.told(ticket, ask.answer(history)?, now),
                    Action::Send(_, _, body) => {
                        last = answer::decode(&body).ok().map(|(_, answer)| answer);
                    }
                }
            }
        }
    }
}
