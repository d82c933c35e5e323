//! One stop, seen by everything that blocks.
//!
//! A token can be asked, selected on together with channels, and polled together with
//! descriptors, so that no code has to wake up only to look whether it should end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never};
use rustix::event::{EventfdFlags, eventfd};

/// Whoever may stop the others; dropping it stops them too.
#[derive(Debug)]
#[must_use = "dropping it stops every token at once"]
pub struct Stop {
    alive: Option<Sender<()>>,
    wake: Arc<OwnedFd>,
}

/// What is given to those who must stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct StopToken {
    alive: Receiver<()>,
    wake: Option<Arc<OwnedFd>>,
}

/// A stop and its token. Takes one descriptor, however often the token is cloned; fails only when
/// the process has none left.
pub fn stop() -> io::Result<(Stop, StopToken)> {
    let (sender, receiver) = bounded(0);
    // Not a pipe: a child between fork and exec holds a copy of the pipe's other end and would
    // keep it open for that long.
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let stop = Stop {
        alive: Some(sender),
        wake: Arc::clone(&wake),
    };
    let token = StopToken {
        alive: receiver,
        wake: Some(wake),
    };
    Ok((stop, token))
}

impl Stop {
    /// Stops all who hold a token; cannot be taken back.
    pub fn stop(self) {}
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.alive = None;
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl StopToken {
    /// A token that never stops anything: for tests and for checking a configuration.
    pub fn never() -> Self {
        StopToken {
            alive: never(),
            wake: None,
        }
    }

    /// Whether it is time to end.
    pub fn is_stopped(&self) -> bool {
        matches!(self.alive.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Never gives a message; it disconnects on stop, which `select!` sees as ready.
    pub fn receiver(&self) -> &Receiver<()> {
        &self.alive
    }

    /// Becomes readable on stop and stays so; to be polled, never read. `None` for
    /// [`StopToken::never`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(|wake| wake.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::time::Duration;

    fn readable(token: &StopToken) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let fd = token.fd().unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn every_way_to_wait_sees_the_stop() {
        let (stop, token) = stop().unwrap();
        let other = token.clone();
        assert!(!token.is_stopped() && !readable(&token));
        let waiter = std::thread::spawn(move || other.receiver().recv().is_err());
        stop.stop();
        assert!(waiter.join().unwrap());
        assert!(token.is_stopped() && readable(&token));
        assert!(readable(&token), "it stays readable");
    }

    #[test]
    fn never_is_never() {
        let token = StopToken::never();
        assert!(!token.is_stopped() && token.fd().is_none());
        assert!(
            token
                .receiver()
                .recv_timeout(Duration::from_millis(1))
                .is_err()
        );
        assert!(!token.is_stopped());
    }
}
