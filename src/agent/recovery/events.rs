//! Events as they come, and what is asked.

use std::sync::Arc;
use std::time::Instant;

use super::asks::{Cost, Job};
use super::topic::Verdict;
use super::{Action, Life, Note, Recovery};
use crate::event::{Event, EventBatch, Stamp};
use crate::sync::{MAX_TOPICS, Request};

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is applied.
    Apply,
    /// It is not, now or ever.
    LeaveOut,
    /// It is not, and something is to be asked for.
    Fetch,
}

impl Recovery {
    /// Takes events off the SUB socket. Almost always each is the next one of its topic, and the
    /// batch goes on as it is.
    pub(super) fn events(&mut self, events: EventBatch, now: Instant, out: &mut Vec<Action>) {
        let mut left_out: Vec<usize> = Vec::new();
        let mut asks = false;
        for (place, event) in events.iter().enumerate() {
            let Some(stamp) = event.stamp else {
                // A legacy publisher's, or one that a legacy worker sent around the service.
                continue;
            };
            let life = Life {
                publisher: stamp.publisher,
                incarnation: stamp.incarnation,
            };
            if self.life != Some(life) {
                if !self.meet(life, out) {
                    left_out.push(place);
                    continue;
                }
                if self.is_blind() {
                    self.go_blind(out);
                }
                asks = true;
            }
            let fate = self.judge(&event, &stamp, out);
            asks |= fate == Fate::Fetch;
            if fate != Fate::Apply {
                left_out.push(place);
            }
        }
        let rest = match left_out.as_slice() {
            [] => events,
            left_out => {
                let fresh = |(place, _): &(usize, _)| left_out.binary_search(place).is_err();
                let fresh = events.iter().enumerate().filter(fresh);
                fresh.map(|(_, event)| event).collect()
            }
        };
        if !rest.is_empty() {
            out.push(Action::Apply(rest));
        }
        if asks {
            self.ask(now, out);
        }
    }

    /// What becomes of an event of this life, with its stamp.
    fn judge(&mut self, event: &Event<'_>, stamp: &Stamp, out: &mut Vec<Action>) -> Fate {
        // A stamped event's topic is that of its frame 0: the service sees to it.
        let name = event.topic_or_all();
        let blind = self.is_blind();
        let Some(topic) = self.topics.get_mut(name) else {
            // Not subscribed to any more.
            return Fate::LeaveOut;
        };
        match topic.judge(stamp) {
            Verdict::Take => {
                topic.took(stamp);
                return Fate::Apply;
            }
            Verdict::Duplicate => {
                out.push(Action::Note(Note::Duplicate));
                return Fate::LeaveOut;
            }
            Verdict::Gap | Verdict::Broken if blind => {
                // There is nobody to ask: better with a hole than not at all.
                topic.took(stamp);
                topic.holed = true;
                out.push(Action::Note(Note::CannotRepair));
                return Fate::Apply;
            }
            Verdict::Broken => {
                out.push(Action::Note(Note::BrokenChain));
                // Nothing that it says is to be believed, so it is not held either.
                self.behind += usize::from(topic.is_live());
                topic.restart();
                self.want(&name.into());
                return Fate::Fetch;
            }
            Verdict::Gap => {
                out.push(Action::Note(Note::Gap));
                topic.fetch();
                self.behind += 1;
            }
            Verdict::Hold => {}
        }
        let room = self.options.held_bytes.saturating_sub(self.held_bytes);
        match topic.hold(event, stamp.seq, room) {
            Some(bytes) => self.held_bytes += bytes,
            None => out.push(Action::Note(Note::NotHeld)),
        }
        if !topic.asked {
            self.want(&name.into());
        }
        Fate::Fetch
    }

    /// Something of `name` is to be fetched: notes it, once.
    pub(super) fn want(&mut self, name: &Arc<str>) {
        if let Some(topic) = self.topics.get_mut(name)
            && !std::mem::replace(&mut topic.asked, true)
        {
            self.asks.push(Job::Topic(Arc::clone(name)));
        }
    }

    /// Asks what is to be asked, as far as that may be; does without where nobody can be asked.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.is_blind() {
            self.go_blind(out);
        }
        if !self.can_ask() {
            return;
        }
        if self.round_due && self.round == 0 {
            self.begin_round(now);
        }
        self.begin_listing();
        let Some(life) = self.life else { return };
        while let Some(job) = self.asks.next() {
            let request = match &job {
                Job::Heads(names) => Request::Heads {
                    incarnation: life.incarnation,
                    topics: names
                        .iter()
                        .filter_map(|name| Some((name.to_string(), self.topics.get(name)?.last)))
                        .collect(),
                },
                Job::Topics(after) => Request::Topics {
                    after: after.clone(),
                },
                Job::Topic(name) => {
                    let Some(topic) = self.topics.get_mut(name) else {
                        continue;
                    };
                    match topic.question(life.incarnation, name) {
                        Some(request) => request,
                        None => {
                            topic.asked = false;
                            continue;
                        }
                    }
                }
            };
            let cost = match request {
                Request::Snapshot { .. } => Cost::Load,
                _ => Cost::Little,
            };
            // What was begun goes on.
            let begins = matches!(request, Request::Snapshot { chunk: None, .. });
            if begins && self.asks.must_wait(cost) {
                self.asks.push_load(job);
                continue;
            }
            let tag = self.asks.asked(job, cost, now);
            out.push(Action::Ask(tag, request));
        }
    }

    /// Asks for the heads of all topics that have a position; the others are loaded, and what
    /// follows is replayed, anyway.
    fn begin_round(&mut self, now: Instant) {
        self.round_due = false;
        self.put_off_heads(now);
        let names = self.topics.iter();
        let names: Vec<Arc<str>> = names
            .filter(|(_, topic)| topic.position().is_some())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for chunk in names.chunks(MAX_TOPICS) {
            self.round += 1;
            self.asks.push(Job::Heads(chunk.to_vec()));
        }
        self.round_done();
    }

    /// Clears up what was in doubt, unless the round has answers to come, or doubt came after it.
    pub(super) fn round_done(&mut self) {
        if self.round == 0 && !self.round_due {
            self.unsure = false;
        }
    }

    /// The next round is due in about the time the options say.
    pub(super) fn put_off_heads(&mut self, now: Instant) {
        let jitter = (self.rng.f64() * 2.0 - 1.0) / 3.0 + 1.0;
        self.heads_due = Some(now + self.options.heads_every.mul_f64(jitter));
    }

    /// Something was sent on `name` up to `seq`.
    pub(super) fn claim(&mut self, name: &Arc<str>, seq: u64, out: &mut Vec<Action>) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        if topic.claim(seq) {
            out.push(Action::Note(Note::Gap));
            self.behind += 1;
            self.want(name);
        }
    }
}
