//! Threads that can be waited for with a deadline, and handles that end theirs when they are dropped.

use std::fmt;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

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

/// How a thread is ended.
pub struct Ending {
    /// Tells it; must not wait.
    pub tell: Box<dyn FnOnce() + Send + Sync>,
    /// How long dropping its handle waits for it, where it was not told by when to end.
    pub within: Duration,
    /// What is logged when it is left behind.
    pub late: &'static str,
}

/// The thread of a service. Dropping it tells the thread to end and waits for it.
pub struct Handle {
    thread: Thread,
    tell: Option<Box<dyn FnOnce() + Send + Sync>>,
    within: Duration,
    late: &'static str,
    /// Until when its end is waited for, once it was told to end.
    deadline: Option<Instant>,
}

impl Handle {
    /// Takes charge of `thread`.
    pub fn new(thread: Thread, ending: Ending) -> Self {
        Handle {
            thread,
            tell: Some(ending.tell),
            within: ending.within,
            late: ending.late,
            deadline: None,
        }
    }

    /// Tells it to end; dropping it then waits until `deadline` at most.
    pub fn stop_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }

    /// Whether its thread has not ended.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.thread).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let deadline = self.deadline;
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.within);
        self.stop_by(deadline);
        if !self.thread.join_by(deadline) {
            log::error!("{}", self.late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_tells_its_thread_to_end_and_waits_for_it() {
        let (stop, stopped) = bounded::<()>(0);
        let (said, heard) = bounded::<()>(1);
        let thread = Thread::spawn("served", move || {
            let _ = stopped.recv();
            let _ = said.send(());
        })
        .unwrap();
        let mut handle = Handle::new(
            thread,
            Ending {
                tell: Box::new(move || drop(stop)),
                within: Duration::from_secs(5),
                late: "left behind",
            },
        );
        assert!(handle.is_running() && heard.is_empty());
        handle.stop_by(Instant::now() + Duration::from_secs(5));
        drop(handle);
        assert_eq!(heard.try_recv(), Ok(()));
    }

    #[test]
    fn a_handle_does_not_wait_longer_than_it_may() {
        let (release, wait) = bounded::<()>(0);
        let thread = Thread::spawn("stuck", move || {
            let _ = wait.recv();
        })
        .unwrap();
        let handle = Handle::new(
            thread,
            Ending {
                tell: Box::new(|| {}),
                within: Duration::from_millis(10),
                late: "left behind",
            },
        );
        drop(handle);
        // It would never have ended.
        drop(release);
    }

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
