//! The desk before a history, without a socket.

use std::collections::VecDeque;

use tempfile::TempDir;

use super::ask::Ask;
use super::desk::Action;
use super::waiters::Waiter;
use super::*;
use crate::event::Event;
use crate::publisher::history::{History, Moment, Options, Submission};
use crate::sync::{Answer, Digest, Request, answer};

struct Rig {
    _folder: TempDir,
    history: History,
    desk: Desk,
    metrics: Arc<SyncMetrics>,
    now: Instant,
    /// Questions that are not answered yet.
    asks: VecDeque<(u64, Ask)>,
    /// Client, tag and answer.
    sent: Vec<(u8, u64, Answer)>,
}

impl Rig {
    fn new(options: SyncOptions) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut history = Options::new(folder.path().join("publisher.redb"));
        history.id = Some([7; 16]);
        let metrics = Arc::new(SyncMetrics::default());
        let now = Instant::now();
        Rig {
            history: History::open(history, Moment::now()).unwrap(),
            _folder: folder,
            desk: Desk::new(&options, Arc::clone(&metrics), now, Rng::with_seed(1)),
            metrics,
            now,
            asks: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    fn publish(&mut self, topic: &str, keys: std::ops::Range<usize>, value: &str) {
        let keys: Vec<_> = keys.map(|number| format!("k{number}")).collect();
        let group: Vec<_> = keys
            .iter()
            .map(|key| Submission::of(Event::set("t", key, value).on(topic)))
            .collect();
        self.history.commit(&group, Moment::now()).unwrap();
    }

    fn see(&mut self) {
        for action in self.desk.actions() {
            match action {
                Action::Ask(ticket, ask) => self.asks.push_back((ticket, ask)),
                Action::Send(client, tag, body) => {
                    let mut body = body.to_vec();
                    answer::set_tag(tag, &mut body);
                    let (tag, answer) = answer::decode(&body).unwrap();
                    self.sent.push((client[0], tag, answer));
                }
            }
        }
    }

    fn request(&mut self, client: u8, tag: u64, request: Request) {
        self.request_of(&[client], client, tag, request);
    }

    fn request_of(&mut self, owner: &[u8], client: u8, tag: u64, request: Request) {
        let waiter = Waiter {
            client: [client].into(),
            owner: owner.into(),
            address: None,
            tag,
        };
        self.desk.request(waiter, (request, Vec::new()), self.now);
        self.see();
    }

    /// The history answers what it was asked, and what follows from that.
    fn answer(&mut self) {
        while let Some((ticket, ask)) = self.asks.pop_front() {
            let told = ask.answer(&self.history).unwrap();
            self.told(ticket, told);
        }
    }

    fn told(&mut self, ticket: u64, told: Told) {
        self.desk.told(ticket, told, self.now);
        self.see();
    }

    fn only(&mut self) -> Answer {
        let (_, _, answer) = self.sent.pop().unwrap();
        assert!(self.sent.is_empty(), "{:?}", self.sent);
        answer
    }

    /// Fetches a snapshot; gives its id and rows.
    fn snapshot(&mut self, client: u8) -> (u64, u64) {
        let (mut chunk, mut digest) = (None, Digest::default());
        loop {
            self.request(client, 1, snapshot(chunk));
            self.answer();
            let answer = self.only();
            let Answer::Rows {
                id,
                chunk: number,
                total,
                rows,
                ..
            } = answer
            else {
                panic!("{answer:?}");
            };
            digest.add(&rows);
            if let Some(total) = total {
                assert_eq!(total, (digest.rows, digest.sum));
                return (id, digest.rows);
            }
            chunk = Some((id, number + 1));
        }
    }
}

fn snapshot(chunk: Option<(u64, u32)>) -> Request {
    Request::Snapshot {
        topic: "x".into(),
        chunk,
    }
}

fn replay(rig: &Rig, after: u64) -> Request {
    Request::Replay {
        incarnation: rig.history.incarnation(),
        topic: "x".into(),
        after,
    }
}

#[test]
fn those_who_ask_for_the_same_wait_for_it_together() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..10, "v");
    for client in 0..5 {
        rig.request(client, 100 + u64::from(client), replay(&rig, 0));
    }
    assert_eq!(rig.asks.len(), 1);
    rig.answer();
    assert_eq!(rig.sent.len(), 5);
    for (client, tag, answer) in &rig.sent {
        assert_eq!(*tag, 100 + u64::from(*client));
        assert_eq!(answer, &rig.sent[0].2);
    }
    assert_eq!(rig.metrics.sync_built_total.get(), 1);
    rig.sent.clear();
    // The last events: kept for a moment, whatever has come since.
    rig.publish("x", 10..11, "v");
    rig.request(9, 1, replay(&rig, 0));
    assert!(matches!(
        rig.only(),
        Answer::Events {
            upto: 10,
            last: 10,
            ..
        }
    ));
    rig.now += Duration::from_millis(60);
    rig.request(9, 1, replay(&rig, 0));
    rig.answer();
    assert!(matches!(
        rig.only(),
        Answer::Events {
            upto: 11,
            last: 11,
            ..
        }
    ));
    // That there is nothing is never kept.
    rig.request(9, 1, replay(&rig, 11));
    rig.answer();
    rig.publish("x", 11..12, "v");
    rig.request(9, 1, replay(&rig, 11));
    rig.answer();
    let (_, _, answer) = rig.sent.pop().unwrap();
    assert!(
        matches!(answer, Answer::Events { upto: 12, .. }),
        "{answer:?}"
    );
}

#[test]
fn one_client_cannot_fill_the_waiting_room() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..100, "v");
    for after in 0..100 {
        rig.request(1, after, replay(&rig, after));
    }
    let told_to_wait = rig.sent.len();
    assert!(
        rig.sent
            .iter()
            .all(|sent| matches!(sent.2, Answer::RetryAfter(_)))
    );
    assert_eq!((told_to_wait, rig.asks.len()), (84, 16));
    rig.sent.clear();
    rig.request(2, 1, replay(&rig, 50));
    assert_eq!((rig.sent.len(), rig.asks.len()), (0, 17));
    rig.answer();
    assert_eq!(rig.sent.len(), 17);
    rig.sent.clear();
    rig.request(1, 1, replay(&rig, 99));
    assert_eq!(rig.asks.len(), 1, "it may ask again");
}

#[test]
fn a_node_with_many_connections_leaves_room_for_others() {
    let mut rig = Rig::new(SyncOptions {
        max_snapshots: 2,
        ..SyncOptions::default()
    });
    rig.publish("x", 0..2_000, "v");
    for _ in 0..20 {
        for client in 0..16 {
            // Always the first chunk, which brings it no further.
            rig.request_of(b"n1", client, 1, snapshot(None));
            rig.answer();
            let (_, _, answer) = rig.sent.pop().unwrap();
            if let Answer::Rows { id, .. } = answer {
                rig.request_of(b"n1", client, 1, snapshot(Some((id, 0))));
                rig.answer();
            }
        }
        rig.sent.clear();
        rig.now += Duration::from_secs(20);
        assert_eq!(rig.snapshot(99).1, 2_000);
        rig.desk.tick(rig.now);
    }
    assert!(rig.metrics.sync_silent_total.get() >= 5);
}

#[test]
fn rows_are_named_in_slices_and_cut_into_chunks() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..2_500, "v");
    rig.publish("y", 0..10, "v");
    assert_eq!(rig.snapshot(1).1, 2_490);
    let many = rig.metrics.sync_built_total.get();
    assert_eq!(many, 2_490_u64.div_ceil(512));
    // Large rows: few in a chunk, one at least.
    rig.publish("x", 0..40, &"v".repeat(100 << 10));
    rig.publish("x", 40..41, &"v".repeat(1 << 20));
    rig.now += FRESH_AND_MORE;
    assert_eq!(rig.snapshot(1).1, 2_500);
    let more = rig.metrics.sync_built_total.get() - many;
    // Twenty of two rows each, and what stands between them.
    assert!((20..30).contains(&more), "{more}");
}

const FRESH_AND_MORE: Duration = Duration::from_millis(1_100);

#[test]
fn a_snapshot_is_shared_until_something_moves() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..1_000, "v");
    let (first, _) = rig.snapshot(1);
    rig.publish("x", 0..1, "w");
    assert_eq!(rig.snapshot(2).0, first, "it is fresh");
    rig.now += FRESH_AND_MORE;
    let (second, _) = rig.snapshot(3);
    assert_ne!(second, first);
    rig.now += FRESH_AND_MORE;
    assert_eq!(rig.snapshot(4).0, second, "nothing has moved");
    // To another topic: no event on this one says so.
    rig.publish("y", 0..1, "w");
    rig.now += FRESH_AND_MORE;
    let (third, rows) = rig.snapshot(5);
    assert_eq!((third != second, rows), (true, 999));
    rig.request(1, 1, snapshot(Some((first, 1))));
    assert_eq!(rig.only(), Answer::Lapsed);
}

#[test]
fn a_history_that_fails_costs_a_retry_and_no_place() {
    let mut rig = Rig::new(SyncOptions {
        max_snapshots: 1,
        ..SyncOptions::default()
    });
    rig.publish("x", 0..2_000, "v");
    for client in 1..4 {
        rig.request(client, 1, snapshot(None));
        if client == 1 {
            let (ticket, _) = rig.asks.pop_front().unwrap();
            rig.told(ticket, Told::Broken);
        }
        rig.answer();
        let (_, _, answer) = rig.sent.pop().unwrap();
        match client {
            1 | 3 => assert!(matches!(answer, Answer::RetryAfter(_)), "{answer:?}"),
            _ => assert!(
                matches!(answer, Answer::Rows { chunk: 0, .. }),
                "{answer:?}"
            ),
        }
        rig.sent.clear();
    }
    // The same in the middle: what was begun is void.
    let (id, last) = (rig.desk_snapshot(2), 3);
    rig.request(2, 1, snapshot(Some((id, last))));
    let (ticket, _) = rig.asks.pop_front().unwrap();
    rig.told(ticket, Told::Broken);
    assert_eq!(rig.only(), Answer::Lapsed);
    assert_eq!(rig.snapshot(3).1, 2_000);
}

impl Rig {
    /// The snapshot a client is in the middle of, by asking for its first chunk again.
    fn desk_snapshot(&mut self, client: u8) -> u64 {
        self.request(client, 1, snapshot(None));
        match self.only() {
            Answer::Rows { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_life_of_the_history_ends_what_was_begun() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..2_000, "v");
    rig.request(1, 1, snapshot(None));
    rig.answer();
    let Answer::Rows {
        id, incarnation, ..
    } = rig.only()
    else {
        panic!("no rows");
    };
    rig.request(1, 2, snapshot(Some((id, 3))));
    let (ticket, _) = rig.asks.pop_front().unwrap();
    let rows = crate::sync::Packed::default();
    let incarnation = incarnation + 1;
    rig.told(ticket, Told::Rows { incarnation, rows });
    assert_eq!(rig.only(), Answer::Lapsed);
    assert_ne!(rig.snapshot(1).0, id);
}

#[test]
fn what_is_kept_is_bounded() {
    let limit = 64 << 10;
    let mut rig = Rig::new(SyncOptions {
        cache_bytes: limit,
        max_snapshots: 1,
        ..SyncOptions::default()
    });
    // Cannot be compressed to nothing.
    let value: String = (0..500).map(|_| fastrand::alphanumeric()).collect();
    rig.publish("x", 0..2_000, &value);
    for after in 0..300 {
        rig.now += Duration::from_millis(1);
        rig.request(1, 1, replay(&rig, after));
        rig.answer();
        assert!(rig.metrics.sync_cache_bytes.get() <= limit as u64);
    }
    rig.sent.clear();
    // What is fetched stays, and another is not begun before it is.
    rig.request(1, 1, snapshot(None));
    rig.answer();
    let Answer::Rows { id, chunks, .. } = rig.only() else {
        panic!("no rows");
    };
    rig.publish("x", 0..1, "w");
    rig.now += FRESH_AND_MORE;
    rig.request(1, 1, snapshot(None));
    rig.answer();
    assert!(rig.metrics.sync_cache_bytes.get() >= limit as u64);
    let refused = rig.only();
    assert!(matches!(refused, Answer::RetryAfter(_)), "{refused:?}");
    rig.request(1, 1, snapshot(Some((id, chunks - 1))));
    rig.answer();
    assert!(matches!(
        rig.only(),
        Answer::Rows {
            total: Some((2_000, _)),
            ..
        }
    ));
    rig.desk.tick(rig.now);
    assert!(rig.metrics.sync_cache_bytes.get() <= limit as u64);
}

/// Rows of other publishers have no seq here, and still make an old snapshot an old one.
#[test]
fn a_snapshot_has_what_was_merged_since_the_last_one() {
    let mut rig = Rig::new(SyncOptions::default());
    rig.publish("x", 0..3, "1");
    let (first, _) = rig.snapshot(1);
    rig.now += Duration::from_secs(2);
    assert_eq!(rig.snapshot(1), (first, 3), "nothing has moved");
    let stamp = crate::event::Stamp {
        publisher: [9; 16],
        incarnation: 1,
        seq: 1,
        prev: 0,
        version: 1 << 62,
        unix_micros: 1,
    };
    // The number of rows stays.
    let event = Event {
        stamp: Some(stamp),
        ..Event::set("t", "k0", "theirs").on("x")
    };
    let merged = rig
        .history
        .merge(&[event].into_iter().collect(), Moment::now());
    assert_eq!(merged.changed, 1);
    // What it sent itself is replayed, and does without another snapshot for a while; what others sent
    // is not.
    rig.now += Duration::from_millis(500);
    let (second, rows) = rig.snapshot(1);
    assert_eq!(rows, 3);
    assert_ne!(second, first);
    rig.publish("x", 0..1, "2");
    rig.now += Duration::from_millis(500);
    assert_eq!(rig.snapshot(1), (second, 3));
    rig.now += Duration::from_secs(2);
    assert_ne!(rig.snapshot(1).0, second);
}

#[test]
fn topics_are_listed_in_pages() {
    let mut rig = Rig::new(SyncOptions::default());
    let count = crate::sync::MAX_TOPICS + 5;
    let names: Vec<String> = (0..count).map(|number| format!("t{number:05}")).collect();
    let group = names.iter().map(|name| Event::set("t", name, "1").on(name));
    let group: Vec<_> = group.map(Submission::of).collect();
    rig.history.commit(&group, Moment::now()).unwrap();
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        rig.request(
            1,
            1,
            Request::Topics {
                after: after.clone(),
            },
        );
        rig.answer();
        let Answer::Topics { topics, more, .. } = rig.only() else {
            panic!("no topics");
        };
        all.extend(topics);
        after = all.last().unwrap().clone();
        if !more {
            break;
        }
    }
    assert_eq!(all.len(), count);
    assert!(all.is_sorted());
    assert_eq!(rig.metrics.sync_topics_total.get(), 2);
}
