//! Events that share one commit, and whom to answer.

use std::collections::HashMap;

use super::history::{Outcome, Submission};
use super::requests::{ReplyTo, Submitted};
use super::submit::{Code, Producer, Refusal, Reply, hole};
use super::version::VersionField;
use crate::event::{Event, EventBatch, SEND_ALL, topic};

/// Events of one origin.
struct Batch {
    events: EventBatch,
    /// Whom to answer; workers that push and monitors expect none.
    client: Option<Client>,
}

struct Client {
    producer: Producer,
    first: u64,
    versions: Vec<Option<u64>>,
    reply: ReplyTo,
}

/// How events become submissions.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Where a writer's own version stands in a JSON value.
    pub version_field: Option<VersionField>,
    /// Whether an event goes to its own topic, or every event to [`SEND_ALL`].
    pub selective: bool,
}

/// The events taken since the last commit.
#[derive(Default)]
pub struct Group {
    batches: Vec<Batch>,
    events: usize,
    bytes: usize,
    /// The last number of each producer in it.
    last: HashMap<Producer, u64>,
}

impl Group {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Text of all events, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds events of which nobody awaits an answer.
    pub fn push(&mut self, events: EventBatch) {
        self.add(Batch {
            events,
            client: None,
        });
    }

    /// Adds events whose client awaits an answer, unless some before them are missing: then it is
    /// told where to go on. `last` is the producer's last number in the journal.
    pub fn submit(&mut self, submitted: Submitted, last: Option<u64>) {
        let Submitted {
            producer,
            floor,
            first,
            events,
            versions,
            reply,
        } = submitted;
        let last = self.last.get(&producer).copied().or(last);
        if let Some(number) = hole(last, floor, first) {
            reply.send(Reply::Expect { number });
            return;
        }
        let end = first + (events.len() as u64).saturating_sub(1);
        self.last
            .insert(producer, last.map_or(end, |last| last.max(end)));
        let client = Some(Client {
            producer,
            first,
            versions,
            reply,
        });
        self.add(Batch { events, client });
    }

    fn add(&mut self, batch: Batch) {
        self.events += batch.events.len();
        self.bytes += batch.events.bytes();
        self.batches.push(batch);
    }

    /// The submissions in order. An event that no one could be sent is left out, and
    /// [`Group::answer`] knows of it.
    pub fn submissions(&self, rules: &Rules) -> Vec<Submission<'_>> {
        let mut submissions = Vec::with_capacity(self.events);
        for batch in &self.batches {
            for (place, event) in batch.events.iter().enumerate() {
                if !can_be_published(&event) {
                    continue;
                }
                let own = || rules.version_field.as_ref()?.of(event.value?);
                let client = batch.client.as_ref();
                let given = client.and_then(|client| *client.versions.get(place)?);
                let topic = if rules.selective {
                    event.topic_or_all()
                } else {
                    SEND_ALL
                };
                submissions.push(Submission {
                    event: event.on(topic),
                    version: given.or_else(own),
                    producer: client.map(|client| (client.producer, client.first + place as u64)),
                });
            }
        }
        submissions
    }

    /// Answers all clients; `outcomes` are those of [`Group::submissions`]. Says how many events of
    /// others were left out for their topic.
    pub fn answer(self, outcomes: &[Outcome]) -> usize {
        let mut outcomes = outcomes.iter();
        let mut left_out = 0;
        for batch in self.batches {
            let mut refused = Vec::new();
            for (place, event) in batch.events.iter().enumerate() {
                if !can_be_published(&event) {
                    // The request socket adds the refusals of its own.
                    left_out += usize::from(batch.client.is_none());
                    continue;
                }
                if let (Some(Outcome::Older { known }), Some(client)) =
                    (outcomes.next(), &batch.client)
                {
                    refused.push(Refusal {
                        number: client.first + place as u64,
                        code: Code::Older,
                        reason: format!("version {known} is known"),
                    });
                }
            }
            if let Some(client) = batch.client {
                let upto = client.first + batch.events.len() as u64 - 1;
                client.reply.send(Reply::Accepted { upto, refused });
            }
        }
        left_out
    }

    /// Sends the clients away and keeps the others' events: those are nowhere else.
    pub fn dismiss_clients(&mut self, reply: impl Fn() -> Reply) {
        let batches = std::mem::take(&mut self.batches);
        *self = Group::default();
        for batch in batches {
            match batch.client {
                Some(client) => client.reply.send(reply()),
                None => self.add(batch),
            }
        }
    }
}

fn can_be_published(event: &Event<'_>) -> bool {
    !event.table.is_empty() && topic::check(event.topic_or_all()).is_ok()
}
