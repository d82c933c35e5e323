use std::fs;

use super::*;
use crate::agent::follower::Rows;
use crate::agent::recovery::Life;
use crate::event::Stamp;

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
    let hub = Hub::new();
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
    hub.publish(events.into_iter().collect());
    let positions = vec![Positions {
        life: Life {
            publisher: [7; 16],
            incarnation: 3,
        },
        topics: vec![("t1".into(), 2), ("D".into(), 0)],
    }];
    let shared = Arc::new(Shared::new(
        Arc::clone(&hub) as Arc<dyn Rows>,
        0,
        Duration::ZERO,
        positions.clone(),
    ));
    let options = Options {
        folder: folder.into(),
        every: Duration::from_secs(3600),
    };
    let mut checkpoints = Checkpoints::start(options, &hub, &shared).unwrap();
    checkpoints.finish();
    assert!(checkpoints.join_by(Instant::now() + Duration::from_secs(10)));
    assert_eq!(checkpoints.metrics.rows.get(), 2);
    positions
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
        assert_eq!(gone.stamp, stamped(2));
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
