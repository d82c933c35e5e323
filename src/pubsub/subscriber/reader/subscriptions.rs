//! What is subscribed to: at a new link, and while it is open.

use std::time::Instant;

use super::Reader;
use crate::event::topic::{self, HELLO};
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::link::Link;

impl Reader {
    pub(super) fn open(&mut self) {
        self.target = self.names.target();
        self.legacy_subscriptions = !self.session.is_fanfare();
        let opened = self
            .parts
            .transport
            .open(&self.target, &self.parts.source.uri)
            .and_then(|mut link| {
                link.subscribe(&terminated(HELLO))?;
                for topic in &self.parts.topics {
                    link.subscribe(&terminated(topic))?;
                    if self.legacy_subscriptions {
                        link.subscribe(topic.as_bytes())?;
                    }
                }
                Ok(link)
            });
        match opened {
            Ok(link) => self.link = Some(link),
            Err(error) => self.link_broke(&error),
        }
    }

    pub(super) fn subscribe(&mut self, topic: String) {
        // First: after a panic all that is noted is subscribed to by the new link.
        self.parts.topics.push(topic.clone());
        self.intake.add_topic(&topic);
        self.parts.follow.topic(&topic, true, Instant::now());
        let legacy = self.legacy_subscriptions;
        self.with_link(|link| {
            link.subscribe(&terminated(&topic))?;
            if legacy {
                link.subscribe(topic.as_bytes())
            } else {
                Ok(())
            }
        });
    }

    pub(super) fn unsubscribe(&mut self, topic: &str) {
        self.intake.remove_topic(topic);
        self.parts.follow.topic(topic, false, Instant::now());
        self.parts.topics.retain(|known| known != topic);
        let legacy = self.legacy_subscriptions;
        self.with_link(|link| {
            link.unsubscribe(&terminated(topic))?;
            if legacy {
                link.unsubscribe(topic.as_bytes())
            } else {
                Ok(())
            }
        });
    }

    /// Once more, for the publisher says no hello.
    pub(super) fn subscribe_to_hellos(&mut self) {
        self.with_link(|link| {
            link.unsubscribe(&terminated(HELLO))?;
            link.subscribe(&terminated(HELLO))
        });
    }

    pub(super) fn drop_legacy_subscriptions(&mut self) {
        if std::mem::take(&mut self.legacy_subscriptions) {
            let topics = self.parts.topics.clone();
            self.with_link(|link| {
                topics
                    .iter()
                    .try_for_each(|t| link.unsubscribe(t.as_bytes()))
            });
        }
    }

    fn with_link(&mut self, act: impl FnOnce(&mut dyn Link) -> Result<(), PubSubError>) {
        if let Some(link) = &mut self.link
            && let Err(error) = act(link.as_mut())
        {
            self.link_broke(&error);
        }
    }
}

/// A topic as a subscription to Fanfare publishers names it.
fn terminated(name: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(name.len() + 1);
    topic::write_frame(name, &mut frame);
    frame
}
