//! A step of a recovery: does what it says, as its shell would, and checks each deed.

use std::collections::BTreeSet;
use std::sync::Arc;

use fanfare::agent::recovery::{Action, Input, Life, Note, Sweep};
use fanfare::event::{EventBatch, Stamp};
use fanfare::replica::RowKey;
use fanfare::sync::Answer;

use crate::world::{Happening, TOPICS, World};

/// An input without its contents, for a trace.
pub fn brief(input: &Input) -> String {
    match input {
        Input::Answer(tag, answer) => format!("{tag}: {}", crate::network::short(answer)),
        Input::Events(events) => {
            let stamps = events.iter().map(|event| (event.topic, event.stamp));
            let stamps = stamps.map(|(topic, stamp)| {
                let stamp = stamp.unwrap_or_default();
                (topic.unwrap_or(""), stamp.seq, stamp.prev)
            });
            format!("events {:?}", stamps.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}

/// The same once more.
fn copy(input: &Input) -> Input {
    match input {
        Input::Up { again } => Input::Up { again: *again },
        Input::Down => Input::Down,
        Input::Hello(hello) => Input::Hello(hello.clone()),
        Input::Legacy => Input::Legacy,
        Input::Events(events) => Input::Events(events.clone()),
        Input::Wanted(topic) => Input::Wanted(topic.clone()),
        Input::Unwanted(topic) => Input::Unwanted(topic.clone()),
        Input::Answer(tag, answer) => Input::Answer(*tag, answer.clone()),
        Input::Lost => Input::Lost,
        Input::Anew => Input::Anew,
        Input::Tick => Input::Tick,
    }
}

fn name_of(note: &Note) -> &'static str {
    match note {
        Note::Gap => "note: Gap",
        Note::Duplicate => "note: Duplicate",
        Note::BrokenChain => "note: BrokenChain",
        Note::Replayed(_) => "note: Replayed",
        Note::Gone => "note: Gone",
        Note::Loaded(_) => "note: Loaded",
        Note::BadDigest => "note: BadDigest",
        Note::BadAnswer => "note: BadAnswer",
        Note::Unanswered => "note: Unanswered",
        Note::AskedToWait => "note: AskedToWait",
        Note::Refused(_) => "note: Refused",
        Note::NotHeld => "note: NotHeld",
        Note::LowerIncarnation => "note: LowerIncarnation",
        Note::NewIncarnation => "note: NewIncarnation",
        Note::OtherPublisher => "note: OtherPublisher",
        Note::CannotRepair => "note: CannotRepair",
        Note::TopicNotFollowed => "note: TopicNotFollowed",
    }
}

impl World {
    /// One step of one recovery: does what it says, and checks it.
    pub fn step(&mut self, agent: usize, slot: usize, input: Input) {
        self.say(|| format!("a{agent}.{slot} < {}", brief(&input)));
        let mut rows = matches!(input, Input::Answer(_, Answer::Rows { .. }));
        let heard: BTreeSet<String> = match &input {
            Input::Events(events) => events
                .iter()
                .map(|event| event.topic_or_all().into())
                .collect(),
            _ => BTreeSet::new(),
        };
        let mut out = Vec::new();
        let now = self.instant();
        let follower = &mut self.agents[agent].followers[slot];
        let told = copy(&input);
        let expected = follower.ledger.told(&told, &follower.recovery, now);
        follower.recovery.step(input, now, &mut out);
        let model = &mut self.agents[agent];
        let follows_all = model.follows_all();
        let (wanted, follower) = (&model.wanted, &mut model.followers[slot]);
        let topics = if follows_all {
            &follower.listed
        } else {
            wanted
        };
        let recovery = (&follower.recovery, topics);
        follower.ledger.done(&told, expected, &out, recovery, now);
        let mut listed = Vec::new();
        let mut unstamped = 0;
        // What is handed on after an answer, and is none of it, was held.
        let is_answer = matches!(told, Input::Answer(..));
        let mut answered = match &told {
            Input::Answer(_, Answer::Events { events, .. }) => !events.is_empty(),
            _ => false,
        };
        // Without a sweep among them, the rows are those of a part of a snapshot.
        for action in out {
            match action {
                Action::Apply(batch) if batch.iter().any(|event| event.stamp.is_none()) => {
                    let plain = batch.iter().filter(|event| event.stamp.is_none());
                    unstamped += plain.count();
                    let stamped = batch.iter().filter(|event| event.stamp.is_some());
                    let stamped: EventBatch = stamped.collect();
                    self.follow(agent, slot, &stamped);
                    self.apply(agent, &stamped);
                }
                Action::Apply(batch) if rows => {
                    self.say(|| format!("a{agent}.{slot} applies {} rows", batch.len()));
                    self.apply(agent, &batch);
                }
                Action::Apply(batch) => {
                    self.say(|| format!("a{agent}.{slot} applies {} events", batch.len()));
                    if is_answer && !std::mem::take(&mut answered) {
                        self.counts.note("check: held events handed on");
                    }
                    self.follow(agent, slot, &batch);
                    self.apply(agent, &batch);
                }
                Action::Sweep(sweep) => {
                    rows = false;
                    self.say(|| format!("a{agent}.{slot} sweeps {} at {}", sweep.topic, sweep.seq));
                    let swept = self.agents[agent].sweep(&sweep, now);
                    self.check_swept(&sweep, &swept);
                    let follower = &mut self.agents[agent].followers[slot];
                    follower.loaded = true;
                    let topic = (sweep.life, sweep.topic.to_string());
                    follower.loose.remove(&topic);
                    let cursor = follower.cursors.entry(topic);
                    let cursor = cursor.or_insert(sweep.seq);
                    *cursor = sweep.seq.max(*cursor);
                }
                Action::Topics(topics) => {
                    self.counts.note("check: topics listed");
                    listed.extend(topics);
                }
                Action::Ask(tag, request) => {
                    self.say(|| format!("a{agent}.{slot} > {tag}: {request:?}"));
                    self.agents[agent].asked += 1;
                    self.question(agent, slot, tag, request);
                }
                Action::Endpoint(endpoint) => {
                    let number = |name: String| name.trim_start_matches("tcp://").parse().unwrap();
                    self.agents[agent].followers[slot].endpoint = endpoint.map(number);
                }
                Action::Forbidden(_) => self.counts.note("check: forbidden topic shown"),
                Action::Note(note) => {
                    self.say(|| format!("a{agent}.{slot} notes {note:?}"));
                    self.counts.note(name_of(&note));
                    if note == Note::BrokenChain {
                        // Only a snapshot gives these topics a position again.
                        let follower = &mut self.agents[agent].followers[slot];
                        let life = follower.recovery.standing().life;
                        follower
                            .cursors
                            .retain(|(of, topic), _| Some(*of) != life || !heard.contains(topic));
                    }
                }
                Action::Resync(_) => self.counts.note("check: resync after a break"),
            }
        }
        self.check_all_passed_on(agent, slot, &told, unstamped);
        self.check_follower(agent, slot);
        let follower = &mut self.agents[agent].followers[slot];
        let deadline = follower
            .recovery
            .deadline()
            .map(|at| at.saturating_duration_since(self.base));
        if let Some(at) = deadline
            && deadline != follower.tick_at
        {
            follower.tick_at = deadline;
            let run = self.agents[agent].run;
            self.at(at.max(self.now), Happening::Tick(agent, slot, run));
        }
        for topic in listed {
            self.follow_too(agent, slot, topic);
        }
    }

    /// A topic that a publisher has is subscribed to, and said to be wanted, or not: it is already.
    fn follow_too(&mut self, agent: usize, slot: usize, name: Arc<str>) {
        let topic = TOPICS.into_iter().find(|topic| **topic == *name);
        let topic = topic.expect("a topic that nobody has");
        let follower = &mut self.agents[agent].followers[slot];
        assert!(follower.listed.insert(topic), "{topic} is listed twice");
        if follower.conn.up {
            self.subscribe(agent, slot, Some(topic), true);
        }
        if self.rng.bool() {
            self.step(agent, slot, Input::Wanted(name));
        }
    }

    /// What a snapshot lacks and what is removed for that does not exist.
    fn check_swept(&mut self, sweep: &Sweep, swept: &[(RowKey, Stamp)]) {
        let publisher = self
            .publishers
            .iter()
            .find(|known| known.life() == sweep.life);
        for (name, stamp) in swept {
            let mut rows = publisher
                .into_iter()
                .flat_map(|known| known.disk.rows.values());
            let row = rows.find(|row| row.stamp == *stamp && row.write.value.is_some());
            assert!(row.is_none(), "{name:?} is removed and exists: {row:?}");
            self.counts.note("check: rows swept");
        }
    }

    /// What carries no stamp is handed on as it is; so is what follows where nobody can be asked.
    fn check_all_passed_on(&self, agent: usize, slot: usize, told: &Input, unstamped: usize) {
        let Input::Events(events) = told else {
            assert_eq!(unstamped, 0);
            return;
        };
        let plain = events.iter().filter(|event| event.stamp.is_none()).count();
        assert_eq!(unstamped, plain, "of events without a stamp");
        let model = &self.agents[agent];
        let follower = &model.followers[slot];
        let standing = follower.recovery.standing();
        let life = standing.life;
        if !follower.ledger.is_blind() {
            return;
        }
        for event in events.iter() {
            let (Some(stamp), topic) = (event.stamp, event.topic_or_all()) else {
                continue;
            };
            let of = Life {
                publisher: stamp.publisher,
                incarnation: stamp.incarnation,
            };
            // What a hello listed counts as missed.
            let is_new = stamp.seq > standing.head;
            if Some(of) == life && is_new && model.topics(slot).contains(topic) {
                let topic = (of, topic.to_owned());
                let at = follower.cursors.get(&topic).max(follower.loose.get(&topic));
                assert!(
                    at >= Some(&stamp.seq),
                    "{topic:?}: {} is withheld",
                    stamp.seq
                );
            }
        }
    }

    /// I4 and I2: of a topic, each event follows the one before, once, or a snapshot.
    fn follow(&mut self, agent: usize, slot: usize, batch: &EventBatch) {
        let follower = &mut self.agents[agent].followers[slot];
        let present = follower.recovery.standing().life;
        for event in batch.iter() {
            let stamp = event.stamp.unwrap();
            let life = Life {
                publisher: stamp.publisher,
                incarnation: stamp.incarnation,
            };
            assert_eq!(Some(life), present, "an event of another life is applied");
            let topic = (life, event.topic_or_all().to_owned());
            let may = follower.ledger.has_holes();
            if let Some(cursor) = follower.cursors.get_mut(&topic)
                && stamp.prev == *cursor
                && stamp.seq > *cursor
            {
                *cursor = stamp.seq;
            } else {
                // Where nobody can be asked, with a hole: only a snapshot gives it a position again.
                let last = follower.loose.get(&topic);
                let last = last.or(follower.cursors.get(&topic)).copied();
                assert!(
                    may,
                    "{topic:?}: {} is applied, which does not follow",
                    stamp.seq
                );
                assert!(last < Some(stamp.seq), "{topic:?}: {} once more", stamp.seq);
                follower.cursors.remove(&topic);
                follower.loose.insert(topic, stamp.seq);
                self.counts.note("check: followed with a hole");
            }
            if !follower.loaded {
                self.counts.note("check: resumed from kept positions");
            }
        }
    }

    fn apply(&mut self, agent: usize, batch: &EventBatch) {
        let now = self.instant();
        for event in batch.iter() {
            let stamp = event.stamp.unwrap();
            let written = self
                .written
                .get(&stamp.version)
                .expect("an event nobody wrote");
            assert_eq!(
                (
                    written.object.key.as_str(),
                    written.object.topic,
                    written.value.as_deref()
                ),
                (event.key, event.topic_or_all(), event.value),
            );
            self.agents[agent].replica.apply(&event, now);
        }
    }
}
