//! Answers: where topics catch up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asks::Job;
use super::topic::{Loading, Phase};
use super::{Action, Life, Note, Recovery, Sweep, name_hash};
use crate::event::{EventBatch, codec};
use crate::sync::{Answer, Digest, Packed, Refusal};

/// How long what was refused is not asked for again.
const REFUSED: Duration = Duration::from_secs(60);

impl Recovery {
    pub(super) fn answer(&mut self, tag: u64, answer: Answer, now: Instant, out: &mut Vec<Action>) {
        let Some(job) = self.asks.answered(tag) else {
            return;
        };
        self.settled(&job);
        match answer {
            Answer::RetryAfter(millis) => {
                out.push(Action::Note(Note::AskedToWait));
                let wait = Duration::from_millis(millis.into());
                self.again(&job);
                self.asks.retry_in(job, wait, now);
            }
            Answer::Refused { code, .. } => {
                out.push(Action::Note(Note::Refused(code)));
                self.again(&job);
                match code {
                    Refusal::Version | Refusal::Forbidden => {
                        self.asks.retry_in(job, REFUSED, now);
                    }
                    Refusal::Malformed => self.asks.retry(job, now),
                }
            }
            answer => {
                let fits = match (&job, answer) {
                    (
                        Job::Heads(_),
                        Answer::Heads {
                            incarnation,
                            head,
                            behind,
                        },
                    ) => self.heads(incarnation, head, &behind, out),
                    (
                        Job::Topic(name),
                        Answer::Events {
                            incarnation,
                            upto,
                            last,
                            events,
                        },
                    ) => self.replayed(name, incarnation, (upto, last), &events, now, out),
                    (Job::Topic(name), Answer::Gone { incarnation }) => {
                        self.gone(name, incarnation, out)
                    }
                    (Job::Topic(name), Answer::Lapsed) => self.lapsed(name),
                    (Job::Topic(name), rows @ Answer::Rows { .. }) => {
                        self.rows(name, rows, now, out)
                    }
                    _ => false,
                };
                if fits {
                    self.asks.well();
                    if let Job::Topic(name) = &job
                        && self.topics.get(name).is_some_and(|topic| !topic.is_live())
                    {
                        self.want(name);
                    }
                } else {
                    out.push(Action::Note(Note::BadAnswer));
                    if let Job::Topic(name) = &job
                        && let Some(topic) = self.topics.get_mut(name)
                        && !topic.is_live()
                    {
                        topic.phase = Phase::Unknown;
                    }
                    self.again(&job);
                    self.asks.retry(job, now);
                }
            }
        }
    }

    /// The question is not open any more.
    pub(super) fn settled(&mut self, job: &Job) {
        if let Job::Topic(name) = job
            && let Some(topic) = self.topics.get_mut(name)
        {
            topic.asked = false;
        }
    }

    /// The question will be asked again.
    fn again(&mut self, job: &Job) {
        if let Job::Topic(name) = job
            && let Some(topic) = self.topics.get_mut(name)
        {
            topic.asked = true;
        }
    }

    /// Whether an answer is of the publisher's present life; a higher incarnation begins another.
    fn same_life(&mut self, incarnation: u64, out: &mut Vec<Action>) -> bool {
        let Some(life) = self.life else { return false };
        if life.incarnation < incarnation {
            self.meet(
                Life {
                    incarnation,
                    ..life
                },
                out,
            );
            return false;
        }
        life.incarnation == incarnation
    }

    fn heads(
        &mut self,
        incarnation: u64,
        head: u64,
        behind: &[(String, u64)],
        out: &mut Vec<Action>,
    ) -> bool {
        if !self.same_life(incarnation, out) {
            // It has begun another life, in which all is asked anew, or is left to do so.
            return self
                .life
                .is_some_and(|life| life.incarnation == incarnation);
        }
        for (name, last) in behind {
            let known = self.topics.get_key_value(name.as_str());
            if let Some(name) = known.map(|(name, _)| Arc::clone(name)) {
                self.claim(&name, *last, out);
            }
        }
        if let Some((left, lowest)) = &mut self.round {
            *left -= 1;
            *lowest = head.min(*lowest);
            if *left == 0 {
                self.covered = self.covered.max(*lowest);
                self.round = None;
            }
        }
        true
    }

    fn replayed(
        &mut self,
        name: &Arc<str>,
        incarnation: u64,
        (upto, head): (u64, u64),
        packed: &Packed,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        if !self.same_life(incarnation, out) {
            return self
                .life
                .is_some_and(|life| life.incarnation == incarnation);
        }
        let life = self.life.unwrap_or_default();
        let Some(topic) = self.topics.get_mut(name) else {
            return true;
        };
        let Phase::Replaying { after, events } = &mut topic.phase else {
            return true;
        };
        let Some(batch) = decode(packed) else {
            return false;
        };
        let mut last = topic.last;
        for event in batch.iter() {
            let Some(stamp) = event.stamp else {
                return false;
            };
            let follows = stamp.prev == last && stamp.seq > last && stamp.seq <= upto;
            let ours = stamp.publisher == life.publisher && stamp.incarnation == life.incarnation;
            if !follows || !ours || *event.topic_or_all() != **name {
                return false;
            }
            last = stamp.seq;
        }
        if upto <= *after && upto < head || upto >= head && last < head {
            // It leads nowhere, or claims to be whole and is not.
            return false;
        }
        (*after, *events) = (upto, *events + batch.len() as u64);
        topic.last = last;
        let more = upto < head;
        let fetched = *events;
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
            self.settle(name, out);
        }
        true
    }

    fn gone(&mut self, name: &Arc<str>, incarnation: u64, out: &mut Vec<Action>) -> bool {
        out.push(Action::Note(Note::Gone));
        if self.same_life(incarnation, out)
            && let Some(topic) = self.topics.get_mut(name)
            && matches!(topic.phase, Phase::Replaying { .. })
        {
            topic.phase = Phase::Unknown;
        }
        true
    }

    fn lapsed(&mut self, name: &Arc<str>) -> bool {
        if let Some(topic) = self.topics.get_mut(name)
            && matches!(topic.phase, Phase::Loading(_))
        {
            topic.phase = Phase::Unknown;
        }
        true
    }

    fn rows(
        &mut self,
        name: &Arc<str>,
        answer: Answer,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let Answer::Rows {
            id,
            chunk,
            chunks,
            incarnation,
            seq,
            complete_since,
            total,
            rows,
        } = answer
        else {
            return false;
        };
        if !self.same_life(incarnation, out) {
            return self
                .life
                .is_some_and(|life| life.incarnation == incarnation);
        }
        let Some(topic) = self.topics.get_mut(name) else {
            return true;
        };
        if matches!(topic.phase, Phase::Unknown) && chunk == 0 {
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
            return matches!(topic.phase, Phase::Live | Phase::Replaying { .. });
        };
        if (id, chunk, chunks) != (loading.id, loading.next, loading.chunks) || chunk >= chunks {
            return false;
        }
        let Some(batch) = decode(&rows) else {
            return false;
        };
        loading.digest.add(&rows);
        let names = batch.iter().map(|row| name_hash(row.table, row.key));
        loading.has.extend(names);
        loading.next += 1;
        if loading.next < loading.chunks {
            self.want(name);
            self.ask(now, out);
            out.push(Action::Apply(batch));
            return true;
        }
        let Digest { rows, sum } = loading.digest;
        if total != Some((rows, sum)) {
            out.push(Action::Note(Note::BadDigest));
            return false;
        }
        let sweep = Sweep {
            life: self.life.unwrap_or_default(),
            topic: Arc::clone(name),
            complete_since: loading.complete_since,
            seq: loading.seq,
            has: std::mem::take(&mut loading.has),
        };
        topic.last = loading.seq;
        if !batch.is_empty() {
            out.push(Action::Apply(batch));
        }
        out.push(Action::Sweep(sweep));
        out.push(Action::Note(Note::Loaded(rows)));
        self.settle(name, out);
        true
    }

    /// The topic has a position again.
    fn settle(&mut self, name: &Arc<str>, out: &mut Vec<Action>) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        self.held_bytes -= topic.held_bytes();
        let next = topic.settle();
        if !next.is_empty() {
            out.push(Action::Apply(next));
        }
        self.behind -= usize::from(topic.is_live());
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
