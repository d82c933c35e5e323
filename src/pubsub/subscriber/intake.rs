//! From messages to batches of events: the hot path of a reader.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::link::{Link, Received};
use crate::event::codec::{self, Malformed};
use crate::event::hello::Hello;
use crate::event::{Action, Event, EventBatch, TopicFrame, topic};
use crate::pubsub::api::{PubSubError, Source, SubscriberOptions};
use crate::util::printable;
use crate::util::rate::RateLimit;

/// What one round of receiving brought.
#[derive(Debug, Default)]
pub struct Round {
    /// Events in their order; may be empty although something was heard.
    pub events: EventBatch,
    /// Whether any message came, good or not.
    pub heard: bool,
    /// The hello that came after the events; a round ends with it.
    pub hello: Option<Box<Hello>>,
    /// Whether nothing was left waiting.
    pub drained: bool,
}

/// Decodes, filters, counts.
#[derive(Debug)]
pub struct Intake {
    /// Whether only what is in `topics` is handed on.
    selective: bool,
    topics: HashSet<Vec<u8>>,
    /// The topic of the last event: events of one topic come in runs.
    last_topic: Vec<u8>,
    batch_events: usize,
    batch_bytes: usize,
    max_message_size: usize,
    /// Sizes of the last batch, the best guess for the next one.
    last_events: usize,
    last_bytes: usize,
    complaints: RateLimit,
}

/// Complaints about one publisher's messages per [`COMPLAINT_INTERVAL`].
const COMPLAINTS: u32 = 5;
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Foreign names in complaints are cut to this many bytes.
const EXCERPT: usize = 64;

impl Intake {
    pub fn new(options: &SubscriberOptions, selective: bool) -> Self {
        Intake {
            selective,
            topics: HashSet::new(),
            last_topic: Vec::new(),
            batch_events: options.batch_events,
            batch_bytes: options.batch_bytes,
            max_message_size: options.max_message_size,
            last_events: 0,
            last_bytes: 0,
            complaints: RateLimit::new(COMPLAINTS, COMPLAINT_INTERVAL),
        }
    }

    pub fn add_topic(&mut self, topic: &str) {
        self.topics.insert(topic.as_bytes().to_vec());
    }

    pub fn remove_topic(&mut self, topic: &str) {
        self.topics.remove(topic.as_bytes());
        self.last_topic.clear();
    }

    /// Takes what is waiting, at most a batch.
    pub fn receive(&mut self, link: &mut dyn Link, source: &Source) -> Result<Round, PubSubError> {
        let mut round = Round {
            events: EventBatch::with_capacity(self.last_events, self.last_bytes),
            ..Round::default()
        };
        let (mut bytes, mut messages) = (0, 0);
        // Messages that end up in no batch count too: a flood of them must not keep the reader
        // from its commands.
        while messages < self.batch_events && bytes < self.batch_bytes && round.hello.is_none() {
            let (frame, payload) = match link.receive()? {
                Received::Nothing => {
                    round.drained = true;
                    break;
                }
                Received::Malformed(why) => {
                    messages += 1;
                    self.complain(source, why, &[]);
                    continue;
                }
                Received::Message { topic, payload } => (topic, payload),
            };
            messages += 1;
            bytes += frame.len() + payload.len();
            self.take(source, frame, payload, &mut round);
        }
        round.heard = messages > 0;
        if !round.events.is_empty() {
            self.last_events = round.events.len();
            self.last_bytes = round.events.text_len();
            source
                .metrics
                .events_received_total
                .add(round.events.len() as u64);
        }
        source.metrics.bytes_received_total.add(bytes as u64);
        Ok(round)
    }

    fn is_subscribed(&mut self, topic: &[u8]) -> bool {
        if !self.selective || topic == self.last_topic {
            return true;
        }
        let subscribed = self.topics.contains(topic);
        if subscribed {
            self.last_topic.clear();
            self.last_topic.extend_from_slice(topic);
        }
        subscribed
    }

    fn take(&mut self, source: &Source, frame: &[u8], payload: &[u8], round: &mut Round) {
        let topic = TopicFrame::parse(frame).topic;
        if topic == topic::HELLO.as_bytes() {
            match Hello::decode(payload) {
                Ok(hello) => round.hello = Some(Box::new(hello)),
                Err(why) => self.complain(source, Malformed::Hello(why), payload),
            }
        } else if frame.is_empty() {
            self.complain(source, Malformed::EmptyFrame("topic"), payload);
        } else if !self.is_subscribed(topic) {
            source.metrics.events_foreign_total.inc();
        } else if frame.len() + payload.len() > self.max_message_size {
            self.complain(source, Malformed::TooLarge, payload);
        } else {
            match codec::decode(payload) {
                Ok(event) if is_row(&event) => {
                    round.events.push(&event);
                }
                Ok(event) => self.not_a_row(source, &event),
                Err(why) => self.complain(source, why, payload),
            }
        }
    }

    #[cold]
    fn complain(&self, source: &Source, why: Malformed, payload: &[u8]) {
        source.metrics.messages_malformed_total.inc();
        source.malformed[why.index()].inc();
        if let Some(permit) = self.complaints.permit(Instant::now()) {
            log::warn!(
                "{}: malformed message of {} bytes dropped: {why}{permit}",
                source.uri,
                payload.len()
            );
        }
    }

    #[cold]
    fn not_a_row(&self, source: &Source, event: &Event<'_>) {
        source.metrics.events_not_a_row_total.inc();
        if let Some(permit) = self.complaints.permit(Instant::now()) {
            log::warn!(
                "{}: event dropped, it changes no row: table {}, key {}, action {}{permit}",
                source.uri,
                printable::name(event.table, EXCERPT),
                printable::name(event.key, EXCERPT),
                printable::name(event.action.as_str(), EXCERPT),
            );
        }
    }
}

fn is_row(event: &Event<'_>) -> bool {
    !event.table.is_empty()
        && !event.key.is_empty()
        && !matches!(event.action, Action::Other(_))
        && topic::check(event.topic_or_all()).is_ok()
}
