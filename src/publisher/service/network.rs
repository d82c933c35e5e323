//! The network side: events, hellos, and who subscribes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::ServiceMetrics;
use crate::event::hello::{Hello, MAX_RECENT, topic_hash};
use crate::event::topic::{HELLO, TopicFrame};
use crate::publisher::audience::Audience;
use crate::publisher::heartbeat::Heartbeat;
use crate::publisher::history::{History, Moment, RecordBuf};
use crate::pubsub::PublisherApi;
use crate::util::rate::RateLimit;

/// What the service's thread says to the agents, and hears of them.
pub(super) struct Network {
    publisher: Box<dyn PublisherApi>,
    sync_endpoint: String,
    heartbeat: Heartbeat,
    /// Topics sent to since the last hello, and their last seq.
    recent: HashMap<u64, u64>,
    /// The head as of the last hello.
    said: Option<u64>,
    payload: Vec<u8>,
    metrics: Arc<ServiceMetrics>,
    audience: Arc<Audience>,
    complaints: RateLimit,
}

impl Network {
    pub(super) fn new(
        publisher: Box<dyn PublisherApi>,
        sync_endpoint: String,
        heartbeat: Heartbeat,
        metrics: Arc<ServiceMetrics>,
        audience: Arc<Audience>,
        complaints: RateLimit,
    ) -> Self {
        Network {
            publisher,
            sync_endpoint,
            heartbeat,
            recent: HashMap::new(),
            said: None,
            payload: Vec::new(),
            metrics,
            audience,
            complaints,
        }
    }

    /// When there is something to say next.
    pub(super) fn due(&self) -> Instant {
        self.heartbeat.due()
    }

    /// Sends what was journalled.
    pub(super) fn send(&mut self, records: &RecordBuf, now: Instant) {
        if records.is_empty() {
            return;
        }
        let mut sent = 0;
        for record in records.iter() {
            self.note(topic_hash(record.topic), record.stamp.seq);
            match self.publisher.send_payload(record.topic, record.payload) {
                Ok(()) => sent += 1,
                // It is journalled: agents find it missing by the hello and ask for it.
                Err(error) => {
                    self.metrics.sends_failed_total.inc();
                    if let Some(permit) = self.complaints.permit(now) {
                        log::error!("{error}{permit}");
                    }
                }
            }
        }
        self.metrics.events_published_total.add(sent);
        self.heartbeat.sent_events(now);
    }

    /// Notes that a topic has moved. One more than a hello lists shows that there were more.
    fn note(&mut self, topic: u64, seq: u64) {
        if self.recent.len() <= MAX_RECENT || self.recent.contains_key(&topic) {
            self.recent.insert(topic, seq);
        }
    }

    /// Sees who came and went, and says hello when it is due.
    pub(super) fn tick(&mut self, history: &History, now: Instant) {
        self.see_subscriptions(now);
        if now >= self.heartbeat.due() {
            self.hello(history, now);
        }
    }

    fn see_subscriptions(&mut self, now: Instant) {
        let (metrics, heartbeat) = (&self.metrics, &mut self.heartbeat);
        let audience = &self.audience;
        let seen = self.publisher.subscriptions(&mut |prefix, added| {
            audience.note(prefix, added);
            let count = metrics.subscriptions.get();
            metrics.subscriptions.set(if added {
                count + 1
            } else {
                count.saturating_sub(1)
            });
            if added && TopicFrame::parse(prefix).topic == HELLO.as_bytes() {
                metrics.joins_total.inc();
                heartbeat.joined(now);
            }
        });
        if let Err(error) = seen
            && let Some(permit) = self.complaints.permit(now)
        {
            log::error!("{error}{permit}");
        }
    }

    /// Says hello.
    pub(super) fn hello(&mut self, history: &History, now: Instant) {
        let overflow = self.recent.len() > MAX_RECENT;
        let hello = Hello {
            publisher: history.id(),
            incarnation: history.incarnation(),
            head: history.head(),
            floor: history.floor(),
            unix_micros: Moment::now().unix_micros,
            // At first: what moved before this life of the process is not listed.
            since: self.said.replace(history.head()).unwrap_or(history.head()),
            sync_endpoint: self.sync_endpoint.clone(),
            authoritative: history.complete_since() == 0,
            recent: self.recent.drain().take(MAX_RECENT).collect(),
            overflow,
        };
        hello.encode(&mut self.payload);
        match self.publisher.send_payload(HELLO, &self.payload) {
            Ok(()) => self.metrics.hellos_total.inc(),
            Err(error) => {
                if let Some(permit) = self.complaints.permit(now) {
                    log::error!("hello not sent: {error}{permit}");
                }
            }
        }
        self.heartbeat.said(now);
    }

    /// Closes the socket; what was sent is given its `linger` to leave.
    pub(super) fn close(&mut self) {
        self.publisher.close();
    }
}
