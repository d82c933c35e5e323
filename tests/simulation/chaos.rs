//! What goes wrong.

use std::sync::Arc;
use std::time::Duration;

use fanfare::agent::recovery::Input;
use fanfare::event::{Event, EventBatch};

use crate::network::Message;
use crate::world::{Happening, TOPICS, World};

impl World {
    fn somebody(&mut self) -> (usize, usize) {
        let agent = self.rng.usize(..self.agents.len());
        (agent, self.rng.usize(..self.addresses.len()))
    }

    /// One fault.
    pub fn fault(&mut self) {
        let (agent, slot) = self.somebody();
        let publisher = self.rng.usize(..self.publishers.len());
        let up = self.agents[agent].up;
        match self.rng.u8(..40) {
            0..6 if up => {
                let messages = self.rng.u32(1..12);
                self.agents[agent].followers[slot].conn.losing += messages;
            }
            6..9 if up => {
                self.counts.note("fault: connection lost");
                self.cut_off(agent, slot, true);
            }
            9 if up => {
                self.counts.note("fault: connection half open");
                self.cut_off(agent, slot, false);
            }
            10..13 => {
                self.counts.note("fault: partition");
                let until = self.now + Duration::from_millis(self.rng.u64(100..9000));
                self.cuts.insert((agent, publisher), until);
            }
            13..17 => self.restart(publisher),
            17 => {
                self.counts.note("fault: addresses exchanged");
                let other = self.rng.usize(..self.addresses.len());
                self.addresses.swap(slot, other);
                for agent in 0..self.agents.len() {
                    for slot in [slot, other] {
                        if self.agents[agent].up {
                            self.cut_off(agent, slot, true);
                        }
                    }
                }
            }
            18..20 => {
                self.counts.note("fault: service stuck");
                let until = self.now + Duration::from_millis(self.rng.u64(100..8000));
                self.publishers[publisher].service.stuck_until = until;
            }
            20..23 if up => self.kill(agent),
            23..26 if up => self.agents[agent].save(),
            26..29 if up && !self.agents[agent].follows_all() => self.want(agent),
            29 if self.publishers[publisher].forget_tombstones() => {
                self.counts.note("fault: tombstones forgotten");
            }
            30 if up => self.impostor(agent, slot),
            31..33 if up => self.break_chain(agent, slot),
            33..36 => {
                let image = self.publishers[publisher].disk.clone();
                self.publishers[publisher].image = image;
            }
            39 if up => self.panic(agent, slot),
            36..38 if self.has_grants => self.forbid(agent, publisher),
            38 if self.has_grants => self.grant_all(),
            _ => {}
        }
    }

    /// Of agents that are running.
    pub fn connections(&self) -> Vec<(usize, usize)> {
        let up = |agent: &usize| self.agents[*agent].up;
        let agents = (0..self.agents.len()).filter(up);
        let slots = 0..self.addresses.len();
        agents
            .flat_map(|agent| slots.clone().map(move |slot| (agent, slot)))
            .collect()
    }

    fn restart(&mut self, publisher: usize) {
        if !self.publishers[publisher].up {
            return;
        }
        let model = &mut self.publishers[publisher];
        model.stop();
        match self.rng.u8(..10) {
            0..2 if self.may_lose => {
                self.counts.note("fault: restart without state");
                model.lose_all();
            }
            2..4 if self.may_lose => {
                self.counts.note("fault: restart with a part of the rows");
                model.lose_end();
            }
            _ => self.counts.note("fault: clean restart"),
        }
        if self.may_switch {
            model.serves = self.rng.bool();
            model.legacy = self.rng.u8(..4) == 0;
            model.garbles = self.rng.u8(..4) == 0;
        }
        self.start_again(publisher);
    }

    /// Ends, and starts again so that all can be asked and heard of.
    pub fn restart_whole(&mut self, publisher: usize) {
        let model = &mut self.publishers[publisher];
        if model.serves && !model.legacy && !model.garbles {
            return;
        }
        model.stop();
        (model.serves, model.legacy, model.garbles) = (true, false, false);
        self.start_again(publisher);
    }

    /// Who was connected to it is not any more; it starts again soon.
    fn start_again(&mut self, publisher: usize) {
        let model = &self.publishers[publisher];
        if !model.serves {
            self.counts.note("fault: no sync service");
        }
        if model.legacy {
            self.counts.note("fault: legacy publisher");
        }
        for (agent, slot) in self.connections() {
            if self.agents[agent].followers[slot].conn.peer == Some(publisher) {
                let seen = self.calm() || self.rng.u8(..) > 20;
                self.cut_off(agent, slot, seen);
            }
        }
        let pause = Duration::from_millis(self.rng.u64(50..4000));
        self.at(self.now + pause, Happening::Start(publisher));
    }

    fn kill(&mut self, agent: usize) {
        let model = &mut self.agents[agent];
        model.up = false;
        if self.rng.u8(..) < 40 {
            self.counts.note("fault: agent killed without checkpoint");
            model.checkpoint = Default::default();
        } else {
            self.counts.note("fault: agent killed");
        }
        let pause = Duration::from_millis(self.rng.u64(50..3000));
        self.at(self.now + pause, Happening::StartAgent(agent));
    }

    /// The thread of one follower panics, and what it had to hand on is lost.
    fn panic(&mut self, agent: usize, slot: usize) {
        self.counts.note("fault: reader panicked");
        let now = self.instant();
        let follower = &mut self.agents[agent].followers[slot];
        let life = follower.recovery.standing().life;
        let peer = follower.conn.peer.map(|peer| &self.publishers[peer]);
        if let Some(peer) = peer.filter(|peer| Some(peer.life()) == life && !peer.legacy)
            && let Some(sent) = peer.journal.back()
        {
            // What comes of it is not done.
            let lost = [sent.event()].into_iter().collect();
            let out = &mut Vec::new();
            follower.recovery.step(Input::Events(lost), now, out);
        }
        follower.cursors.retain(|(of, _), _| Some(*of) != life);
        follower.loose.retain(|(of, _), _| Some(*of) != life);
        self.step(agent, slot, Input::Anew);
        self.cut_off(agent, slot, true);
    }

    /// A topic comes or goes.
    fn want(&mut self, agent: usize) {
        let topic = TOPICS[self.rng.usize(1..TOPICS.len())];
        let wanted = self.agents[agent].wanted.insert(topic);
        if !wanted {
            self.agents[agent].wanted.remove(topic);
        }
        self.counts.note(if wanted {
            "fault: topic wanted"
        } else {
            "fault: topic unwanted"
        });
        if !wanted && self.agents[agent].drops_rows {
            let now = self.instant();
            self.agents[agent].remove(|row, _| *row.topic == *topic, now);
        }
        for slot in 0..self.addresses.len() {
            if self.agents[agent].followers[slot].conn.up {
                self.subscribe(agent, slot, Some(topic), wanted);
            }
            let name: Arc<str> = topic.into();
            if wanted {
                self.step(agent, slot, Input::Wanted(name));
            } else {
                let follower = &mut self.agents[agent].followers[slot];
                follower.cursors.retain(|(_, name), _| name != topic);
                follower.loose.retain(|(_, name), _| name != topic);
                self.step(agent, slot, Input::Unwanted(name));
            }
        }
    }

    /// Somebody with a publisher's id and a lower incarnation.
    fn impostor(&mut self, agent: usize, slot: usize) {
        let follower = &self.agents[agent].followers[slot];
        let (Some(publisher), Some(life)) = (follower.conn.peer, follower.recovery.standing().life)
        else {
            return;
        };
        let model = &self.publishers[publisher];
        if life != model.life() {
            return;
        }
        let lower = model.incarnation - 1;
        let mut stamp = fanfare::event::Stamp {
            publisher: model.id(),
            incarnation: lower,
            seq: model.disk.head + 3,
            prev: model.topic_head("D"),
            version: u64::MAX,
            unix_micros: 1,
        };
        self.counts.note("fault: impostor");
        if self.rng.bool() {
            stamp.prev = 0;
        }
        let event = Event {
            stamp: Some(stamp),
            ..Event::set("lport", "impostor", "x").on("D")
        };
        let hello = fanfare::event::hello::Hello {
            publisher: stamp.publisher,
            incarnation: lower,
            head: 1 << 50,
            since: 1 << 50,
            sync_endpoint: "tcp://99".into(),
            ..Default::default()
        };
        self.step(agent, slot, Input::Events([event].into_iter().collect()));
        self.step(agent, slot, Input::Hello(hello));
    }

    /// The last event of a topic comes with a `prev` that cannot be.
    fn break_chain(&mut self, agent: usize, slot: usize) {
        let conn = &self.agents[agent].followers[slot].conn;
        let Some(publisher) = conn.peer else { return };
        if self.publishers[publisher].legacy {
            return;
        }
        let topics = conn.topics.clone();
        let journal = &self.publishers[publisher].journal;
        let of_them = |topic: &str| topics.contains(topic);
        let sent = journal
            .iter()
            .rfind(|sent| of_them(sent.write.object.topic));
        let Some(mut sent) = sent.cloned() else {
            return;
        };
        // That of another topic's event, or one that is not before it: no chain can hold with it.
        // Another event of the topic would be a lie that nobody can see through.
        let others = journal.iter().filter(|other| {
            other.write.object.topic != sent.write.object.topic && other.stamp.seq < sent.stamp.prev
        });
        let others: Vec<u64> = others.map(|other| other.stamp.seq).collect();
        sent.stamp.prev = *self.rng.choice(&others).unwrap_or(&sent.stamp.seq);
        self.counts.note("fault: chain broken");
        let batch: EventBatch = [sent.event()].into_iter().collect();
        self.send(agent, slot, Message::Events(batch));
    }
}
