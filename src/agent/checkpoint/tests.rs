use std::fs;

use super::*;
use crate::agent::follower::Rows;
use crate::agent::recovery::Life;
use crate::event::Stamp;
use crate::util::testing::within;

fn stamped(seq: u64) -> Option<Stamp> {
    Some(Stamp {
        publisher: [7; 16],
        incarnation: 3,
        seq,
        prev: 0,
        version: seq,
        unix_micros: 1,
    })
}

fn topics() -> HashSet<String> {
    ["t1".to_owned(), "D".to_owned()].into()
}

fn written(folder: &Path) -> Vec<Positions> {
    let events = [
        Event {
            stamp: stamped(1),
            ..Event::set("lport", "kept", "{}").on("t1")
        },
        Event {
            stamp: stamped(2),
            ..Event::delete("lport", "gone").on("t1")
        },
        Event::set("lport", "legacy", "x"),
    ];
    let (hub, positions) = (Hub::new(), positions());
    hub.publish(events.into_iter().collect());
    let metrics = write(folder, &hub, &positions);
    assert_eq!((metrics.rows.get(), metrics.failed_total.get()), (2, 0));
    positions
}

fn positions() -> Vec<Positions> {
    vec![Positions {
        life: Life {
            publisher: [7; 16],
            incarnation: 3,
        },
        topics: vec![("t1".into(), 2), ("D".into(), 0)],
    }]
}

fn write(folder: &Path, hub: &Arc<Hub>, positions: &[Positions]) -> Arc<CheckpointMetrics> {
    let shared = Arc::new(Shared::new(
        Arc::clone(hub) as Arc<dyn Rows>,
        0,
        Duration::ZERO,
        positions.to_vec(),
    ));
    let options = Options {
        folder: folder.into(),
        every: Duration::from_secs(3600),
    };
    let mut checkpoints = Checkpoints::start(options, hub, &shared).unwrap();
    checkpoints.finish();
    assert!(checkpoints.join_by(Instant::now() + Duration::from_secs(60)));
    Arc::clone(&checkpoints.metrics)
}

#[test]
fn what_was_known_is_known_again_tombstones_too() {
    let folder = tempfile::tempdir().unwrap();
    let positions = written(folder.path());
    let hub = Hub::new();
    assert_eq!(restore(folder.path(), &topics(), &hub), positions);
    hub.with_replica(|replica| {
        assert_eq!(replica.len(), 1);
        let kept = replica.get("lport", "kept").unwrap();
        assert_eq!((kept.stamp, &*kept.topic), (stamped(1), "t1"));
        let gone = replica.get_any("lport", "gone").unwrap();
        assert!(gone.is_tombstone());
        let (stamp, sent) = (gone.stamp.unwrap(), stamped(2).unwrap());
        let unix_micros = stamp.unix_micros;
        assert_eq!(
            stamp,
            Stamp {
                unix_micros,
                ..sent
            }
        );
    });
}

#[test]
fn what_is_not_wanted_any_more_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let hub = Hub::new();
    let positions = restore(folder.path(), &["D".to_owned()].into(), &hub);
    assert_eq!(positions[0].topics, [("D".into(), 0)]);
    assert!(hub.with_replica(|replica| replica.is_empty()));
}

#[test]
fn nothing_of_a_damaged_or_foreign_file_is_used() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let path = folder.path().join(NAME);
    let good = fs::read(&path).unwrap();
    let unused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let hub = Hub::new();
        assert_eq!(restore(folder.path(), &topics(), &hub), []);
        assert!(hub.with_replica(|replica| replica.is_empty()));
    };
    for cut in 0..good.len() {
        unused(&good[..cut]);
    }
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 0x40;
        unused(&bad);
    }
    unused(&[&good[..], b"more"].concat());
    fs::remove_file(&path).unwrap();
    assert_eq!(restore(folder.path(), &topics(), &Hub::new()), []);
}

/// As often as an agent may be restarted, an object is gone since it went.
#[test]
fn tombstones_grow_older_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let hub = Hub::new();
    // The one was deleted long ago, the other by a clock that is ahead, the third went just now with
    // the version that it has.
    let ages = |micros: u64| Stamp {
        unix_micros: micros,
        ..stamped(2).unwrap()
    };
    let now = Clock::now().unix_micros;
    let day = 24 * hour.as_micros() as u64;
    let gone = |key, stamp| Event {
        stamp: Some(stamp),
        ..Event::delete("lport", key).on("t1")
    };
    let old = [gone("old", ages(now - day)), gone("ahead", ages(now + day))];
    let restored = Clock::now();
    hub.restore(old.into_iter().collect(), |stamp| {
        restored.instant_of(stamp.unix_micros)
    });
    hub.publish([gone("swept", ages(1))].into_iter().collect());
    let left = |hub: &Hub| {
        let names = hub.with_replica(|replica| replica.keys_any(|_| true));
        let mut keys: Vec<_> = names.iter().map(|name| name.key.to_string()).collect();
        keys.sort();
        keys
    };
    let mut life = hub;
    for _ in 0..3 {
        write(folder.path(), &life, &positions());
        life = Hub::new();
        restore(folder.path(), &topics(), &life);
        assert_eq!(left(&life), ["ahead", "old", "swept"]);
        life.forget(25 * hour);
        assert_eq!(left(&life), ["ahead", "old", "swept"]);
    }
    life.forget(23 * hour);
    assert_eq!(left(&life), ["ahead", "swept"]);
    life.forget(Duration::ZERO);
    assert_eq!(left(&life), Vec::<String>::new());
}

/// The lengths of the sections with rows.
fn row_sections(file: &[u8]) -> Vec<usize> {
    let mut sections = Vec::new();
    let mut rest = &file[12..];
    while let [kind, a, b, c, d, more @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *kind == 2 {
            sections.push(length);
        }
        rest = &more[length..];
        if *kind == 3 {
            break;
        }
    }
    sections
}

/// Together they are more than a section may have.
#[test]
fn rows_as_large_as_messages_may_be_stand_together() {
    const LARGE: usize = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (hub, value) = (Hub::new(), "x".repeat(LARGE));
    let publish = |key: &str, value: &str, seq| {
        let event = Event::set("lport", key, value).on("t1");
        let event = Event {
            stamp: stamped(seq),
            ..event
        };
        hub.publish([event].into_iter().collect());
    };
    for seq in 1..=18 {
        publish(&seq.to_string(), &value, seq);
    }
    for seq in 100..400 {
        publish(&seq.to_string(), "small", seq);
    }
    let metrics = write(folder.path(), &hub, &positions());
    assert_eq!((metrics.rows.get(), metrics.failed_total.get()), (318, 0));
    let sections = row_sections(&fs::read(folder.path().join(NAME)).unwrap());
    assert!(sections.iter().all(|length| *length < LARGE + (1 << 20)));
    assert!(sections.len() < 25, "small rows share a section");
    let again = Hub::new();
    assert_eq!(restore(folder.path(), &topics(), &again), positions());
    let rows = |replica: &Replica| {
        let names = replica.keys(|_, _| true);
        let length = |name| replica.event(name).value.map(str::len);
        let mut rows: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), length(name)))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(again.with_replica(rows), hub.with_replica(rows));
}

/// The rows of a topic go after the positions were noted.
#[test]
fn what_is_left_while_one_is_written_is_not_in_it() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new());
    let kept = Positions {
        life: Life {
            publisher: [7; 16],
            incarnation: 3,
        },
        topics: vec![("t1".into(), 2), ("D".into(), 0)],
    };
    let rows = Arc::clone(&hub) as Arc<dyn Rows>;
    let shared = Arc::new(Shared::new(rows, 0, Duration::ZERO, vec![kept]));
    let mut worker = Worker {
        file: AtomicFile::new(folder.path().join(NAME), 0o600).unwrap(),
        hub: Arc::clone(&hub),
        shared: Arc::clone(&shared),
        last: None,
        metrics: Arc::default(),
    };
    let metrics = Arc::clone(&worker.metrics);
    std::thread::scope(|scope| {
        // It waits for the rows.
        hub.with_replica(|_| {
            scope.spawn(|| worker.write());
            within("something is written", || {
                fs::read_dir(folder.path()).unwrap().next().is_some()
            });
            shared.forget("t1");
        });
    });
    let counted = (metrics.written_total.get(), metrics.failed_total.get());
    assert_eq!(counted, (1, 0));
    let positions = restore(folder.path(), &topics(), &Hub::new());
    assert_eq!(positions[0].topics, [("D".into(), 0)]);
}
