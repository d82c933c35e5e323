//! What becomes of a submission, and what a restart keeps.

use super::*;
use crate::event::Action;
use crate::replica::Replica;

#[test]
fn stamps_run_and_a_restart_goes_on() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    assert_eq!((history.head(), history.floor()), (0, 1));
    let group = [set("a", "1", "x"), set("b", "1", "y"), set("a", "2", "x")];
    let outcomes = history.commit(&group, at(start, 1)).unwrap();
    let stamps: Vec<_> = outcomes.iter().map(stamp).collect();
    let places: Vec<_> = stamps.iter().map(|s| (s.seq, s.prev)).collect();
    assert_eq!(places, [(1, 0), (2, 0), (3, 1)]);
    assert!(stamps[2].version > stamps[0].version);
    assert!(history.committed().iter().map(|r| r.stamp).eq(stamps));
    let gone = Submission::of(Event::delete("t", "b"));
    history.commit(&[gone], at(start, 2)).unwrap();
    // The delete goes to D, and to the topic where the object was.
    let heads = ["x", "y", "D"].map(|topic| history.topic_head(topic));
    assert_eq!(heads, [3, 4, 5]);
    let before = picture(&history);
    history.close().unwrap();
    let mut other_boot = options(folder.path());
    other_boot.boot = None;
    let mut history = History::open(other_boot, at(start, 3)).unwrap();
    assert_eq!(picture(&history), before);
    assert_eq!(history.rows().len(), 1);
    let outcomes = history.commit(&[set("b", "3", "x")], at(start, 3)).unwrap();
    assert_eq!((stamp(&outcomes[0]).seq, stamp(&outcomes[0]).prev), (6, 3));
}

#[test]
fn versions_decide() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let given = |value, version| Submission {
        version: Some(version),
        ..set("k", value, "x")
    };
    let group = [
        given("b", 5),
        given("b", 5),
        given("a", 5),
        given("c", 5),
        given("z", 4),
    ];
    let outcomes = history.commit(&group, at(start, 1)).unwrap();
    assert_eq!(stamp(&outcomes[0]).version, 5);
    assert_eq!(outcomes[1], Outcome::Duplicate);
    assert_eq!(outcomes[2], Outcome::Older { known: 5 });
    assert_eq!(stamp(&outcomes[3]).seq, 2);
    assert_eq!(outcomes[4], Outcome::Older { known: 5 });
    // The same over groups as within one.
    let outcomes = history
        .commit(&[given("c", 5), given("b", 5)], at(start, 1))
        .unwrap();
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::Older { known: 5 }]);
    let far = 9_000_000_000_000_000_000;
    history.commit(&[given("f", far)], at(start, 1)).unwrap();
    let outcomes = history.commit(&[set("k", "g", "x")], at(start, 1)).unwrap();
    assert_eq!(stamp(&outcomes[0]).version, far + 1);
    let gone = Submission::of(Event::delete("t", "k"));
    let outcomes = history
        .commit(&[gone, given("h", far)], at(start, 1))
        .unwrap();
    assert_eq!(outcomes[1], Outcome::Older { known: far + 2 });
    assert_eq!(history.rows().len(), 0);
}

/// Nothing is above it: who writes is told, and not that it was done.
#[test]
fn an_object_with_the_highest_version_of_all_stays_as_it_is() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let last = Submission {
        version: Some(u64::MAX),
        ..set("k", "a", "x")
    };
    history.commit(&[last], at(start, 1)).unwrap();
    let gone = Submission::of(Event::delete("t", "k").on("x"));
    let group = [set("k", "b", "x"), set("k", "b", "y"), gone, last];
    let outcomes = history.commit(&group, at(start, 2)).unwrap();
    let older = Outcome::Older { known: u64::MAX };
    assert_eq!(outcomes, [older, older, older, Outcome::Duplicate]);
    assert_eq!((history.head(), history.committed().is_empty()), (1, true));
    let row = history.rows().get("t", "k").unwrap();
    assert_eq!((row.value.as_deref(), &*row.topic), (Some("a"), "x"));
}

#[test]
fn numbers_are_taken_once_over_restarts() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let from = |producer: u8, number, value| Submission {
        producer: Some(([producer; 16], number)),
        ..set("k", value, "x")
    };
    let group = [
        from(1, 1, "a"),
        from(1, 1, "a"),
        from(2, 1, "b"),
        from(1, 3, "c"),
    ];
    let outcomes = history.commit(&group, at(start, 1)).unwrap();
    assert_eq!(outcomes[1], Outcome::AlreadyDone);
    assert_eq!(stamp(&outcomes[3]).seq, 3);
    drop(history);
    let mut history = History::open(options(folder.path()), at(start, 2)).unwrap();
    assert_eq!(history.last_number(&[1; 16]), Some(3));
    let outcomes = history
        .commit(&[from(1, 2, "z"), from(2, 2, "d")], at(start, 2))
        .unwrap();
    assert_eq!(outcomes[0], Outcome::AlreadyDone);
    assert_eq!(stamp(&outcomes[1]).seq, 4);
    maintain(&mut history, at(start, 100_000));
    assert_eq!(history.last_number(&[1; 16]), None);
    drop(history);
    let history = History::open(options(folder.path()), at(start, 100_001)).unwrap();
    assert_eq!(history.last_number(&[1; 16]), None);
}

#[test]
fn producers_are_bounded() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let group: Vec<_> = (0..20_000u128)
        .map(|n| Submission {
            producer: Some((n.to_be_bytes(), 1)),
            ..set("k", "v", "x")
        })
        .collect();
    history.commit(&group, at(start, 1)).unwrap();
    maintain(&mut history, at(start, 1));
    assert_eq!(history.state.producers.len(), 16_384);
}

#[test]
fn what_is_no_change_of_a_row_is_passed_on() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let other = Submission::of(Event {
        action: Action::Other("log"),
        ..Event::set("t", "k", "v")
    });
    stamp(&history.commit(&[other], at(start, 1)).unwrap()[0]);
    drop(history);
    let history = History::open(options(folder.path()), at(start, 1)).unwrap();
    assert_eq!((history.head(), history.rows().len()), (1, 0));
}

#[test]
fn tombstones_last_their_time() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.tombstone_ttl = Duration::from_secs(100);
    let mut history = History::open(options.clone(), at(start, 0)).unwrap();
    history.commit(&[set("k", "v", "x")], at(start, 1)).unwrap();
    let gone = Submission::of(Event::delete("t", "k"));
    history.commit(&[gone], at(start, 10)).unwrap();
    maintain(&mut history, at(start, 50));
    drop(history);
    let mut history = History::open(options.clone(), at(start, 60)).unwrap();
    maintain(&mut history, at(start, 109));
    assert!(history.rows().get_any("t", "k").is_some());
    maintain(&mut history, at(start, 120));
    assert!(history.rows().get_any("t", "k").is_none());
    history.close().unwrap();
    let history = History::open(options, at(start, 121)).unwrap();
    assert!(
        history.rows().get_any("t", "k").is_none(),
        "nor in the database"
    );
}

#[test]
fn an_idle_history_has_no_chores() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.max_age = Duration::from_secs(5);
    let mut history = History::open(options, at(start, 0)).unwrap();
    history.commit(&[set("k", "v", "x")], at(start, 1)).unwrap();
    assert_eq!(maintain(&mut history, at(start, 2)), 0);
    history.commit(&[set("k", "w", "x")], at(start, 3)).unwrap();
    assert_eq!(maintain(&mut history, at(start, 60)), 1);
    assert_eq!((history.floor(), history.head()), (2, 2));
    history.options.faults.full_after(0);
    for second in 61..200 {
        history.maintain(at(start, second)).unwrap();
    }
    history.options.faults.heal();
    history
        .commit(&[set("k", "x", "x")], at(start, 200))
        .unwrap();
    assert_eq!(maintain(&mut history, at(start, 201)), 1);
}

/// Another publisher changed the row meanwhile, and whoever follows the old topic only has heard that.
#[test]
fn a_row_that_changes_its_topic_leaves_all_that_is_older_than_the_new_state() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    history.commit(&[set("k", "a", "x")], at(start, 1)).unwrap();
    let theirs = Stamp {
        publisher: [9; 16],
        version: at(start, 3).unix_micros - 1,
        ..Stamp::default()
    };
    let other = |stamp| Event {
        stamp: Some(stamp),
        ..Event::set("t", "k", "other").on("x")
    };
    history.commit(&[set("k", "b", "y")], at(start, 3)).unwrap();
    let sent: Vec<_> = history.committed().iter().collect();
    let (leave, set) = (sent[0].event().unwrap(), sent[1].event().unwrap());
    for order in [[other(theirs), leave], [leave, other(theirs)]] {
        let mut old_only = Replica::new();
        for event in &order {
            old_only.apply(event, start);
        }
        assert!(old_only.is_empty(), "it is on the other topic");
    }
    for order in [[other(theirs), leave, set], [set, leave, other(theirs)]] {
        let mut both = Replica::new();
        for event in &order {
            both.apply(event, start);
        }
        assert_eq!(&*both.get("t", "k").unwrap().topic, "y");
    }
    // What is newer than the new state stands.
    let newer = Stamp {
        version: theirs.version + 1,
        ..theirs
    };
    let mut old_only = Replica::new();
    for event in [other(newer), leave] {
        old_only.apply(&event, start);
    }
    assert_eq!(old_only.len(), 1);
}

/// Where only the delete was heard yet, of a clock that is ahead, what is written is above both.
#[test]
fn what_follows_another_ones_leave_has_not_the_version_of_the_state_behind_it() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let ahead = at(start, 100).unix_micros;
    let leave = Event {
        stamp: Some(Stamp {
            publisher: [9; 16],
            version: ahead - 1,
            ..Stamp::default()
        }),
        ..Event::delete("t", "k").on("x")
    };
    history.merge(&[leave].into_iter().collect(), at(start, 1));
    let outcomes = history.commit(&[set("k", "a", "x")], at(start, 2)).unwrap();
    assert!(stamp(&outcomes[0]).version > ahead);
}

#[test]
fn a_row_that_changes_its_topic_leaves_the_old_one() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = History::open(options(folder.path()), at(start, 0)).unwrap();
    let given = |value, topic, version| Submission {
        version: Some(version),
        ..set("k", value, topic)
    };
    history.commit(&[given("a", "x", 5)], at(start, 1)).unwrap();
    // The same version on another topic is no change that all could be told of: it is not made, and
    // whoever wanted it is told so.
    let group = [given("a", "y", 5), given("b", "y", 5), given("b", "y", 6)];
    let outcomes = history.commit(&group, at(start, 2)).unwrap();
    assert_eq!(outcomes[0], Outcome::Older { known: 5 });
    assert_eq!(outcomes[1], Outcome::Older { known: 5 });
    let set = stamp(&outcomes[2]);
    assert_eq!((set.seq, set.prev, set.version), (3, 0, 6));
    let sent: Vec<_> = history.committed().iter().collect();
    let leave = sent[0].event().unwrap();
    assert_eq!((leave.action, leave.topic), (Action::Delete, Some("x")));
    let leave = sent[0].stamp;
    assert_eq!((leave.seq, leave.prev, leave.version), (2, 1, 5));
    assert_eq!((sent.len(), sent[1].stamp), (2, set));
    // A delete leaves it, too, and who deleted is told of the delete.
    let gone = Submission::of(Event::delete("t", "k").on("z"));
    let outcomes = history.commit(&[gone], at(start, 3)).unwrap();
    assert_eq!(stamp(&outcomes[0]).seq, 5);
    assert_eq!((history.topic_head("y"), history.topic_head("z")), (4, 5));
    let rows = ["x", "y", "z"].map(|topic| history.topic_rows(topic));
    assert_eq!(rows, [0, 0, 1]);
    let before = picture(&history);
    drop(history);
    let history = History::open(options(folder.path()), at(start, 4)).unwrap();
    assert_eq!(picture(&history), before);
}
