//! What came of an input: questions, and what is shown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use fanfare::agent::recovery::{Action, Input, Note, Recovery};
use fanfare::sync::{Answer, Refusal, Request};

use super::{Expected, Ledger, Question, purpose};
use crate::steps::brief;

impl Ledger {
    /// What came of it, on these topics.
    pub fn done(
        &mut self,
        input: &Input,
        expected: Expected,
        out: &[Action],
        (recovery, topics): (&Recovery, &BTreeSet<&'static str>),
        now: Instant,
    ) {
        let notes = out.iter().filter_map(|action| match action {
            Action::Note(note) => Some(*note),
            _ => None,
        });
        let notes: Vec<Note> = notes.collect();
        if expected.nothing {
            assert!(
                out.is_empty(),
                "{out:?} though nobody waits for that answer"
            );
        }
        if expected.idle && expected.endpoint.is_none() {
            assert!(
                out.is_empty(),
                "{out:?} though {} is nothing new",
                brief(input)
            );
        }
        self.check_notes(input, &expected, &notes);
        self.check_wait(input, &expected, &notes, recovery, now);
        let retried = self.patience.contains_key("the heads");
        if expected.free && matches!(input, Input::Tick) && !retried {
            self.check_round(out, now);
        }
        if let Some(Question { request, .. }) = &expected.answered
            && notes.contains(&Note::BadAnswer)
        {
            let request = request.clone();
            self.wait(&request, now + self.options.retry_min / 2);
        }
        let mut endpoints = Vec::new();
        let (mut resyncs, mut forbidden) = (0, Vec::new());
        let in_vain = expected
            .replayed
            .as_ref()
            .filter(|(_, fetched)| *fetched == 0);
        for action in out {
            match action {
                Action::Ask(tag, request) => {
                    let again = in_vain.is_some_and(|(topic, _)| topic == purpose(request));
                    assert!(!again, "{request:?} once more, at once");
                    self.asked(*tag, request, now);
                }
                Action::Endpoint(endpoint) => endpoints.push(endpoint.clone()),
                Action::Resync(_) => resyncs += 1,
                Action::Forbidden(topic) => forbidden.push(topic.to_string()),
                Action::Topics(topics) => self.listed += topics.len(),
                Action::Apply(batch) => assert!(!batch.is_empty(), "nothing is handed on"),
                Action::Sweep(_) | Action::Note(_) => {}
            }
        }
        assert_eq!(endpoints, Vec::from_iter(expected.endpoint.clone()));
        assert_eq!(resyncs, usize::from(expected.resync));
        assert_eq!(forbidden, Vec::from_iter(expected.forbidden.clone()));
        assert!(self.listed <= self.options.all_topics, "too many topics");
        if notes.contains(&Note::TopicNotFollowed) {
            assert_eq!(self.listed, self.options.all_topics);
        }
        if let Input::Events(events) = input {
            self.check_held(
                events,
                (expected.held, recovery.standing().held_bytes),
                &notes,
            );
        }
        if let Input::Events(events) = input
            && notes.contains(&Note::BrokenChain)
        {
            for event in events.iter() {
                for question in self.under_way.values_mut() {
                    question.overtaken |= purpose(&question.request) == event.topic_or_all();
                }
            }
        }
        self.check_standing(recovery, now);
        if let Some(kept) = expected.resumed
            && matches!(input, Input::Hello(_))
            && !self.is_blind()
        {
            let positions = recovery.positions().unwrap_or_default();
            for (topic, at) in &positions.topics {
                assert_eq!(
                    kept.get(topic),
                    Some(at),
                    "{topic} is not where it was left"
                );
            }
            let known: BTreeSet<_> = positions.topics.iter().map(|(topic, _)| topic).collect();
            let lost = |topic: &&Arc<str>| topics.contains(&***topic) && !known.contains(topic);
            let lost: Vec<_> = kept.keys().filter(lost).collect();
            assert!(lost.is_empty(), "the positions of {lost:?} are lost");
        }
    }

    /// Rounds of heads that only time gives rise to are not too many.
    fn check_round(&mut self, out: &[Action], now: Instant) {
        let is_round = |action: &Action| matches!(action, Action::Ask(_, Request::Heads { .. }));
        if out.iter().any(is_round) {
            let every = self.options.heads_every * 2 / 3;
            let early = self.heads_at.is_some_and(|at| now < at + every);
            assert!(!early, "a round of heads comes too early");
            self.heads_at = Some(now);
        }
    }

    /// What failed is asked for again, the later the more failed since something went well.
    fn check_wait(
        &mut self,
        input: &Input,
        expected: &Expected,
        notes: &[Note],
        recovery: &Recovery,
        now: Instant,
    ) {
        if let (Input::Answer(_, answer), Some(asked)) = (input, &expected.answered) {
            let bad = notes.contains(&Note::BadAnswer);
            let well = match answer {
                Answer::Heads { .. } | Answer::Topics { .. } => !bad,
                _ => recovery.standing().behind < expected.behind,
            };
            let malformed = Note::Refused(Refusal::Malformed);
            let lapsed = matches!(answer, Answer::Lapsed) && !asked.overtaken;
            let in_vain = matches!(&expected.replayed, Some((_, 0)));
            if well {
                self.failures = 0;
            } else if bad || lapsed || in_vain || notes.contains(&malformed) {
                self.failures += 1;
            }
        }
        if self.failures > expected.failures {
            let (min, max) = (self.options.retry_min, self.options.retry_max);
            let longest = max.min(min * (1 << expected.failures.min(10)));
            let due = recovery.deadline();
            assert!(
                due.is_some_and(|due| due <= now + longest),
                "it waits too long"
            );
        } else if notes.contains(&Note::Gone) {
            // Asked for again at once or later.
            self.failures += 1;
        }
    }

    fn asked(&mut self, tag: u64, request: &Request, now: Instant) {
        assert!(
            self.greeted && self.endpoint.is_some(),
            "nobody can be asked"
        );
        assert!(tag > self.last_tag, "a tag is used again");
        self.last_tag = tag;
        let what = purpose(request).to_owned();
        if let Some(until) = self.patience.remove(&what) {
            assert!(now >= until, "{what}: {:?} too early", until - now);
        }
        assert!(
            !self.is_under_way(&what),
            "{what} is asked for twice at once"
        );
        if let Request::Heads { incarnation, .. } | Request::Replay { incarnation, .. } = request {
            assert_eq!(Some(*incarnation), self.life.map(|life| life.incarnation));
        }
        let question = Question {
            request: request.clone(),
            at: now,
            overtaken: false,
        };
        self.under_way.insert(tag, question);
        assert!(
            self.under_way.len() <= self.options.in_flight,
            "too many at once"
        );
    }

    fn check_standing(&mut self, recovery: &Recovery, now: Instant) {
        let standing = recovery.standing();
        assert_eq!(standing.life, self.life);
        assert_eq!(
            (standing.head, standing.hello_at),
            (self.head, self.hello_at)
        );
        assert_eq!(standing.forbidden, self.forbidden.len());
        assert!(standing.behind >= standing.forbidden || self.has_holes());
        let shown = recovery.forbidden(1);
        assert_eq!(shown.len(), self.forbidden.len().min(1));
        assert!(shown.iter().all(|topic| self.forbidden.contains(&**topic)));
        let may_be = self.connected && (self.greeted || self.legacy);
        assert!(may_be || !standing.in_sync, "in sync with whom?");
        assert!(standing.in_sync || !self.connected || !self.legacy);
        if standing.in_sync && !self.legacy {
            self.proved = self.hello_at;
        }
        assert_eq!(standing.proved, self.proved);
        if self.is_blind() {
            assert_eq!((standing.behind, standing.held_bytes), (0, 0));
            let open = !self.connected || self.options.all_topics > 0;
            assert!(standing.in_sync || open, "it waits for nobody");
        }
        let timeout = self.options.ask_timeout;
        let late = self
            .under_way
            .values()
            .find(|asked| asked.at + timeout < now);
        assert!(late.is_none(), "{late:?} is waited for too long");
    }
}
