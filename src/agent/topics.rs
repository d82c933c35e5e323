//! Which topics the agent follows, and for whom.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_channel::Receiver;

use crate::dispatch::Hub;
use crate::event::SEND_ALL;
use crate::handler::TopicRequests;
use crate::handler::topics::{TopicDesk, TopicRequest};
use crate::pubsub::{PubSubError, SubscriberApi};

/// The requester that stands for operator and configuration. No handler can be called that.
pub const OPERATOR: &str = "(operator)";

/// Topics that one requester may follow. Each is looked at for each message.
const MAX_TOPICS: usize = 10_000;

/// Who wants which topic.
#[derive(Debug, Default)]
pub struct Uses {
    topics: BTreeMap<String, BTreeSet<String>>,
}

impl Uses {
    /// `requester` wants `topic`; `None` when it did so before, otherwise whether it is the first.
    pub fn add(&mut self, requester: &str, topic: &str) -> Option<bool> {
        let users = self.topics.entry(topic.into()).or_default();
        let first = users.is_empty();
        users.insert(requester.into()).then_some(first)
    }

    /// `requester` wants `topic` no longer; `None` when it did not, otherwise whether it was the
    /// last.
    pub fn remove(&mut self, requester: &str, topic: &str) -> Option<bool> {
        let users = self.topics.get_mut(topic)?;
        let removed = users.remove(requester);
        let last = users.is_empty();
        if last {
            self.topics.remove(topic);
        }
        removed.then_some(last)
    }

    fn count(&self, requester: &str) -> usize {
        let users = self.topics.values();
        users.filter(|users| users.contains(requester)).count()
    }
}

/// Keeps subscriber and hub in step with [`Uses`].
#[derive(Debug, Default)]
pub(super) struct Topics {
    uses: Uses,
    desk: TopicDesk,
}

impl Topics {
    /// A handle for the handler called `name`.
    pub fn requests(&self, name: &str) -> TopicRequests {
        self.desk.requests(name)
    }

    pub fn bell(&self) -> Receiver<()> {
        self.desk.bell().clone()
    }

    pub fn list(&self) -> Vec<(String, Vec<String>)> {
        let topics = self.uses.topics.iter();
        topics
            .map(|(topic, users)| (topic.clone(), users.iter().cloned().collect()))
            .collect()
    }

    pub fn add(
        &mut self,
        requester: &str,
        topic: &str,
        subscriber: &mut dyn SubscriberApi,
        hub: &Hub,
    ) -> Result<bool, PubSubError> {
        if topic == SEND_ALL {
            return Ok(false);
        }
        let Some(first) = self.uses.add(requester, topic) else {
            return Ok(false);
        };
        if first {
            // Before its events can come.
            hub.want_topic(topic);
            if let Err(error) = subscriber.register_topic(topic) {
                self.uses.remove(requester, topic);
                return Err(error);
            }
        }
        Ok(true)
    }

    pub fn remove(
        &mut self,
        requester: &str,
        topic: &str,
        subscriber: &mut dyn SubscriberApi,
        hub: &Hub,
    ) -> bool {
        let Some(last) = self.uses.remove(requester, topic) else {
            return false;
        };
        if last {
            subscriber.unregister_topic(topic);
            let rows = hub.drop_topic(topic);
            log::info!("topic {topic:?} is no longer followed: {rows} rows are gone");
        }
        true
    }

    /// `requester` wants nothing any more.
    pub fn forget(&mut self, requester: &str, subscriber: &mut dyn SubscriberApi, hub: &Hub) {
        // What it asked for and nobody has seen to yet.
        self.serve(subscriber, hub);
        let topics = self.uses.topics.iter();
        let wanted = topics.filter(|(_, users)| users.contains(requester));
        let wanted: Vec<String> = wanted.map(|(topic, _)| topic.clone()).collect();
        for topic in wanted {
            self.remove(requester, &topic, subscriber, hub);
        }
    }

    pub fn serve(&mut self, subscriber: &mut dyn SubscriberApi, hub: &Hub) {
        for request in self.desk.take() {
            let TopicRequest {
                requester,
                topic,
                wanted,
            } = &request;
            if !wanted {
                self.remove(requester, topic, subscriber, hub);
            } else if self.uses.count(requester) >= MAX_TOPICS {
                log::error!(
                    "handler {requester} wants more than {MAX_TOPICS} topics: {topic:?} is not followed"
                );
            } else if let Err(error) = self.add(requester, topic, subscriber, hub) {
                log::error!("handler {requester} wants topic {topic:?}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_stays_while_anybody_wants_it() {
        let mut uses = Uses::default();
        assert_eq!(uses.add("a", "x"), Some(true));
        assert_eq!(uses.add("a", "x"), None, "one requester counts once");
        assert_eq!(uses.add("b", "x"), Some(false));
        assert_eq!(uses.remove("a", "x"), Some(false));
        assert_eq!(uses.remove("a", "x"), None);
        assert_eq!(uses.remove("b", "x"), Some(true));
        assert_eq!(uses.remove("b", "x"), None);
        assert!(uses.topics.is_empty());
    }
}
