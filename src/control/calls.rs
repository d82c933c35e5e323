//! Calls from clients' threads to the thread that owns what they ask about.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::reply::{Code, Refusal};

/// Calls that may wait for the owner.
const WAITING: usize = 32;

/// How long the owner may take. It may be stopping readers or handlers, which takes a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the owner is to do with what it owns.
pub type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The callers' end. Cheap to clone.
pub struct Calls<T>(Sender<Job<T>>);

impl<T> Clone for Calls<T> {
    fn clone(&self) -> Self {
        Calls(self.0.clone())
    }
}

/// A pair: the callers' end, and the owner's, which must do each job it is given.
pub fn calls<T>() -> (Calls<T>, Receiver<Job<T>>) {
    let (sender, receiver) = bounded(WAITING);
    (Calls(sender), receiver)
}

impl<T> Calls<T> {
    /// Has the owner do `job` and waits for what comes of it, ten seconds at most. A refusal is
    /// `busy`: the owner is stuck, ending, or has more to do than it can.
    pub fn ask<A: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> A + Send + 'static,
    ) -> Result<A, Refusal> {
        self.ask_within(job, PATIENCE)
    }

    fn ask_within<A: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> A + Send + 'static,
        patience: Duration,
    ) -> Result<A, Refusal> {
        let refusal = |stuck: bool| match stuck {
            true => Refusal::new(
                Code::Busy,
                format_args!("the daemon's main loop did not answer within {patience:?}"),
            ),
            false => Refusal::new(Code::Busy, "the daemon is stopping"),
        };
        let (reply, answer) = bounded(1);
        let job: Job<T> = Box::new(move |owned| {
            if reply.send(job(owned)).is_err() {
                log::debug!("a caller has given up");
            }
        });
        self.0
            .send_timeout(job, patience)
            .map_err(|error| refusal(error.is_timeout()))?;
        answer
            .recv_timeout(patience)
            .map_err(|error| refusal(error.is_timeout()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_stuck_or_gone_is_told_of() {
        let (calls, owner) = calls::<u32>();
        let told = calls
            .ask_within(|n: &mut u32| *n, Duration::from_millis(10))
            .unwrap_err();
        assert_eq!(told.code, Code::Busy);
        assert!(told.message.contains("did not answer within 10ms"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut owned = 1;
                for _ in 0..2 {
                    // The first caller has given up.
                    owner.recv().unwrap()(&mut owned);
                }
            });
            let answer = calls.ask(|n| {
                *n += 1;
                *n
            });
            assert_eq!(answer, Ok(2));
        });
        drop(owner);
        let told = calls.ask(|n| *n).unwrap_err();
        assert!(told.message.contains("stopping"), "{told}");
    }
}
