//! Tests of the history: what it promises over restarts, crashes, trimming and failing disks.

mod crash;
pub(super) mod faults;
mod model;
mod peers;
mod rules;
mod tail;

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::event::{Event, Stamp};

/// A clock that tests turn themselves.
pub(super) fn at(start: Instant, seconds: u64) -> Moment {
    Moment {
        unix_micros: 1_700_000_000_000_000 + seconds * 1_000_000,
        instant: start + Duration::from_secs(seconds),
    }
}

pub(super) fn options(folder: &Path) -> Options {
    Options {
        id: Some([7; 16]),
        boot: Some([1; 16]),
        // They copy files to have them as they are after a kill.
        notice_copies: false,
        ..Options::new(folder.join("publisher.redb"))
    }
}

/// What is on the disk of a history that lives, was killed or was closed; then it has no tail.
pub(super) fn copy_files(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let tail = super::tail::path;
    if tail(from).exists() {
        std::fs::copy(tail(from), tail(to)).unwrap();
    }
}

pub(super) fn set<'a>(key: &'a str, value: &'a str, topic: &'a str) -> Submission<'a> {
    Submission::of(Event::set("t", key, value).on(topic))
}

pub(super) fn stamp(outcome: &Outcome) -> Stamp {
    match outcome {
        Outcome::Stamped(stamp) => *stamp,
        other => panic!("not stamped: {other:?}"),
    }
}

/// Every row, tombstones too: key, value, topic, stamp, whether it is gone.
type Rows = Vec<(String, Option<String>, String, Option<Stamp>, bool)>;

/// All that a restart must keep.
pub(super) fn picture(history: &History) -> (u64, u64, u64, u64, Vec<(String, u64)>, Rows) {
    let mut heads: Vec<_> = history
        .topic_heads()
        .map(|(topic, seq)| (topic.to_owned(), seq))
        .collect();
    heads.sort();
    let rows = history.rows();
    let mut all: Rows = rows
        .keys_any(|_| true)
        .iter()
        .map(|name| {
            let row = rows.get_any(&name.table, &name.key).unwrap();
            let (value, topic) = (row.value.clone(), row.topic.to_string());
            let key = format!("{}/{}", name.table, name.key);
            (key, value, topic, row.stamp, row.is_tombstone())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    (
        history.incarnation(),
        history.head(),
        history.floor(),
        history.journal_bytes(),
        heads,
        all,
    )
}

/// Runs chores until none are left.
pub(super) fn maintain(history: &mut History, now: Moment) -> u64 {
    let mut trimmed = 0;
    loop {
        let done = history.maintain(now).unwrap();
        trimmed += done.trimmed;
        if !done.more {
            return trimmed;
        }
    }
}

/// All events after `after`, asked for in pieces; `None` when they are gone.
pub(super) fn replayed(history: &History, topic: Option<&str>, after: u64) -> Option<Vec<Stamp>> {
    let (mut all, mut after) = (Vec::new(), after);
    while after < history.head() {
        match history.replay(topic, after, 700).unwrap() {
            Replay::Gone => return None,
            Replay::Events { records, upto } => {
                assert!(upto > after);
                for record in records.iter() {
                    let event = record.event().unwrap();
                    assert_eq!(event.stamp, Some(record.stamp));
                    assert_eq!(event.topic_or_all(), record.topic);
                    all.push(record.stamp);
                }
                after = upto;
            }
        }
    }
    Some(all)
}
