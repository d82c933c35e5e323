//! Rows of other publishers.

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::event::EventBatch;
use crate::replica::RowKey;

struct Pair {
    _folders: [TempDir; 2],
    start: Instant,
    histories: [History; 2],
}

fn own(folder: &Path, id: u8) -> Options {
    Options {
        id: Some([id; 16]),
        ..options(folder)
    }
}

impl Pair {
    fn new() -> Pair {
        let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let start = Instant::now();
        let open = |n: usize| {
            let options = own(folders[n].path(), n as u8 + 1);
            History::open(options, at(start, 0)).unwrap()
        };
        Pair {
            histories: [open(0), open(1)],
            _folders: folders,
            start,
        }
    }

    fn write(&mut self, at_which: usize, submission: Submission<'_>, now: u64) -> EventBatch {
        let now = at(self.start, now);
        self.histories[at_which].commit(&[submission], now).unwrap();
        let records = self.histories[at_which].committed().iter();
        records.map(|record| record.event().unwrap()).collect()
    }

    fn merge(&mut self, at_which: usize, events: &EventBatch) -> Merged {
        let now = at(self.start, 1);
        self.histories[at_which].merge(events, now)
    }
}

/// All rows of a topic as a snapshot has them.
fn snapshot(history: &History, topic: &str) -> EventBatch {
    let (mut batch, mut payload) = (EventBatch::new(), Vec::new());
    for (name, _) in history.names(topic, None, usize::MAX) {
        assert!(history.row(topic, &name, &mut payload));
        batch.push(&crate::event::codec::decode(&payload).unwrap());
    }
    batch
}

#[test]
fn a_write_gets_a_version_above_the_peers() {
    let mut pair = Pair::new();
    let far = 9_000_000_000_000_000_000;
    let there = Submission {
        version: Some(far),
        ..set("k", "there", "x")
    };
    let events = pair.write(0, there, 1);
    assert_eq!(pair.merge(1, &events).changed, 1);
    assert_eq!(pair.merge(1, &events).known, 1);
    assert_eq!(pair.histories[1].head(), 0, "it is no event of this one");
    let gone = Submission::of(Event::delete("t", "k").on("x"));
    let events = pair.write(1, gone, 1);
    assert_eq!(events.get(0).unwrap().stamp.unwrap().version, far + 1);
    pair.merge(0, &events);
    for history in &pair.histories {
        assert!(history.rows().get("t", "k").is_none());
    }
}

/// The same version with the same content is acknowledged only when it is kept here too.
#[test]
fn what_only_a_peer_keeps_is_journalled_here() {
    let mut pair = Pair::new();
    let write = || Submission {
        version: Some(5),
        ..set("k", "v", "x")
    };
    let events = pair.write(0, write(), 1);
    pair.merge(1, &events);
    assert_eq!(pair.write(1, write(), 1).len(), 1);
    assert_eq!(pair.histories[1].head(), 1);
}

#[test]
fn what_has_no_stamp_or_this_ones_is_left_out() {
    let mut pair = Pair::new();
    let own = pair.write(0, set("k", "v", "x"), 1);
    let plain: EventBatch = [Event::set("t", "k", "other").on("x")]
        .into_iter()
        .collect();
    for events in [&own, &plain] {
        let merged = pair.merge(0, events);
        assert_eq!((merged.left_out, merged.changed), (1, 0));
    }
    // What it stamped in a life that it does not vouch for may be lost here and kept there.
    let event = own.get(0).unwrap();
    let stamp = Stamp {
        incarnation: 1,
        ..event.stamp.unwrap()
    };
    let lost: EventBatch = [Event {
        key: "lost",
        stamp: Some(stamp),
        ..event
    }]
    .into_iter()
    .collect();
    assert_eq!(pair.merge(0, &lost).changed, 1);
}

#[test]
fn rows_of_peers_survive_a_restart_and_a_broken_disk() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut pair = Pair::new();
    let mut events = pair.write(0, set("a", "1", "x"), 1);
    let batch = pair.write(0, set("b", "1", "y"), 2);
    batch.iter().for_each(|event| {
        events.push(&event);
    });
    let mut history = History::open(own(folder.path(), 9), at(start, 0)).unwrap();
    history.merge(&events, at(start, 3));
    history
        .commit(&[set("own", "1", "x")], at(start, 3))
        .unwrap();
    let all = picture(&history).5;
    assert_eq!(all.len(), 3);
    // Nothing of the peer is on the disk yet.
    history.reopen(at(start, 4)).unwrap();
    assert_eq!(picture(&history).5, all);
    maintain(&mut history, at(start, 60));
    drop(history);
    let history = History::open(own(folder.path(), 9), at(start, 61)).unwrap();
    assert_eq!(picture(&history).5, all, "a flush wrote them");
    assert_eq!(
        history.topics("", 10),
        (vec!["x".into(), "y".into()], false)
    );
    assert_eq!(history.topics("", 1), (vec!["x".into()], true));
    assert_eq!(history.topics("x", 1), (vec!["y".into()], false));
    history.close().unwrap();
    let history = History::open(own(folder.path(), 9), at(start, 62)).unwrap();
    assert_eq!(picture(&history).5, all);
}

#[test]
fn a_row_that_ends_is_a_tombstone_of_its_version() {
    let mut pair = Pair::new();
    let mut all = EventBatch::new();
    for key in ["a", "b", "c"] {
        let events = pair.write(0, set(key, "1", "x"), 1);
        all.push(&events.get(0).unwrap());
    }
    pair.merge(1, &all);
    let before = pair.histories[1].topic_merges("x");
    let (mut after, mut ended): (Option<RowKey>, u64) = (None, 0);
    loop {
        let now = at(pair.start, 2);
        let gone = |name: &RowKey, _: &crate::replica::Row| &*name.key != "b";
        let (some, next) = pair.histories[1].end_rows("x", after.as_ref(), 1, gone, now);
        ended += some;
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    assert_eq!(ended, 2);
    let rows = pair.histories[1].rows();
    assert!(rows.get("t", "b").is_some() && rows.len() == 1);
    assert!(rows.get_any("t", "a").unwrap().is_tombstone());
    // Snapshots that were made before do not do any more.
    assert!(pair.histories[1].topic_merges("x") > before);
    // The same states do not bring them back.
    assert_eq!(pair.merge(1, &all).changed, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, u8, Option<u8>, u8),
    /// One hears what the other sent next, …
    Hear(usize),
    /// … or loads all it has.
    Load(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize, 0..4u8, proptest::option::of(0..3u8), 0..2u8)
            .prop_map(|(at, key, value, topic)| Step::Write(at, key, value, topic)),
        3 => (0..2usize).prop_map(Step::Hear),
        1 => (0..2usize).prop_map(Step::Load),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_heard_first_both_end_with_the_same_rows(steps in vec(step(), 1..40)) {
        const TOPICS: [&str; 2] = ["x", "y"];
        let mut pair = Pair::new();
        let mut sent: [Vec<EventBatch>; 2] = Default::default();
        let mut heard = [0, 0];
        for (now, step) in (1..).zip(steps) {
            match step {
                Step::Write(at_which, key, value, topic) => {
                    let (key, value) = (format!("k{key}"), value.map(|value| format!("v{value}")));
                    let event = match &value {
                        Some(value) => Event::set("t", &key, value),
                        None => Event::delete("t", &key),
                    };
                    let event = event.on(TOPICS[usize::from(topic)]);
                    // Their clocks differ.
                    let now = now * 7 % 11;
                    let batch = pair.write(at_which, Submission::of(event), now);
                    sent[at_which].push(batch);
                }
                Step::Hear(by) => {
                    if let Some(batch) = sent[1 - by].get(heard[by]) {
                        pair.merge(by, batch);
                        heard[by] += 1;
                    }
                }
                Step::Load(by) => {
                    for topic in TOPICS {
                        let rows = snapshot(&pair.histories[1 - by], topic);
                        pair.merge(by, &rows);
                    }
                }
            }
        }
        for by in [0, 1] {
            for batch in &sent[1 - by][heard[by]..] {
                pair.merge(by, batch);
            }
        }
        let rows = |history: &History| -> Vec<(String, Option<String>, bool)> {
            let rows = picture(history).5.into_iter();
            rows.map(|(key, value, _, _, gone)| (key, value, gone)).collect()
        };
        prop_assert_eq!(rows(&pair.histories[0]), rows(&pair.histories[1]));
    }
}
