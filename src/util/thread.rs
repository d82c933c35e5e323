//! Threads that can be waited for with a deadline.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// A named thread whose end can be waited for without blocking for ever.
#[derive(Debug)]
pub struct Thread {
    name: String,
    handle: Option<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Thread {
    /// Starts `body` on a thread called `name`; the kernel shows its first 15 bytes.
    pub fn spawn(
        name: impl Into<String>,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let name = name.into();
        // Dropped when the thread ends, however it ends: the receiver sees the disconnect.
        let (alive, ended): (Sender<()>, Receiver<()>) = bounded(0);
        let handle = Builder::new().name(name.clone()).spawn(move || {
            let _alive = alive;
            body();
        })?;
        Ok(Thread {
            name,
            handle: Some(handle),
            ended,
        })
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the thread has ended or `deadline` has passed; says whether it has ended.
    /// A thread that has not is left to itself: the process may still exit.
    pub fn join_by(&mut self, deadline: Instant) -> bool {
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_deadline(deadline) {
            return false;
        }
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            log::error!("thread {} ended by a panic", self.name);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stuck_thread_is_not_waited_for() {
        let (release, wait) = bounded::<()>(0);
        let mut thread = Thread::spawn("stuck", move || {
            let _ = wait.recv();
        })
        .unwrap();
        assert!(!thread.join_by(Instant::now() + Duration::from_millis(10)));
        drop(release);
        assert!(thread.join_by(Instant::now() + Duration::from_secs(5)));
        assert!(thread.is_finished());
    }
}
