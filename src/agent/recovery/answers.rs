//! Answers: where topics catch up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asks::Job;
use super::topic::{Loading, Phase};
use super::{Action, Note, Recovery, Sweep, name_hash};
use crate::event::{EventBatch, codec};
use crate::sync::{Answer, Digest, Packed, Refusal};

/// How long what was refused is not asked for again.
const REFUSED: Duration = Duration::from_secs(60);

/// What becomes of a question after its answer.
enum Next {
    /// It was answered; what is still missing is asked for at once.
    On,
    /// It is asked again, the later the more often that was needed.
    Retry,
    /// It is asked again after this.
    RetryIn(Duration),
    /// The service wants to be asked again after this.
    Wait(Duration),
    /// It was not answered by this: all that came so far is void, and it is asked again.
    Bad,
}

impl Recovery {
    pub(super) fn answer(&mut self, tag: u64, answer: Answer, now: Instant, out: &mut Vec<Action>) {
        let Some((job, cost)) = self.asks.answered(tag) else {
            return;
        };
        self.set_asked(&job, false);
        self.set_forbidden(&job, &answer, out);
        let next = match (&job, answer) {
            (_, Answer::RetryAfter(millis)) => {
                out.push(Action::Note(Note::AskedToWait));
                Next::Wait(Duration::from_millis(millis.into()))
            }
            (
                Job::Heads(names),
                Answer::Refused {
                    code: code @ Refusal::Forbidden,
                    ..
                },
            ) => {
                out.push(Action::Note(Note::Refused(code)));
                self.none_granted(names)
            }
            (_, Answer::Refused { code, .. }) => {
                out.push(Action::Note(Note::Refused(code)));
                match code {
                    Refusal::Version | Refusal::Forbidden => Next::RetryIn(REFUSED),
                    Refusal::Malformed => Next::Retry,
                }
            }
            (_, answer) if !self.is_of_this_life(&answer) => {
                // The publisher itself says, by hellos and stamps, which life it is in: an answer
                // may be an old one, or another publisher's.
                out.push(Action::Note(Note::BadAnswer));
                Next::Retry
            }
            (Job::Heads(_), Answer::Heads { behind, .. }) => self.heads(&behind, out),
            (Job::Topics(after), Answer::Topics { topics, more, .. }) => {
                match self.listed(after, topics, more, out) {
                    true => Next::On,
                    false => Next::Bad,
                }
            }
            (Job::Topic(name), answer) => self.of_topic(name, answer, now, out),
            _ => Next::Bad,
        };
        match next {
            Next::On => {
                if let Job::Topic(name) = &job
                    && self.topics.get(name).is_some_and(|topic| !topic.is_live())
                {
                    self.want(name);
                }
                return;
            }
            Next::Bad => {
                out.push(Action::Note(Note::BadAnswer));
                if let Job::Topic(name) = &job
                    && let Some(topic) = self.topics.get_mut(name)
                    && !topic.is_live()
                {
                    topic.phase = Phase::Unknown;
                }
            }
            Next::Retry | Next::RetryIn(_) | Next::Wait(_) => {}
        }
        self.set_asked(&job, true);
        match next {
            Next::RetryIn(wait) => self.asks.retry_in(job, wait, now),
            Next::Wait(wait) => self.asks.hold(job, cost, wait, now),
            _ => self.asks.retry(job, now),
        }
    }

    /// Whether the question is among those that will be answered.
    pub(super) fn set_asked(&mut self, job: &Job, asked: bool) {
        if let Job::Topic(name) = job
            && let Some(topic) = self.topics.get_mut(name)
        {
            topic.asked = asked;
        }
    }

    /// Notes whether the publisher lets this node have the topic that was asked for.
    fn set_forbidden(&mut self, job: &Job, answer: &Answer, out: &mut Vec<Action>) {
        let Job::Topic(name) = job else { return };
        let forbidden = match answer {
            Answer::RetryAfter(_) => return,
            Answer::Refused { code, .. } => *code == Refusal::Forbidden,
            _ => false,
        };
        if let Some(topic) = self.topics.get_mut(name)
            && topic.forbidden != forbidden
        {
            topic.forbidden = forbidden;
            match forbidden {
                true => out.push(Action::Forbidden(Arc::clone(name))),
                // Of what it may not have an agent is told that it is behind, whether it is or not.
                false => topic.unclaim(),
            }
        }
    }

    /// What is forbidden is asked for now, not only when its time has come: the publisher makes those
    /// connect anew who may have something else than before.
    pub(super) fn ask_forbidden(&mut self) {
        for name in self.forbidden(usize::MAX) {
            self.asks.cancel(&name);
            if let Some(topic) = self.topics.get_mut(&name) {
                topic.asked = false;
            }
            self.want(&name);
        }
    }

    fn is_of_this_life(&self, answer: &Answer) -> bool {
        let (Answer::Heads { incarnation, .. }
        | Answer::Events { incarnation, .. }
        | Answer::Gone { incarnation }
        | Answer::Topics { incarnation, .. }
        | Answer::Rows { incarnation, .. }) = answer
        else {
            return true;
        };
        self.life
            .is_some_and(|life| life.incarnation == *incarnation)
    }

    fn heads(&mut self, behind: &[(String, u64)], out: &mut Vec<Action>) -> Next {
        self.asks.well();
        for (name, last) in behind {
            let known = self.topics.get_key_value(name.as_str());
            if let Some(name) = known.map(|(name, _)| Arc::clone(name)) {
                self.claim(&name, *last, out);
            }
        }
        self.round -= 1;
        self.round_done();
        Next::On
    }

    /// The publisher lets this node have none of these topics, or did not a moment ago: each is asked
    /// for, so that it shows which it may not have, and is asked for again when connected anew.
    fn none_granted(&mut self, names: &[Arc<str>]) -> Next {
        for name in names {
            if let Some(topic) = self.topics.get_mut(name)
                && topic.is_live()
            {
                topic.fetch();
                self.behind += 1;
                self.want(name);
            }
        }
        self.round -= 1;
        self.round_done();
        Next::On
    }

    fn of_topic(
        &mut self,
        name: &Arc<str>,
        answer: Answer,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        let Some(topic) = self.topics.get_mut(name) else {
            return Next::On;
        };
        match (&mut topic.phase, answer) {
            (
                Phase::Replaying { .. },
                Answer::Events {
                    upto, last, events, ..
                },
            ) => self.replayed(name, (upto, last), &events, now, out),
            (Phase::Replaying { loaded, .. }, Answer::Gone { .. }) => {
                // What a snapshot lacks is gone already: the next one may be no better.
                let next = if *loaded { Next::Retry } else { Next::On };
                topic.phase = Phase::Unknown;
                out.push(Action::Note(Note::Gone));
                next
            }
            (Phase::Loading(_), Answer::Lapsed) => {
                topic.phase = Phase::Unknown;
                Next::Retry
            }
            (Phase::Unknown | Phase::Loading(_), rows @ Answer::Rows { .. }) => {
                self.rows(name, rows, now, out)
            }
            _ => Next::Bad,
        }
    }

    fn replayed(
        &mut self,
        name: &Arc<str>,
        (upto, head): (u64, u64),
        packed: &Packed,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        let life = self.life.unwrap_or_default();
        let Some(topic) = self.topics.get_mut(name) else {
            return Next::On;
        };
        let Phase::Replaying { after, events, .. } = &mut topic.phase else {
            return Next::On;
        };
        let Some(batch) = decode(packed) else {
            return Next::Bad;
        };
        let mut last = topic.last;
        for event in batch.iter() {
            let Some(stamp) = event.stamp else {
                return Next::Bad;
            };
            let follows = stamp.prev == last && stamp.seq > last && stamp.seq <= upto;
            let ours = stamp.publisher == life.publisher && stamp.incarnation == life.incarnation;
            if !follows || !ours || *event.topic_or_all() != **name {
                return Next::Bad;
            }
            last = stamp.seq;
        }
        let more = upto < head;
        if (more && upto <= *after) || (!more && last < head) {
            // It leads nowhere, or claims to be whole and is not.
            return Next::Bad;
        }
        *after = upto;
        *events += batch.len() as u64;
        let fetched = *events;
        topic.last = last;
        if more {
            // Asked for before these are applied, so that the service works meanwhile.
            self.want(name);
            self.ask(now, out);
        }
        if !batch.is_empty() {
            out.push(Action::Apply(batch));
        }
        if !more {
            out.push(Action::Note(Note::Replayed(fetched)));
            self.take_held(name, out);
            return self.replay_done(name, upto, fetched);
        }
        Next::On
    }

    fn rows(
        &mut self,
        name: &Arc<str>,
        answer: Answer,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        let Answer::Rows {
            id,
            chunk,
            chunks,
            seq,
            complete_since,
            total,
            rows,
            ..
        } = answer
        else {
            return Next::Bad;
        };
        let Some(topic) = self.topics.get_mut(name) else {
            return Next::On;
        };
        if matches!(topic.phase, Phase::Unknown) {
            topic.phase = Phase::Loading(Box::new(Loading {
                id,
                next: 0,
                chunks,
                seq,
                complete_since,
                digest: Digest::default(),
                has: Default::default(),
            }));
        }
        let Phase::Loading(loading) = &mut topic.phase else {
            return Next::Bad;
        };
        if (id, chunk, chunks) != (loading.id, loading.next, loading.chunks) || chunk >= chunks {
            return Next::Bad;
        }
        let Some(batch) = decode(&rows) else {
            return Next::Bad;
        };
        loading.digest.add(&rows);
        let names = batch.iter().map(|row| name_hash(row.table, row.key));
        loading.has.extend(names);
        loading.next += 1;
        if loading.next < loading.chunks {
            self.want(name);
            self.ask(now, out);
            if !batch.is_empty() {
                out.push(Action::Apply(batch));
            }
            return Next::On;
        }
        let Digest { rows, sum } = loading.digest;
        if total != Some((rows, sum)) {
            out.push(Action::Note(Note::BadDigest));
            return Next::Bad;
        }
        let sweep = Sweep {
            life: self.life.unwrap_or_default(),
            topic: Arc::clone(name),
            complete_since: loading.complete_since,
            seq: loading.seq,
            has: std::mem::take(&mut loading.has),
        };
        topic.loaded(sweep.seq);
        if !batch.is_empty() {
            out.push(Action::Apply(batch));
        }
        out.push(Action::Sweep(sweep));
        out.push(Action::Note(Note::Loaded(rows)));
        self.take_held(name, out);
        Next::On
    }

    /// Hands on the held events that follow the position, and lets go of the others.
    fn take_held(&mut self, name: &str, out: &mut Vec<Action>) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        self.held_bytes -= topic.held_bytes();
        let next = topic.take_held();
        if !next.is_empty() {
            out.push(Action::Apply(next));
        }
    }

    /// All that had been sent up to `upto` is here.
    fn replay_done(&mut self, name: &str, upto: u64, fetched: u64) -> Next {
        let Some(topic) = self.topics.get_mut(name) else {
            return Next::On;
        };
        if topic.replay_done(upto, self.covered) {
            self.behind -= 1;
            self.asks.well();
        } else if fetched == 0 {
            // Something was claimed that the service does not have, and may never have.
            return Next::Retry;
        }
        Next::On
    }
}

/// The events of an answer; `None` when one of them is none.
fn decode(packed: &Packed) -> Option<EventBatch> {
    let mut batch = EventBatch::with_capacity(packed.len(), packed.bytes());
    for payload in packed.iter() {
        let event = codec::decode(payload).ok()?;
        if event.table.is_empty() || event.key.is_empty() || !batch.push(&event) {
            return None;
        }
    }
    (batch.len() == packed.len()).then_some(batch)
}
