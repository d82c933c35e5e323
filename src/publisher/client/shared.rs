//! What callers and the client's thread share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::window::{Limits, Window};
use super::{ClientError, ClientOptions, Identity, Refusal, Summary, lock};

/// Behind the lock.
pub(super) struct State {
    pub window: Window,
    refusals: VecDeque<Refusal>,
    /// The thread sleeps and could send another event.
    pub wants_bell: bool,
    pub closing: bool,
    /// Why nothing is acknowledged.
    pub trouble: Option<String>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// Events were settled, or the client was closed.
    changed: Condvar,
    keep_refusals: usize,
    send_timeout: Duration,
}

impl Shared {
    pub fn new(identity: Identity, options: &ClientOptions) -> Self {
        let limits = Limits::new(options);
        Shared {
            keep_refusals: limits.spool_events.saturating_mul(2),
            state: Mutex::new(State {
                window: Window::new(identity, limits),
                refusals: VecDeque::new(),
                wants_bell: true,
                closing: false,
                trouble: None,
            }),
            changed: Condvar::new(),
            send_timeout: options.send_timeout,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Puts an event into the spool; says its number, and whether the thread must be woken.
    pub fn push(
        &self,
        version: Option<u64>,
        payload: Vec<u8>,
        deadline: Instant,
    ) -> Result<(u64, bool), ClientError> {
        let mut state = self.lock();
        while !state.closing && !state.window.has_room(payload.len()) {
            match self.wait(state, deadline) {
                Ok(changed) => state = changed,
                Err(state) => {
                    let why = state.trouble.clone();
                    return Err(ClientError::SpoolFull {
                        waited: self.send_timeout,
                        why: why.unwrap_or_else(|| "the publisher service is too slow".into()),
                    });
                }
            }
        }
        if state.closing {
            return Err(ClientError::Closed);
        }
        let number = state
            .window
            .push(version, payload)
            .ok_or(ClientError::Closed)?;
        Ok((number, std::mem::take(&mut state.wants_bell)))
    }

    /// Waits until all that is in the spool now is settled.
    pub fn flush(&self, deadline: Instant) -> Summary {
        let mut state = self.lock();
        let end = state.window.next_number();
        while !state.closing && state.window.floor() < end {
            match self.wait(state, deadline) {
                Ok(changed) => state = changed,
                Err(last) => return last.window.summary(),
            }
        }
        state.window.summary()
    }

    /// Waits for a change; gives the lock as the error when it is too late for one.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(state);
        }
        let (state, _) = self
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner);
        Ok(state)
    }

    pub fn summary(&self) -> Summary {
        self.lock().window.summary()
    }

    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    pub fn take_refusals(&self) -> Vec<Refusal> {
        self.lock().refusals.drain(..).collect()
    }

    /// Keeps the newest refusals.
    pub fn add_refusals(&self, state: &mut State, refused: Vec<Refusal>) {
        state.refusals.extend(refused);
        let surplus = state.refusals.len().saturating_sub(self.keep_refusals);
        state.refusals.drain(..surplus);
    }

    /// Tells whoever waits that events were settled.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.lock().closing = true;
        self.notify();
    }
}
