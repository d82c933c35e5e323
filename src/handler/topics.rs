//! Topics that handlers ask for while they run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::event::topic::{self, TopicError};

/// Requests that may wait for the agent, of all handlers together. Those that change their mind
/// about a topic take one place.
const MAX_WAITING: usize = 16_384;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicRequestError {
    /// There is no such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Too many requests wait for the agent; trying again later may help.
    #[error("{MAX_WAITING} requests for topics wait already")]
    Busy,
}

/// Who asks, and for which topic.
type Key = (Arc<str>, String);

/// Where requests wait: only the last of each requester for each topic counts, so that what waits
/// is bounded by the topics and no request needs to be waited for.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<Key, bool>>);

/// By this a handler adds and removes topics. What it asked for outlives its restarts: it counts
/// as one requester for as long as the agent runs.
#[derive(Debug, Clone)]
pub struct TopicRequests {
    requester: Arc<str>,
    waiting: Arc<Waiting>,
    bell: Option<Sender<()>>,
}

impl TopicRequests {
    /// Requests that nobody serves, for a handler without an agent.
    pub fn unserved() -> Self {
        TopicRequests {
            requester: "".into(),
            waiting: Arc::default(),
            bell: None,
        }
    }

    /// Asks for `topic`: its events come from a moment later on. Never waits.
    pub fn register(&self, topic: &str) -> Result<(), TopicRequestError> {
        self.ask(topic, true)
    }

    /// Asks for `topic` no longer: when nobody else does, its rows go. Never waits.
    pub fn unregister(&self, topic: &str) -> Result<(), TopicRequestError> {
        self.ask(topic, false)
    }

    fn ask(&self, topic: &str, wanted: bool) -> Result<(), TopicRequestError> {
        topic::check(topic)?;
        let Some(bell) = &self.bell else {
            return Ok(());
        };
        let key = (Arc::clone(&self.requester), topic.to_owned());
        {
            let mut waiting = self
                .waiting
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= MAX_WAITING && !waiting.contains_key(&key) {
                return Err(TopicRequestError::Busy);
            }
            waiting.insert(key, wanted);
        }
        match bell.try_send(()) {
            // A bell that rings already is answered after this request was put down.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => log::debug!("the agent has ended"),
        }
        Ok(())
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest {
    /// The handler's name.
    pub requester: Arc<str>,
    /// The topic, which is one.
    pub topic: String,
    /// Whether it is wanted.
    pub wanted: bool,
}

/// The agent's side.
#[derive(Debug)]
pub struct TopicDesk {
    waiting: Arc<Waiting>,
    bell: Sender<()>,
    rings: Receiver<()>,
}

impl Default for TopicDesk {
    fn default() -> Self {
        let (bell, rings) = bounded(1);
        TopicDesk {
            waiting: Arc::default(),
            bell,
            rings,
        }
    }
}

impl TopicDesk {
    /// A handle for the handler called `requester`.
    pub fn requests(&self, requester: &str) -> TopicRequests {
        TopicRequests {
            requester: requester.into(),
            waiting: Arc::clone(&self.waiting),
            bell: Some(self.bell.clone()),
        }
    }

    /// Rings when requests wait.
    pub fn bell(&self) -> &Receiver<()> {
        &self.rings
    }

    /// The requests that wait: added topics first, so that one that changes hands is never dropped.
    pub fn take(&self) -> Vec<TopicRequest> {
        let mut waiting = self
            .waiting
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut requests: Vec<TopicRequest> = waiting
            .drain()
            .map(|((requester, topic), wanted)| TopicRequest {
                requester,
                topic,
                wanted,
            })
            .collect();
        requests.sort_by_key(|request| !request.wanted);
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_additions_come_first() {
        let desk = TopicDesk::default();
        let (a, b) = (desk.requests("a"), desk.requests("b"));
        a.register("x").unwrap();
        a.unregister("x").unwrap();
        b.register("y").unwrap();
        assert_eq!(desk.bell().try_iter().count(), 1);
        let request = |requester: &str, topic: &str, wanted| TopicRequest {
            requester: requester.into(),
            topic: topic.into(),
            wanted,
        };
        assert_eq!(
            desk.take(),
            [request("b", "y", true), request("a", "x", false)]
        );
        assert!(desk.take().is_empty());
        b.unregister("y").unwrap();
        assert_eq!(desk.bell().try_iter().count(), 1, "it rings again");
    }

    #[test]
    fn what_waits_is_bounded() {
        let desk = TopicDesk::default();
        let requests = desk.requests("a");
        for number in 0..MAX_WAITING {
            requests.register(&number.to_string()).unwrap();
        }
        assert_eq!(requests.register("more"), Err(TopicRequestError::Busy));
        assert_eq!(requests.unregister("7"), Ok(()));
        assert!(matches!(
            requests.register(""),
            Err(TopicRequestError::Topic(_))
        ));
        assert_eq!(TopicRequests::unserved().register("x"), Ok(()));
    }
}
