//! Any order of commits, chores, restarts and crashes against a simple model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::record::{self, Records};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Key, version, topic, whether it is a delete.
    Commit(Vec<(u8, Option<u64>, u8, bool)>),
    Maintain(u64),
    Reopen,
    Crash,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (
        0..6u8,
        proptest::option::of(1..20u64),
        0..4u8,
        any::<bool>(),
    );
    let step = prop_oneof![
        6 => proptest::collection::vec(one, 1..8).prop_map(Step::Commit),
        3 => (1..40u64).prop_map(Step::Maintain),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Version, deleted, value: in the order of what wins.
type State = (u64, bool, Option<String>);

struct Model {
    /// Key → state and topic.
    rows: BTreeMap<u8, (State, String)>,
    events: Vec<(String, Stamp)>,
    /// What agents have that follow these topics only.
    agents: [(&'static [&'static str], Replica); 4],
}

impl Default for Model {
    fn default() -> Self {
        let all: &[&str] = &["0", "1", "2", "3"];
        let agents = [&all[..1], &all[1..2], &all[..2], all];
        Model {
            rows: BTreeMap::new(),
            events: Vec::new(),
            agents: agents.map(|topics| (topics, Replica::new())),
        }
    }
}

impl Model {
    /// The number of the next event on `topic`, and that of the last one.
    fn next(&self, topic: &str) -> (u64, u64) {
        let prev = self.events.iter().rfind(|(name, _)| *name == topic);
        let prev = prev.map_or(0, |(_, stamp)| stamp.seq);
        (self.events.len() as u64 + 1, prev)
    }

    /// The agents are sent what was committed.
    fn hear(&mut self, history: &History) {
        for record in history.committed().iter() {
            for (topics, replica) in &mut self.agents {
                if topics.contains(&record.topic) {
                    replica.apply(&record.event().unwrap(), Instant::now());
                }
            }
        }
    }
}

fn check(history: &History, model: &Model) {
    assert_eq!(history.head(), model.events.len() as u64);
    assert_eq!(
        history.rows().len(),
        model.rows.values().filter(|(row, _)| !row.1).count()
    );
    for (key, ((version, deleted, value), topic)) in &model.rows {
        let row = history.rows().get_any("t", &key.to_string()).unwrap();
        assert_eq!(
            (row.stamp.unwrap().version, row.is_tombstone()),
            (*version, *deleted)
        );
        assert_eq!((&row.value, &*row.topic), (value, topic.as_str()));
    }
    for (topics, replica) in &model.agents {
        // As fresh agents of these topics have it.
        let rows = model.rows.iter();
        let rows = rows.filter(|(_, (row, topic))| !row.1 && topics.contains(&topic.as_str()));
        let rows: Vec<_> = rows.map(|(key, _)| key.to_string()).collect();
        let keys = replica.keys(|_, _| true);
        let mut keys: Vec<_> = keys.iter().map(|name| name.key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, rows, "followers of {topics:?}");
    }
    check_names(history, &["0", "1", "2", "3"]);
    let floor = history.floor();
    for topic in [
        None,
        Some("0"),
        Some("1"),
        Some("2"),
        Some("3"),
        Some("none"),
    ] {
        let of = |name: &str| topic.is_none_or(|topic| topic == name);
        for after in 0..=history.head() {
            let wanted = model
                .events
                .iter()
                .filter(|(name, stamp)| of(name) && stamp.seq > after);
            let wanted: Vec<_> = wanted.map(|(_, stamp)| *stamp).collect();
            let gone = wanted.first().is_some_and(|stamp| stamp.seq < floor);
            assert_eq!(replayed(history, topic, after), (!gone).then_some(wanted));
        }
    }
}

/// The rows of all topics, by slices, are all rows.
fn check_names(history: &History, topics: &[&str]) {
    let (mut found, mut payload) = (Vec::new(), Vec::new());
    for topic in topics {
        let mut after = None;
        loop {
            let names = history.names(topic, after.as_ref(), 2);
            let Some((last, _)) = names.last().cloned() else {
                break;
            };
            for (name, _) in names {
                assert!(history.row(topic, &name, &mut payload));
                let event = crate::event::codec::decode(&payload).unwrap();
                let row = history.rows().get_any(&name.table, &name.key).unwrap();
                assert_eq!(
                    (event.topic, event.value),
                    (Some(*topic), row.value.as_deref())
                );
                assert_eq!(event.stamp, row.stamp);
                found.push(name);
            }
            after = Some(last);
        }
    }
    let mut all = history.rows().keys_any(|_| true);
    all.sort();
    found.sort();
    assert_eq!(found, all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_the_model_is(steps in steps(), max_events in 1..30u64, tail_bytes in 4_000..9_000u64) {
        let (mut folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.max_events = max_events;
        options.tail_bytes = tail_bytes;
        let (mut clock, mut model) = (1, Model::default());
        let mut history = History::open(options.clone(), at(start, 0)).unwrap();
        let incarnation = history.incarnation();
        for step in steps {
            match step {
                Step::Commit(events) => {
                    let events: Vec<_> = events.into_iter().enumerate().map(|(n, (key, version, topic, delete))| {
                        (key, key.to_string(), version, topic.to_string(), (!delete).then(|| format!("{clock}.{n}")))
                    }).collect();
                    let group: Vec<_> = events.iter().map(|(_, key, version, topic, value)| {
                        let event = match value {
                            Some(value) => Event::set("t", key, value),
                            None => Event::delete("t", key),
                        };
                        Submission { version: *version, ..Submission::of(event.on(topic)) }
                    }).collect();
                    let outcomes = history.commit(&group, at(start, clock)).unwrap();
                    for ((key, _, version, topic, value), outcome) in events.into_iter().zip(outcomes) {
                        let row = model.rows.get(&key);
                        let version = version.unwrap_or_else(|| {
                            at(start, clock).unix_micros.max(row.map_or(0, |(row, _)| row.0 + 1))
                        });
                        let new = (version, value.is_none(), value);
                        let from = row.filter(|(old, from)| !old.1 && *from != topic).cloned();
                        let same = from.as_ref().is_some_and(|(old, _)| old.0 == version);
                        let stamped = row.is_none_or(|(row, _)| new > *row) && (new.1 || !same);
                        prop_assert_eq!(stamped, matches!(outcome, Outcome::Stamped(_)));
                        if stamped {
                            let stamp = stamp(&outcome);
                            if let Some((old, from)) = &from {
                                // It leaves the one topic before it is on the other.
                                let (seq, prev) = model.next(from);
                                let leave = Stamp { seq, prev, version: old.0.max(version - 1), ..stamp };
                                model.events.push((from.clone(), leave));
                            }
                            let (seq, prev) = model.next(&topic);
                            prop_assert_eq!((stamp.seq, stamp.prev, stamp.version), (seq, prev, version));
                            let place = match from.filter(|_| same) {
                                Some((_, from)) => from,
                                None => topic.clone(),
                            };
                            model.rows.insert(key, (new, place));
                            model.events.push((topic, stamp));
                        }
                    }
                    model.hear(&history);
                }
                Step::Maintain(seconds) => {
                    clock += seconds;
                    maintain(&mut history, at(start, clock));
                }
                Step::Reopen => assert_eq!(history.reopen(at(start, clock)).unwrap(), 0),
                Step::Crash => {
                    let next = tempfile::tempdir().unwrap();
                    let path = next.path().join("publisher.redb");
                    copy_files(&options.path, &path);
                    options.path = path;
                    history = History::open(options.clone(), at(start, clock)).unwrap();
                    folder = next;
                }
                Step::Restart => {
                    history.close().unwrap();
                    history = History::open(options.clone(), at(start, clock)).unwrap();
                }
            }
            clock += 1;
        }
        prop_assert_eq!(history.incarnation(), incarnation);
        check(&history, &model);
        drop(folder);
    }

    #[test]
    fn garbage_is_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut records = Records::new(&bytes);
        let taken: usize = records.by_ref().map(|record| record.raw.len()).sum();
        prop_assert!(taken <= bytes.len());
        prop_assert_eq!(records.is_whole(), taken == bytes.len());
        let _ = record::last_stamp(&bytes);
    }

    #[test]
    fn what_is_pushed_is_read(topic in ".{0,20}", more in proptest::collection::vec(any::<u8>(), 0..50), cut in 1..60usize) {
        let mut payload = more;
        payload.extend_from_slice(&Stamp { seq: 9, ..Stamp::default() }.to_bytes());
        let mut blob = Vec::new();
        prop_assert!(record::push(&topic, &payload, &mut blob) && record::push(&topic, &payload, &mut blob));
        let mut records = Records::new(&blob);
        for record in records.by_ref() {
            prop_assert_eq!((record.topic, record.payload, record.stamp.seq), (&*topic, &*payload, 9));
        }
        prop_assert!(records.is_whole());
        let mut records = Records::new(&blob[..blob.len() - cut]);
        prop_assert!(records.by_ref().count() < 2 && !records.is_whole());
    }
}

#[test]
fn a_large_group_is_many_blobs() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.max_bytes = 1 << 20;
    let mut history = History::open(options.clone(), at(start, 0)).unwrap();
    let value = "v".repeat(1000);
    let group: Vec<_> = (0..3_000).map(|_| set("k", &value, "x")).collect();
    history.commit(&group, at(start, 1)).unwrap();
    assert!(maintain(&mut history, at(start, 2)) > 0);
    assert!(history.journal_bytes() <= 1 << 20 && history.journal_bytes() > 700 << 10);
    let before = picture(&history);
    drop(history);
    let history = History::open(options, at(start, 3)).unwrap();
    assert_eq!(picture(&history), before);
}

#[test]
fn forgotten_topics_are_never_taken_for_complete() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.max_events = 50_000;
    let mut history = History::open(options.clone(), at(start, 0)).unwrap();
    let topics: Vec<_> = (0..100_100).map(|n| n.to_string()).collect();
    let group: Vec<_> = topics.iter().map(|topic| set(topic, "v", topic)).collect();
    for group in group.chunks(500) {
        history.commit(group, at(start, 1)).unwrap();
    }
    maintain(&mut history, at(start, 2));
    maintain(&mut history, at(start, 3));
    assert_eq!(history.topic_heads().count(), 90_000);
    drop(history);
    let mut history = History::open(options, at(start, 4)).unwrap();
    let forgotten = history.topic_head("0");
    assert_eq!(forgotten, 10_100);
    assert_eq!(replayed(&history, Some("0"), 0), None);
    let outcome = history.commit(&[set("0", "w", "0")], at(start, 5)).unwrap();
    assert_eq!(stamp(&outcome[0]).prev, forgotten);
    assert_eq!(replayed(&history, Some("0"), 0), None);
}
