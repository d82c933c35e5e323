//! What must hold: at every step, and when all faults are over.

use std::collections::{BTreeMap, BTreeSet};

use fanfare::agent::recovery::{Action, Input, Life, Note};
use fanfare::event::{Action as Change, Event, EventBatch};
use fanfare::replica::{Row, RowKey};
use fanfare::sync::Answer;

use crate::agent::Follower;
use crate::publisher::Object;
use crate::world::{Happening, World};

pub fn as_event<'a>(name: &'a RowKey, row: &'a Row) -> Event<'a> {
    Event {
        table: &name.table,
        key: &name.key,
        action: if row.is_tombstone() {
            Change::Delete
        } else {
            Change::Set
        },
        value: row.value.as_deref(),
        topic: Some(&row.topic),
        stamp: row.stamp,
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
        self.say(|| match &input {
            Input::Answer(tag, answer) => {
                format!("a{agent}.{slot} < {tag}: {}", crate::network::short(answer))
            }
            Input::Events(events) => {
                let stamps = events
                    .iter()
                    .map(|event| (event.topic, event.stamp.unwrap()));
                let stamps =
                    stamps.map(|(topic, stamp)| (topic.unwrap_or(""), stamp.seq, stamp.prev));
                format!("a{agent}.{slot} < events {:?}", stamps.collect::<Vec<_>>())
            }
            other => format!("a{agent}.{slot} < {other:?}"),
        });
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
        self.agents[agent].followers[slot]
            .recovery
            .step(input, now, &mut out);
        // Without a sweep among them, the rows are those of a part of a snapshot.
        for action in out {
            match action {
                Action::Apply(batch) if rows => {
                    self.say(|| format!("a{agent}.{slot} applies {} rows", batch.len()));
                    self.apply(agent, &batch);
                }
                Action::Apply(batch) => {
                    self.say(|| format!("a{agent}.{slot} applies {} events", batch.len()));
                    self.follow(agent, slot, &batch);
                    self.apply(agent, &batch);
                }
                Action::Sweep(sweep) => {
                    rows = false;
                    self.say(|| format!("a{agent}.{slot} sweeps {} at {}", sweep.topic, sweep.seq));
                    let swept = self.agents[agent].sweep(&sweep, now);
                    (0..swept).for_each(|_| self.counts.note("check: rows swept"));
                    let follower = &mut self.agents[agent].followers[slot];
                    follower.loaded = true;
                    let cursor = follower
                        .cursors
                        .entry((sweep.life, sweep.topic.to_string()));
                    let cursor = cursor.or_insert(sweep.seq);
                    *cursor = sweep.seq.max(*cursor);
                }
                Action::Topics(topics) => panic!("nobody asked for topics: {topics:?}"),
                Action::Ask(tag, request) => {
                    self.say(|| format!("a{agent}.{slot} > {tag}: {request:?}"));
                    self.agents[agent].asked += 1;
                    self.question(agent, slot, tag, request);
                }
                Action::Endpoint(endpoint) => {
                    let number = |name: String| name.trim_start_matches("tcp://").parse().unwrap();
                    self.agents[agent].followers[slot].endpoint = endpoint.map(number);
                }
                // No publisher here has grants.
                Action::Forbidden(topic) => panic!("{topic} is forbidden"),
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
                Action::Resync(reason) => panic!("no publisher is legacy: {reason:?}"),
            }
        }
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
            let topic = event.topic_or_all().to_owned();
            let cursor = follower.cursors.get_mut(&(life, topic));
            let cursor = cursor.expect("an event is applied on a topic without position");
            assert_eq!(
                stamp.prev, *cursor,
                "{} is applied, which does not follow",
                stamp.seq
            );
            *cursor = stamp.seq;
            if !follower.loaded {
                self.counts.note("check: resumed from kept positions");
            }
        }
        if follower.loaded {
            self.counts.note("check: held events handed on");
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

    fn check_follower(&self, agent: usize, slot: usize) {
        let Follower {
            recovery,
            cursors,
            promised,
            ..
        } = &self.agents[agent].followers[slot];
        let standing = recovery.standing();
        let options = &self.agents[agent].options;
        assert!(
            standing.held_bytes <= options.held_bytes,
            "it holds too much"
        );
        let Some(positions) = recovery.positions() else {
            assert!(!standing.in_sync);
            return;
        };
        let topics: BTreeMap<&str, u64> = positions
            .topics
            .iter()
            .map(|(name, seq)| (&**name, *seq))
            .collect();
        for (name, seq) in &topics {
            // So it never goes back either: cursors do not.
            let cursor = cursors.get(&(positions.life, name.to_string()));
            assert_eq!(
                Some(seq),
                cursor,
                "the position of {name} is not what was applied"
            );
        }
        if !standing.in_sync {
            return;
        }
        assert_eq!((standing.behind, standing.held_bytes), (0, 0));
        assert!(standing.hello_at.is_some() && standing.proved == standing.hello_at);
        let (life, heads) = promised.as_ref().expect("in sync without a hello");
        if *life != positions.life {
            return;
        }
        for topic in &self.agents[agent].wanted {
            let head = heads.get(topic).copied().unwrap_or(0);
            let position = topics.get(topic).copied();
            assert!(
                position >= Some(head),
                "a{agent}.{slot} is in sync and has {topic} up to {position:?}; the last hello was said at {head}"
            );
        }
    }

    /// The highest versions of all publishers.
    fn truth(&self) -> BTreeMap<Object, u64> {
        let mut truth = BTreeMap::new();
        for (object, row) in self
            .publishers
            .iter()
            .flat_map(|publisher| &publisher.disk.rows)
        {
            let version = truth.entry(object.clone()).or_insert(0);
            *version = row.write.version.max(*version);
        }
        truth
    }

    /// I1: the rows of `agent` are those of the publishers. A fresh agent has exactly these; another
    /// may have what only a state that was lost knew, from before it was lost.
    pub fn check_rows(&mut self, agent: usize, fresh: bool) {
        let truth = self.truth();
        let mut lost = 0;
        for object in &self.objects {
            let model = &self.agents[agent];
            if !model.wanted.contains(object.topic) {
                continue;
            }
            let row = model.replica.get_any("lport", &object.key);
            let has = row.map_or(0, |row| row.stamp.unwrap().version);
            let wanted = truth.get(object).copied().unwrap_or(0);
            let exists = |version: u64| {
                self.written
                    .get(&version)
                    .is_some_and(|write| write.value.is_some())
            };
            if has == wanted || (!exists(has) && !exists(wanted)) {
                continue;
            }
            let stamp = row.and_then(|row| row.stamp).unwrap_or_default();
            let publisher = self
                .publishers
                .iter()
                .find(|model| model.id() == stamp.publisher);
            let excused = has > wanted
                && publisher.is_some_and(|publisher| stamp.incarnation < publisher.complete_since);
            assert!(
                excused && !fresh,
                "a{agent} has {} at version {has} ({stamp:?}), the publishers at {wanted}",
                object.key
            );
            lost += 1;
        }
        (0..lost).for_each(|_| self.counts.note("check: row that only a lost state knew"));
    }

    /// I3: all is live, and there is nothing that was not noticed.
    pub fn check_settled(&self, agent: usize) -> Result<(), String> {
        for (slot, follower) in self.agents[agent].followers.iter().enumerate() {
            let publisher = &self.publishers[self.addresses[slot]];
            let standing = follower.recovery.standing();
            if !standing.in_sync || standing.life != Some(publisher.life()) {
                return Err(format!(
                    "a{agent}.{slot} is not in sync: {:?}",
                    follower.recovery
                ));
            }
            for topic in &self.agents[agent].wanted {
                let cursor = follower.cursors.get(&(publisher.life(), topic.to_string()));
                let head = publisher.topic_head(topic);
                if cursor.is_none_or(|cursor| *cursor < head) {
                    return Err(format!(
                        "a{agent}.{slot} has {topic} up to {cursor:?} of {head}"
                    ));
                }
            }
        }
        Ok(())
    }
}
