//! Which topics the agent follows, and for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::follower::Shared;
use crate::dispatch::Hub;
use crate::event::SEND_ALL;
use crate::handler::TopicRequests;
use crate::handler::topics::{TopicDesk, TopicRequest};
use crate::pubsub::{PubSubError, SubscriberApi};
use crate::util::printable;

/// The requester that stands for operator and configuration. No handler can be called that.
pub const OPERATOR: &str = "(operator)";

/// Topics that one requester may follow. Each is looked at for each message.
const MAX_TOPICS: usize = 10_000;

/// Longest list of names in the log, bytes.
const MAX_NAMES: usize = 1024;

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

    /// `requesters` want nothing any more; gives the topics that nobody else wants.
    pub fn forget(&mut self, requesters: &[&str]) -> Vec<String> {
        let mut last = Vec::new();
        self.topics.retain(|topic, users| {
            users.retain(|user| !requesters.contains(&user.as_str()));
            let stays = !users.is_empty();
            last.extend((!stays).then(|| topic.clone()));
            stays
        });
        last
    }

    fn count(&self, requester: &str) -> usize {
        let users = self.topics.values();
        users.filter(|users| users.contains(requester)).count()
    }
}

/// Keeps subscriber and hub in step with [`Uses`].
#[derive(Default)]
pub(super) struct Topics {
    uses: Uses,
    desk: TopicDesk,
    followed: Option<Arc<Shared>>,
}

impl Topics {
    /// A handle for the handler called `name`.
    pub fn requests(&self, name: &str) -> TopicRequests {
        self.desk.requests(name)
    }

    /// Where it is kept how far topics were followed.
    pub fn follow(&mut self, followed: &Arc<Shared>) {
        self.followed = Some(Arc::clone(followed));
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

    /// `requester` wants these no longer; says how many of them it wanted.
    pub fn remove(
        &mut self,
        requester: &str,
        topics: &[String],
        subscriber: &mut dyn SubscriberApi,
        hub: &Hub,
    ) -> usize {
        let (mut wanted, mut last) = (0, Vec::new());
        for topic in topics {
            if let Some(is_last) = self.uses.remove(requester, topic) {
                wanted += 1;
                last.extend(is_last.then(|| topic.clone()));
            }
        }
        self.unfollow(&last, subscriber, hub);
        wanted
    }

    /// Nobody wants these any more. All rows are looked at, so that they go together.
    fn unfollow(&mut self, topics: &[String], subscriber: &mut dyn SubscriberApi, hub: &Hub) {
        if topics.is_empty() {
            return;
        }
        for topic in topics {
            // Before readers are told, and before the rows go.
            if let Some(followed) = &self.followed {
                followed.forget(topic);
            }
            subscriber.unregister_topic(topic);
        }
        let rows = hub.drop_topics(topics);
        match topics {
            [topic] => log::info!("topic {topic:?} is no longer followed: {rows} rows are gone"),
            topics => log::info!(
                "{} topics are no longer followed, {rows} rows are gone: {}",
                topics.len(),
                printable::text(&topics.join(", "), MAX_NAMES)
            ),
        }
    }

    /// These requesters want nothing any more.
    pub fn forget(&mut self, requesters: &[&str], subscriber: &mut dyn SubscriberApi, hub: &Hub) {
        // What they asked for and nobody has seen to yet.
        self.serve(subscriber, hub);
        let last = self.uses.forget(requesters);
        self.unfollow(&last, subscriber, hub);
    }

    pub fn serve(&mut self, subscriber: &mut dyn SubscriberApi, hub: &Hub) {
        let mut last = Vec::new();
        // What is not wanted comes last: nothing of it is added again here.
        for request in self.desk.take() {
            let TopicRequest {
                requester,
                topic,
                wanted,
            } = &request;
            if !wanted {
                let is_last = self.uses.remove(requester, topic) == Some(true);
                last.extend(is_last.then(|| topic.clone()));
            } else if self.uses.count(requester) >= MAX_TOPICS {
                log::error!(
                    "handler {requester} wants more than {MAX_TOPICS} topics: {topic:?} is not followed"
                );
            } else if let Err(error) = self.add(requester, topic, subscriber, hub) {
                log::error!("handler {requester} wants topic {topic:?}: {error}");
            }
        }
        self.unfollow(&last, subscriber, hub);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::event::Event;
    use crate::pubsub::driver::memory::MemoryNetwork;
    use crate::pubsub::{PubSubApi, SubscriberOptions};

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
        for (requester, topic) in [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "z")] {
            uses.add(requester, topic);
        }
        assert_eq!(uses.forget(&["a", "b"]), ["x", "y"]);
        assert_eq!(uses.topics.len(), 1);
    }

    /// The main loop waits for it.
    #[test]
    fn many_topics_go_in_one_walk_over_the_rows() {
        const TOPICS: usize = 2000;
        let (hub, mut topics) = (Hub::new(), Topics::default());
        let mut subscriber = MemoryNetwork::new()
            .subscriber(&SubscriberOptions::default())
            .unwrap();
        let asks = topics.requests("h");
        let names: Vec<String> = (0..TOPICS).map(|number| format!("t{number}")).collect();
        for name in &names {
            asks.register(name).unwrap();
        }
        topics.serve(subscriber.as_mut(), &hub);
        topics
            .add(OPERATOR, "mine", subscriber.as_mut(), &hub)
            .unwrap();
        topics.add("h", "mine", subscriber.as_mut(), &hub).unwrap();
        assert_eq!(topics.list().len(), TOPICS + 1);
        let keys: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let rows = keys.iter().enumerate().map(|(number, key)| {
            let topic = names.get(number % (2 * TOPICS));
            Event::set("t", key, "1").on(topic.map_or("mine", String::as_str))
        });
        hub.publish(rows.collect());
        let start = Instant::now();
        let removed = topics.remove("h", &["t0".into()], subscriber.as_mut(), &hub);
        assert_eq!(removed, 1);
        let one = start.elapsed();
        asks.unregister("t1").unwrap();
        asks.unregister("t2").unwrap();
        topics.serve(subscriber.as_mut(), &hub);
        assert_eq!(hub.metrics.rows_dropped_total.get(), 75);
        let start = Instant::now();
        topics.forget(&["h"], subscriber.as_mut(), &hub);
        let all = start.elapsed();
        assert_eq!(hub.metrics.rows_dropped_total.get(), 50_000);
        assert_eq!(hub.with_replica(|replica| replica.len()), 50_000);
        assert_eq!(topics.list(), [("mine".into(), vec![OPERATOR.into()])]);
        let most = one * 200 + Duration::from_secs(1);
        assert!(all < most, "one takes {one:?}, {TOPICS} take {all:?}");
    }
}
