//! Calls from clients' threads to the thread that owns what they ask about.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::reply::{Code, Refusal};

/// Calls that may wait for the owner.
const WAITING: usize = 32;

/// How long the owner may take. It may be stopping readers or handlers, which takes a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// One question and where its answer goes.
type Call<Q, A> = (Q, Sender<A>);

/// The callers' end. Cheap to clone.
#[derive(Debug)]
pub struct Calls<Q, A>(Sender<Call<Q, A>>);

impl<Q, A> Clone for Calls<Q, A> {
    fn clone(&self) -> Self {
        Calls(self.0.clone())
    }
}

/// A pair: the callers' end, and the owner's, which must send an answer to each.
pub fn call<Q, A>() -> (Calls<Q, A>, Receiver<Call<Q, A>>) {
    let (sender, receiver) = bounded(WAITING);
    (Calls(sender), receiver)
}

impl<Q, A> Calls<Q, A> {
    /// Asks and waits, ten seconds at most for each of the two. A refusal is `busy`: the owner is
    /// stuck, ending, or has more to do than it can.
    pub fn ask(&self, question: Q) -> Result<A, Refusal> {
        self.ask_within(question, PATIENCE)
    }

    fn ask_within(&self, question: Q, patience: Duration) -> Result<A, Refusal> {
        let stuck = || {
            Refusal::new(
                Code::Busy,
                format_args!("the daemon's main loop did not answer within {patience:?}"),
            )
        };
        let (reply, answer) = bounded(1);
        self.0
            .send_timeout((question, reply), patience)
            .map_err(|_| stuck())?;
        answer.recv_timeout(patience).map_err(|error| {
            if error.is_disconnected() {
                Refusal::new(Code::Busy, "the daemon is stopping")
            } else {
                stuck()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_stuck_or_gone_is_told_of() {
        let (calls, owner) = call::<u32, u32>();
        let told = calls.ask_within(1, Duration::from_millis(10)).unwrap_err();
        assert_eq!(told.code, Code::Busy);
        assert!(told.message.contains("did not answer within 10ms"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    let (question, reply) = owner.recv().unwrap();
                    // The first caller has given up.
                    let _ = reply.send(question + 1);
                }
            });
            assert_eq!(calls.ask(2), Ok(3));
        });
        drop(owner);
        assert_eq!(calls.ask(1).unwrap_err().code, Code::Busy);
    }
}
