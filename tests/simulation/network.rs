//! What is between agents and publishers. The stream to a subscriber keeps its order, and loses
//! messages in runs, hellos among them; what is in flight is lost with the connection. Questions
//! and answers come in any order, late, twice or never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare::agent::recovery::{Input, Life};
use fanfare::event::hello::Hello;
use fanfare::event::{Event, EventBatch};
use fanfare::sync::{Answer, Request};

use crate::publisher::{MAX_IDLE_TIME, Sent, Write};
use crate::world::{Happening, World};

/// How bad it is: chances of 256.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub question_lost: u8,
    pub answer_lost: u8,
    pub answer_late: u8,
    pub answer_twice: u8,
    pub answer_damaged: u8,
}

/// A subscriber's connection to whatever is at its address.
#[derive(Debug, Default)]
pub struct Conn {
    /// Number of the connection: what was sent on an earlier one never arrives.
    pub epoch: u64,
    /// As the agent sees it.
    pub up: bool,
    pub again: bool,
    /// As the publisher sees it.
    pub peer: Option<usize>,
    pub topics: BTreeSet<&'static str>,
    pub hellos: bool,
    pub last_arrival: Duration,
    /// So many messages more are lost.
    pub losing: u32,
    pub heard: Duration,
    /// When the last hello came, or the connection was made.
    pub greeted: Duration,
    /// What the publisher was taken for, over all connections.
    pub nature: Nature,
    /// The connection before, while it is still read.
    pub late: Option<u64>,
}

/// What kind of publisher it is, as far as it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nature {
    #[default]
    Unknown,
    Legacy,
    Fanfare,
}

/// What comes on a connection.
#[derive(Debug, Clone)]
pub enum Message {
    Events(EventBatch),
    /// And the heads of all topics when it was said.
    Hello(Hello, Life, BTreeMap<&'static str, u64>),
    /// A hello that cannot be read.
    Garbled,
}

/// Time without a hello for which an agent gives a connection up.
const SILENCE: Duration = MAX_IDLE_TIME.saturating_mul(3);

/// Time without a hello after which a publisher is taken for one that says none.
const LEGACY_AFTER: Duration = MAX_IDLE_TIME.saturating_mul(2);

impl World {
    /// Whether nothing passes between the two.
    pub fn is_cut(&self, agent: usize, publisher: usize) -> bool {
        self.cuts
            .get(&(agent, publisher))
            .is_some_and(|until| self.now < *until)
    }

    pub fn delay(&mut self) -> Duration {
        let micros = match self.rng.u8(..) {
            0..8 => self.rng.u64(10_000..400_000),
            _ => self.rng.u64(200..10_000),
        };
        Duration::from_micros(micros)
    }

    /// Sends a group of events to all who subscribe to them.
    pub fn send_events(&mut self, publisher: usize, group: &[Sent]) {
        for (agent, slot) in self.subscribers(publisher) {
            let stray = self.chance(4);
            let forbidden = &self.forbidden;
            let conn = &mut self.agents[agent].followers[slot].conn;
            let mut batch = EventBatch::new();
            if stray {
                // A worker sent it around the service.
                self.counts.note("fault: stray event");
                batch.push(&Event::set("lport", "stray", "x").on("D"));
            }
            for sent in group.iter().filter(|sent| {
                let topic = sent.write.object.topic;
                conn.topics.contains(topic) && !forbidden.contains(&(agent, publisher, topic))
            }) {
                if conn.losing > 0 {
                    conn.losing -= 1;
                    self.counts.note("fault: messages lost in a run");
                } else {
                    batch.push(&sent.event());
                }
            }
            if !batch.is_empty() {
                self.send(agent, slot, Message::Events(batch));
            }
        }
    }

    /// What a legacy publisher sends.
    pub fn send_unstamped(&mut self, publisher: usize, group: &[Write]) {
        for (agent, slot) in self.subscribers(publisher) {
            let topics = &self.agents[agent].followers[slot].conn.topics;
            let mut batch = EventBatch::new();
            for write in group
                .iter()
                .filter(|write| topics.contains(write.object.topic))
            {
                let event = Event::set("lport", &write.object.key, "legacy");
                batch.push(&event.on(write.object.topic));
            }
            if !batch.is_empty() {
                self.send(agent, slot, Message::Events(batch));
            }
        }
    }

    pub fn send_hello(&mut self, publisher: usize) {
        let model = &mut self.publishers[publisher];
        let hello = model.hello(self.now);
        let message = match model.garbles {
            true => Message::Garbled,
            false => Message::Hello(hello.clone(), model.life(), model.disk.heads.clone()),
        };
        if hello.overflow {
            self.counts.note("fault: recent overflows");
        }
        for (agent, slot) in self.subscribers(publisher) {
            let conn = &mut self.agents[agent].followers[slot].conn;
            if !conn.hellos {
                continue;
            }
            if conn.losing > 0 {
                conn.losing -= 1;
                self.counts.note("fault: hello lost");
            } else {
                self.send(agent, slot, message.clone());
            }
        }
    }

    fn subscribers(&self, publisher: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (agent, model) in self.agents.iter().enumerate().filter(|(_, model)| model.up) {
            for (slot, follower) in model.followers.iter().enumerate() {
                if follower.conn.peer == Some(publisher) && !self.is_cut(agent, publisher) {
                    found.push((agent, slot));
                }
            }
        }
        found
    }

    pub fn send(&mut self, agent: usize, slot: usize, message: Message) {
        let delay = self.delay();
        let conn = &mut self.agents[agent].followers[slot].conn;
        conn.last_arrival = conn.last_arrival.max(self.now + delay);
        let (at, epoch) = (conn.last_arrival, conn.epoch);
        self.at(at, Happening::Heard(agent, slot, epoch, Box::new(message)));
    }

    pub fn heard(&mut self, agent: usize, slot: usize, epoch: u64, message: Message) {
        let up = self.agents[agent].up;
        let conn = &mut self.agents[agent].followers[slot].conn;
        let late = conn.late == Some(epoch);
        if !up || (conn.epoch != epoch && !late) {
            return;
        }
        if late {
            // It is read until the next one is made.
            self.counts.note("fault: heard after the end");
        } else {
            conn.heard = self.now;
        }
        match message {
            Message::Events(batch) => self.step(agent, slot, Input::Events(batch)),
            Message::Hello(hello, life, heads) => {
                if !late {
                    (conn.greeted, conn.nature) = (self.now, Nature::Fanfare);
                }
                self.agents[agent].followers[slot].promised = Some((life, heads));
                self.step(agent, slot, Input::Hello(hello));
            }
            Message::Garbled => self.counts.note("fault: hello not read"),
        }
    }

    /// Tries to connect; tries again if it cannot.
    pub fn connect(&mut self, agent: usize, slot: usize, epoch: u64) {
        let model = &self.agents[agent];
        if !model.up || model.followers[slot].conn.epoch != epoch {
            return;
        }
        let publisher = self.addresses[slot];
        if !self.publishers[publisher].up || self.is_cut(agent, publisher) {
            return self.connect_later(agent, slot);
        }
        let now = self.now;
        let conn = &mut self.agents[agent].followers[slot].conn;
        let again = std::mem::replace(&mut conn.again, true);
        (conn.up, conn.peer, conn.heard, conn.last_arrival) = (true, Some(publisher), now, now);
        (conn.losing, conn.greeted, conn.late) = (0, now, None);
        let (epoch, nature) = (conn.epoch, conn.nature);
        self.step(agent, slot, Input::Up { again });
        let topics = self.agents[agent].topics(slot).clone();
        for topic in topics {
            if self.chance(self.subscription_lost) {
                self.counts.note("fault: subscription lost");
            } else {
                self.subscribe(agent, slot, Some(topic), true);
            }
        }
        self.subscribe_to_hellos(agent, slot);
        self.at(now + MAX_IDLE_TIME, Happening::Silence(agent, slot, epoch));
        if nature != Nature::Fanfare {
            self.at(now + LEGACY_AFTER, Happening::Legacy(agent, slot, epoch));
        }
    }

    fn subscribe_to_hellos(&mut self, agent: usize, slot: usize) {
        if self.chance(self.subscription_lost) {
            self.counts.note("fault: subscription to hellos lost");
        } else {
            self.subscribe(agent, slot, None, true);
        }
    }

    /// No hello came for long: it is taken for legacy, and asked for hellos from time to time.
    pub fn legacy(&mut self, agent: usize, slot: usize, epoch: u64) {
        let model = &mut self.agents[agent];
        let conn = &mut model.followers[slot].conn;
        if !model.up || !conn.up || conn.epoch != epoch || conn.nature == Nature::Fanfare {
            return;
        }
        if std::mem::replace(&mut conn.nature, Nature::Legacy) == Nature::Unknown {
            self.counts.note("fault: taken for legacy");
            self.step(agent, slot, Input::Legacy);
        }
        self.subscribe_to_hellos(agent, slot);
        self.at(self.now + SILENCE, Happening::Legacy(agent, slot, epoch));
    }

    fn connect_later(&mut self, agent: usize, slot: usize) {
        let wait = Duration::from_millis(self.rng.u64(20..1000));
        let epoch = self.agents[agent].followers[slot].conn.epoch;
        self.at(self.now + wait, Happening::Connect(agent, slot, epoch));
    }

    /// The subscription, to a topic or to hellos, is on its way.
    pub fn subscribe(
        &mut self,
        agent: usize,
        slot: usize,
        topic: Option<&'static str>,
        wanted: bool,
    ) {
        let epoch = self.agents[agent].followers[slot].conn.epoch;
        let at = self.now + self.delay();
        self.at(at, Happening::Subscribed(agent, slot, epoch, topic, wanted));
    }

    pub fn subscribed(
        &mut self,
        (agent, slot): (usize, usize),
        epoch: u64,
        topic: Option<&'static str>,
        wanted: bool,
    ) {
        // Of two that overtook each other the present wish counts.
        let wanted =
            wanted && topic.is_none_or(|topic| self.agents[agent].topics(slot).contains(topic));
        let conn = &mut self.agents[agent].followers[slot].conn;
        let (true, Some(publisher)) = (conn.epoch == epoch, conn.peer) else {
            return;
        };
        match topic {
            Some(topic) if wanted => conn.topics.insert(topic),
            Some(topic) => conn.topics.remove(topic),
            None => std::mem::replace(&mut conn.hellos, true),
        };
        if topic.is_none() {
            self.publishers[publisher].joined(self.now);
            self.hello_at(publisher);
        }
    }

    /// The connection ends; an agent that sees it connects again.
    pub fn cut_off(&mut self, agent: usize, slot: usize, seen: bool) {
        let conn = &mut self.agents[agent].followers[slot].conn;
        (conn.peer, conn.hellos) = (None, false);
        conn.topics.clear();
        if !seen || !conn.up {
            return;
        }
        conn.up = false;
        conn.late = self.rng.bool().then_some(conn.epoch);
        conn.epoch += 1;
        self.step(agent, slot, Input::Down);
        // An answer from before its grants came would keep an agent waiting for a minute.
        if self.rng.bool() || self.has_grants {
            self.step(agent, slot, Input::Lost);
        }
        self.connect_later(agent, slot);
    }

    /// Gives up a connection on which nothing was heard for long.
    pub fn silence(&mut self, agent: usize, slot: usize, epoch: u64) {
        let model = &self.agents[agent];
        let conn = &model.followers[slot].conn;
        if !model.up || !conn.up || conn.epoch != epoch {
            return;
        }
        let silent = conn.nature == Nature::Fanfare && self.now >= conn.greeted + SILENCE;
        // The heartbeats of the transport tell that nobody is there any more.
        let dead = conn.peer.is_none() && self.now >= conn.heard + SILENCE;
        if silent {
            self.agents[agent].followers[slot].conn.nature = Nature::Unknown;
        }
        if silent || dead {
            return self.cut_off(agent, slot, true);
        }
        let at = self.now + MAX_IDLE_TIME / 5;
        self.at(at, Happening::Silence(agent, slot, epoch));
    }

    pub fn question(&mut self, agent: usize, slot: usize, tag: u64, request: Request) {
        let follower = &self.agents[agent].followers[slot];
        let publisher = follower
            .endpoint
            .expect("it asks where there is nobody to ask");
        if self.chance(self.weather.question_lost) || self.is_cut(agent, publisher) {
            self.counts.note("fault: question lost");
            return;
        }
        let (run, at) = (self.agents[agent].run, self.now + self.delay());
        let ask = Happening::Asked(agent, slot, run, publisher, tag, Box::new(request));
        self.at(at, ask);
    }

    pub fn asked(
        &mut self,
        (agent, slot, run): (usize, usize, u64),
        publisher: usize,
        tag: u64,
        request: Request,
    ) {
        let model = &self.publishers[publisher];
        if !model.up || self.now < model.service.stuck_until {
            return;
        }
        let asked = request.clone();
        let granted = crate::grants::granted(&self.forbidden, (agent, publisher), request);
        let patience = crate::service::PATIENCE;
        let mut answer = match granted {
            Err(refused) => refused,
            Ok(_) if self.chance(6) => Answer::RetryAfter(self.rng.u32(..patience)),
            Ok((request, beyond)) => {
                let (rng, counts) = (&mut self.rng, &mut self.counts);
                let model = &mut self.publishers[publisher];
                let mut answer = crate::service::answer(model, request, self.now, rng, counts);
                if let Answer::Heads { behind, .. } = &mut answer {
                    behind.extend(beyond);
                }
                answer
            }
        };
        self.say(|| format!("p{publisher} answers {asked:?}: {}", short(&answer)));
        // What a damaged answer left out shows in a later one.
        let honest = self.weather.answer_damaged == 0;
        if self.chance(self.weather.answer_damaged) {
            answer = self.damage(answer);
        }
        if self.chance(self.weather.answer_lost) || self.is_cut(agent, publisher) {
            self.counts.note("fault: answer lost");
            return;
        }
        let mut times = 1;
        if self.chance(self.weather.answer_twice) {
            self.counts.note("fault: answer twice");
            times = 2;
        }
        for _ in 0..times {
            let mut at = self.now + self.delay();
            if self.chance(self.weather.answer_late) {
                self.counts.note("fault: answer late");
                at += Duration::from_millis(self.rng.u64(..4000));
            }
            let answer = Box::new((answer.clone(), honest));
            self.at(at, Happening::Answered(agent, slot, run, tag, answer));
        }
    }
}

/// An answer without its contents, for a trace.
pub fn short(answer: &Answer) -> String {
    match answer {
        Answer::Events {
            upto, last, events, ..
        } => {
            format!("{} events up to {upto} of {last}", events.len())
        }
        Answer::Rows {
            id,
            chunk,
            chunks,
            seq,
            rows,
            ..
        } => {
            format!(
                "{} rows, chunk {chunk} of {chunks} of snapshot {id} at {seq}",
                rows.len()
            )
        }
        other => format!("{other:?}"),
    }
}
