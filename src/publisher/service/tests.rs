//! The service over a network in memory.

use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::event::hello::{Hello, MAX_RECENT, topic_hash};
use crate::event::topic::HELLO;
use crate::event::{Event, Stamp, codec};
use crate::publisher::history::{Durability, Moment, Options};
use crate::publisher::requests::{RequestOptions, Requests};
use crate::publisher::submit::{Answer, Head, Item, Reply, encode};
use crate::pubsub::driver::memory::MemoryNetwork;
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{PubSubApi, PubSubError, PublisherOptions};
use crate::util::testing::{self, patience, within};

/// What was sent: topic and payload, hellos too.
type Sent = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A publisher that writes down what it sends.
struct Recorder {
    inner: Box<dyn PublisherApi>,
    sent: Sent,
    /// Events cannot be sent; hellos can.
    failing: bool,
}

impl PublisherApi for Recorder {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        self.inner.initialize()
    }

    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        if self.failing && topic != HELLO {
            return Err(PubSubError::Misuse("told to fail"));
        }
        let entry = (topic.to_owned(), payload.to_vec());
        self.sent.lock().unwrap().push(entry);
        self.inner.send_payload(topic, payload)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

struct Rig {
    folder: TempDir,
    /// Its disk fails when it is told to.
    disk: Options,
    sent: Sent,
    pushed: Sender<EventBatch>,
    submitted: Sender<Submitted>,
    monitored: Sender<EventBatch>,
}

fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder.join("publisher.redb"));
    options.id = Some([7; 16]);
    options
}

/// What a service is made of, and the other ends.
fn parts(selective: bool, failing: bool) -> (Parts, Rig) {
    let folder = tempfile::tempdir().unwrap();
    let sent = Sent::default();
    let mut inner = MemoryNetwork::new()
        .publisher(&PublisherOptions {
            endpoint: Endpoint::Memory { name: "p".into() },
            send_hwm: 1_000,
            subscriptions: true,
            send_timeout: Duration::ZERO,
            linger: Duration::ZERO,
            socket_group: None,
            socket_users: Default::default(),
            key: None,
            peers: Default::default(),
        })
        .unwrap();
    inner.initialize().unwrap();
    let publisher = Recorder {
        inner,
        sent: Arc::clone(&sent),
        failing,
    };
    let (push_to, pushed) = bounded(64);
    let (submit_to, submitted) = bounded(64);
    let (monitor_to, monitored) = bounded(64);
    let mut disk = options(folder.path());
    disk.durability = Durability::Sync;
    let parts = Parts {
        publisher: Box::new(publisher),
        history: History::open(disk.clone(), Moment::now()).unwrap(),
        pushed,
        submitted,
        monitored,
        asks: crossbeam_channel::never(),
        heard: crossbeam_channel::never(),
        sync_endpoint: "tcp://*:8867".into(),
        cuts: Default::default(),
        permits: Default::default(),
        rules: Rules {
            version_field: None,
            selective,
        },
        hello_interval: Duration::from_millis(50),
        max_idle_time: Duration::from_secs(60),
    };
    let rig = Rig {
        folder,
        disk,
        sent,
        pushed: push_to,
        submitted: submit_to,
        monitored: monitor_to,
    };
    (parts, rig)
}

impl Rig {
    /// The events sent so far: topic, key and stamp.
    fn events(&self) -> Vec<(String, String, Stamp)> {
        let sent = self.sent.lock().unwrap();
        let events = sent.iter().filter(|(topic, _)| topic != HELLO);
        let events = events.map(|(topic, payload)| {
            let event = codec::decode(payload).unwrap();
            (topic.clone(), event.key.to_owned(), event.stamp.unwrap())
        });
        events.collect()
    }

    fn hellos(&self) -> Vec<Hello> {
        let sent = self.sent.lock().unwrap();
        let hellos = sent.iter().filter(|(topic, _)| topic == HELLO);
        hellos
            .map(|(_, payload)| Hello::decode(payload).unwrap())
            .collect()
    }

    fn history(&self) -> History {
        History::open(options(self.folder.path()), Moment::now()).unwrap()
    }
}

fn batch<'a>(events: impl IntoIterator<Item = Event<'a>>) -> EventBatch {
    let mut batch = EventBatch::new();
    for event in events {
        batch.push(&event);
    }
    batch
}

fn soon() -> Instant {
    testing::deadline()
}

/// A request socket before a service, and a client without rules.
struct Front {
    _folder: TempDir,
    _requests: Requests,
    peer: zmq::Socket,
}

impl Front {
    fn new(sink: Sender<Submitted>) -> Front {
        let folder = tempfile::tempdir().unwrap();
        let (path, context) = (folder.path().join("p.sock.req"), zmq::Context::new());
        let requests = Requests::start(&context, &path, &RequestOptions::default(), sink).unwrap();
        let peer = context.socket(zmq::DEALER).unwrap();
        peer.set_linger(0).unwrap();
        peer.set_rcvtimeo(patience().as_millis() as i32).unwrap();
        peer.connect(&format!("ipc://{}", path.display())).unwrap();
        Front {
            _folder: folder,
            _requests: requests,
            peer,
        }
    }

    /// One event, the producer's number `first`, of whom nothing is acknowledged.
    fn send(&self, first: u64, key: &str) {
        let mut payload = Vec::new();
        codec::encode(&Event::set("t", key, "v"), &mut payload);
        let head = Head {
            tag: 1,
            producer: [2; 16],
            floor: 1,
            first,
        };
        let item = Item {
            version: None,
            payload: &payload,
        };
        let mut request = Vec::new();
        encode(&head, std::iter::once(item), usize::MAX, &mut request);
        self.peer.send(request, 0).unwrap();
    }

    fn answer(&self) -> Reply {
        Answer::decode(&self.peer.recv_bytes(0).unwrap())
            .unwrap()
            .reply
    }
}

fn accepted(upto: u64) -> Reply {
    Reply::Accepted {
        upto,
        refused: Vec::new(),
    }
}

#[test]
fn what_is_pushed_and_monitored_is_stamped_in_order() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    rig.pushed
        .send(batch([
            Event::set("t", "a", "1").on("x"),
            Event::set("t", "b", "1").on("y"),
            Event::set("t", "c", "1"),
        ]))
        .unwrap();
    within("the first batch", || rig.events().len() == 3);
    rig.monitored
        .send(batch([
            Event::set("t", "a", "2").on("x"),
            Event::delete("t", "c"),
        ]))
        .unwrap();
    within("the second batch", || rig.events().len() == 5);
    let events = rig.events();
    let places: Vec<_> = events
        .iter()
        .map(|(topic, key, stamp)| (topic.as_str(), key.as_str(), stamp.seq, stamp.prev))
        .collect();
    assert_eq!(
        places,
        [
            ("x", "a", 1, 0),
            ("y", "b", 2, 0),
            ("D", "c", 3, 0),
            ("x", "a", 4, 1),
            ("D", "c", 5, 3),
        ]
    );
    assert!(events[3].2.version > events[0].2.version);
    within("a hello follows", || {
        rig.hellos().last().is_some_and(|hello| hello.head == 5)
    });
    assert!(service.stop_by(soon()));
    let history = rig.history();
    assert_eq!(history.head(), 5);
    assert_eq!(
        history.rows().get("t", "a").unwrap().stamp,
        Some(events[3].2)
    );
    assert_eq!(service.metrics.events_published_total.get(), 5);
    assert_eq!(service.metrics.head_seq.get(), 5);
}

#[test]
fn without_selection_everything_goes_to_everyone() {
    let (parts, rig) = parts(false, false);
    let mut service = Service::start(parts).unwrap();
    let events = ["a", "b", "c"].map(|key| Event::set("t", key, "1").on(key));
    rig.pushed.send(batch(events)).unwrap();
    assert!(service.stop_by(soon()));
    let places: Vec<_> = rig
        .events()
        .into_iter()
        .map(|(topic, _, stamp)| (topic, stamp.seq, stamp.prev))
        .collect();
    let all = |seq| ("D".to_owned(), seq, seq - 1);
    assert_eq!(places, [all(1), all(2), all(3)]);
}

#[test]
fn what_nobody_can_subscribe_to_is_left_out() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    rig.pushed
        .send(batch([
            Event::set("t", "a", "1").on(HELLO),
            Event::set("", "b", "1"),
            Event::set("t", "c", "1").on(&"x".repeat(241)),
            Event::set("t", "good", "1").on("x"),
        ]))
        .unwrap();
    assert!(service.stop_by(soon()));
    let keys: Vec<_> = rig.events().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["good"]);
}

#[test]
fn a_hole_in_a_producers_numbers_is_told_and_nothing_of_it_taken() {
    let (parts, rig) = parts(true, false);
    let _service = Service::start(parts).unwrap();
    let front = Front::new(rig.submitted.clone());
    front.send(3, "early");
    assert_eq!(front.answer(), Reply::Expect { number: 1 });
    front.send(1, "one");
    assert_eq!(front.answer(), accepted(1));
    // Sent again: done already, and not sent to anybody again.
    front.send(1, "one");
    assert_eq!(front.answer(), accepted(1));
    front.send(3, "early");
    assert_eq!(front.answer(), Reply::Expect { number: 2 });
    front.send(2, "two");
    assert_eq!(front.answer(), accepted(2));
    let keys: Vec<_> = rig.events().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["one", "two"]);
}

#[test]
fn an_event_that_cannot_be_sent_is_durable_and_acknowledged() {
    let (parts, rig) = parts(true, true);
    let mut service = Service::start(parts).unwrap();
    let front = Front::new(rig.submitted.clone());
    front.send(1, "one");
    assert_eq!(front.answer(), accepted(1));
    // It is found missing by the hello.
    within("a hello follows", || {
        rig.hellos().last().is_some_and(|hello| hello.head == 1)
    });
    assert_eq!(service.metrics.sends_failed_total.get(), 1);
    assert!(service.stop_by(soon()));
    assert!(rig.history().rows().get("t", "one").is_some());
}

/// Clients keep what is not acknowledged; what others pushed is nowhere else.
#[test]
fn at_the_end_clients_are_sent_away_and_the_rest_is_published() {
    let (parts, rig) = parts(true, false);
    let (stop, stopped) = bounded(1);
    let front = Front::new(rig.submitted.clone());
    front.send(1, "submitted");
    within("the request waits", || !rig.submitted.is_empty());
    rig.pushed
        .send(batch([Event::set("t", "pushed", "1")]))
        .unwrap();
    let metrics = Arc::new(ServiceMetrics::default());
    let mut worker = Worker::new(
        parts,
        stopped,
        metrics,
        Arc::default(),
        Arc::default(),
        Arc::default(),
        Arc::default(),
    );
    drop(stop);
    worker.finish(soon());
    match front.answer() {
        Reply::Busy { reason, .. } => assert_eq!(reason, "the service is stopping"),
        other => panic!("{other:?}"),
    }
    let keys: Vec<_> = rig.events().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["pushed"]);
    assert_eq!(worker.history.last_number(&[2; 16]), None);
}

/// While nothing is accepted what workers push waits in a queue. At the end it is published if that is
/// possible in time, and counted if not.
#[test]
fn what_waits_while_nothing_is_accepted_is_not_forgotten_at_the_end() {
    for heals in [true, false] {
        let (parts, rig) = parts(true, false);
        let (_stop, stopped) = bounded(1);
        let front = Front::new(rig.submitted.clone());
        let metrics = Arc::new(ServiceMetrics::default());
        let mut worker = Worker::new(
            parts,
            stopped,
            Arc::clone(&metrics),
            Arc::default(),
            Arc::default(),
            Arc::default(),
            Arc::default(),
        );
        // Nothing is left of this group: its client comes again.
        rig.disk.faults.fail_sync();
        front.send(1, "submitted");
        within("the request waits", || !rig.submitted.is_empty());
        assert!(worker.fill());
        worker.commit();
        assert!(rig.disk.faults.hits() > 0);
        assert!(matches!(front.answer(), Reply::Busy { .. }));
        for key in ["a", "b", "c"] {
            let event = Event::set("t", key, "1");
            rig.pushed.send(batch([event])).unwrap();
        }
        let monitored = batch([Event::set("t", "d", "1")]);
        rig.monitored.send(monitored).unwrap();
        assert!(!worker.fill(), "they are taken all the same");
        if heals {
            rig.disk.faults.heal();
            worker.finish(soon());
            let keys: Vec<_> = rig.events().into_iter().map(|(_, key, _)| key).collect();
            // That group may be in the journal all the same.
            let keys = keys
                .strip_prefix(&["submitted".to_owned()])
                .unwrap_or(&keys);
            assert_eq!(keys, ["a", "b", "c", "d"]);
            assert_eq!(metrics.events_lost_total.get(), 0);
        } else {
            worker.finish(Instant::now() + Duration::from_secs(1));
            assert!(rig.events().is_empty());
            assert_eq!(metrics.events_lost_total.get(), 4);
        }
    }
}

/// One that never stops submitting must not keep the service from its clean end.
#[test]
fn the_end_does_not_wait_for_clients() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    let front = Front::new(rig.submitted.clone());
    front.send(1, "one");
    assert_eq!(front.answer(), accepted(1));
    let begun = Instant::now();
    assert!(service.stop_by(soon()));
    assert!(begun.elapsed() < patience() / 4);
    // The request socket is still there, and says that nobody is behind it.
    front.send(1, "one");
    assert!(matches!(front.answer(), Reply::Busy { .. }));
    let mut elsewhere = options(rig.folder.path());
    elsewhere.boot = Some([9; 16]);
    let incarnation = rig.hellos()[0].incarnation;
    let history = History::open(elsewhere, Moment::now()).unwrap();
    assert_eq!(history.incarnation(), incarnation, "no clean end");
}

/// One commit, after which the chores are not what is to fail.
fn warm_up(rig: &Rig, metrics: &ServiceMetrics) {
    let event = Event::set("t", "before", "0").on("x");
    rig.pushed.send(batch([event])).unwrap();
    // It is known after the chores.
    within("it works", || metrics.head_seq.get() == 1);
}

/// The values of the events sent so far, in order, with their numbers.
fn values(rig: &Rig) -> Vec<(String, u64)> {
    let sent = rig.sent.lock().unwrap();
    let events = sent.iter().filter(|(topic, _)| topic != HELLO);
    let events = events.map(|(_, payload)| {
        let event = codec::decode(payload).unwrap();
        let value = event.value.unwrap_or_default().to_owned();
        (value, event.stamp.unwrap().seq)
    });
    events.collect()
}

/// An fsync that fails may leave the group in the file. What workers pushed is then neither
/// journalled nor sent twice, and no object's state goes back.
#[test]
fn a_group_whose_fsync_failed_is_sent_once_and_in_order() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    let metrics = Arc::clone(&service.metrics);
    let front = Front::new(rig.submitted.clone());
    let set = |key, value| Event::set("t", key, value).on("x");
    warm_up(&rig, &metrics);

    rig.disk.faults.fail_last_sync();
    let states = ["1", "2", "3"].map(|value| set("k", value));
    rig.pushed.send(batch(states)).unwrap();
    within("it stalls", || metrics.stalled.get() == 1);
    assert!(rig.disk.faults.hits() > 0);
    assert!(metrics.stalled_since_seconds.get() > 1_600_000_000);
    // Nothing is sent before it is durable.
    assert_eq!(values(&rig).len(), 1);
    front.send(1, "submitted");
    match front.answer() {
        Reply::Busy { reason, .. } => assert!(reason.contains("journal"), "{reason}"),
        other => panic!("{other:?}"),
    }
    within("it is tried again and again", || {
        metrics.commits_failed_total.get() >= 3
    });
    rig.disk.faults.heal();
    rig.pushed.send(batch([set("k", "4")])).unwrap();
    within("it goes on", || metrics.stalled.get() == 0);
    assert_eq!(metrics.stalled_since_seconds.get(), 0);
    assert_eq!(metrics.stalls_total.get(), 1);
    // What this test is about has happened.
    assert_eq!(metrics.recovered_total.get(), 3);
    within("the last is sent", || values(&rig).len() >= 5);
    let expected = ["0", "1", "2", "3", "4"].map(str::to_owned).into_iter();
    let expected: Vec<_> = expected.zip(1..).collect();
    assert_eq!(values(&rig), expected);
    assert!(service.stop_by(soon()));
    assert_eq!(rig.history().head(), 5);
}

/// Damage that is met while the service runs is told like that of a start.
#[test]
fn a_journal_that_is_damaged_while_it_runs_is_told() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    let metrics = Arc::clone(&service.metrics);
    warm_up(&rig, &metrics);
    assert_eq!(metrics.state_begun_anew.get(), 0);
    let incarnation = metrics.incarnation.get();
    rig.disk.faults.fail_last_sync();
    let event = Event::set("t", "k", "1").on("x");
    rig.pushed.send(batch([event])).unwrap();
    within("it stalls", || metrics.stalled.get() == 1);
    std::fs::write(&rig.disk.path, b"something else\n".repeat(2000)).unwrap();
    rig.disk.faults.heal();
    within("it goes on", || metrics.stalled.get() == 0);
    assert_eq!(metrics.state_begun_anew.get(), 1);
    within("it is another life", || {
        metrics.incarnation.get() > incarnation
    });
    assert!(service.stop_by(soon()));
}

/// Where the group that was journalled all the same cannot be read, it is not sent: agents are told that
/// something has moved, and not on which topics.
#[test]
fn what_could_not_be_sent_from_the_journal_is_asked_for() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    let metrics = Arc::clone(&service.metrics);
    let set = |key, value| Event::set("t", key, value).on("x");
    warm_up(&rig, &metrics);
    within("a hello tells of it", || {
        rig.hellos().last().is_some_and(|hello| hello.head == 1)
    });
    rig.disk.faults.fail_last_sync();
    rig.pushed.send(batch([set("k", "1")])).unwrap();
    within("it stalls", || metrics.stalled.get() == 1);
    assert!(rig.disk.faults.hits() > 0);
    rig.disk.faults.fail_replays(true);
    rig.disk.faults.heal();
    let tells = |hello: &Hello| hello.head == 2;
    within("a hello tells of it", || rig.hellos().iter().any(tells));
    rig.disk.faults.fail_replays(false);
    rig.pushed.send(batch([set("other", "1").on("y")])).unwrap();
    within("it goes on", || metrics.stalled.get() == 0);
    within("the last is sent", || values(&rig).len() >= 2);
    assert!(service.stop_by(soon()));
    // What this test is about has happened: the second event was never sent.
    assert_eq!(metrics.recovered_total.get(), 0);
    let seqs: Vec<_> = values(&rig).into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, [1, 3]);
    // Whoever knows of the first has to ask.
    let hellos = rig.hellos();
    let first = hellos.iter().find(|hello| tells(hello)).unwrap();
    assert_eq!((first.since, first.recent.as_slice()), (2, &[][..]));
}

/// The same for a client: it sends again what was not acknowledged, which is done already.
#[test]
fn a_client_whose_group_was_journalled_all_the_same_is_acknowledged_once() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    let metrics = Arc::clone(&service.metrics);
    let front = Front::new(rig.submitted.clone());
    warm_up(&rig, &metrics);
    rig.disk.faults.fail_last_sync();
    front.send(1, "one");
    assert!(matches!(front.answer(), Reply::Busy { .. }));
    assert!(rig.disk.faults.hits() > 0);
    rig.disk.faults.heal();
    within("the journal is open", || metrics.reopened_total.get() > 0);
    front.send(1, "one");
    assert_eq!(front.answer(), accepted(1));
    front.send(2, "two");
    assert_eq!(front.answer(), accepted(2));
    assert_eq!(metrics.recovered_total.get(), 1);
    let keys: Vec<_> = rig.events().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["before", "one", "two"]);
    assert!(service.stop_by(soon()));
}

#[test]
fn a_hello_lists_what_moved_since_the_last_and_says_when_it_was_more() {
    let (parts, rig) = parts(true, false);
    let mut service = Service::start(parts).unwrap();
    within("the first hello", || !rig.hellos().is_empty());
    let mut heads = Vec::new();
    for round in 0..3 {
        let topics: Vec<_> = (0..[2, MAX_RECENT, MAX_RECENT + 1][round])
            .map(|topic| format!("{round}-{topic}"))
            .collect();
        let events = topics
            .iter()
            .map(|topic| Event::set("t", topic, "1").on(topic));
        let before = rig.hellos().last().map_or(0, |hello| hello.head);
        rig.pushed.send(batch(events)).unwrap();
        let head = before + topics.len() as u64;
        heads.push((before, head, topics));
        within("a hello follows", || {
            rig.hellos().last().is_some_and(|hello| hello.head == head)
        });
    }
    assert!(service.stop_by(soon()));
    let hellos = rig.hellos();
    for (round, (before, head, topics)) in heads.into_iter().enumerate() {
        let hello = hellos.iter().find(|hello| hello.head == head).unwrap();
        assert_eq!(hello.sync_endpoint, "tcp://*:8867");
        assert_eq!((hello.since, hello.overflow), (before, round == 2));
        assert_eq!(hello.recent.len(), topics.len().min(MAX_RECENT));
        for (hash, seq) in &hello.recent {
            assert!(topics.iter().any(|topic| topic_hash(topic) == *hash));
            assert!((before + 1..=head).contains(seq));
        }
    }
    // Told once.
    assert!(hellos.last().unwrap().recent.is_empty());
}

/// Rows of other publishers need no journal: those who bring them do not wait for a broken disk, and
/// nothing of them is lost when it is well again.
#[test]
fn rows_of_peers_are_taken_while_nothing_is_accepted() {
    let (mut parts, rig) = parts(true, false);
    let (heard, inbox) = crate::publisher::peers::channel();
    parts.heard = inbox;
    let mut service = Service::start(parts).unwrap();
    let (metrics, peers) = (Arc::clone(&service.metrics), Arc::clone(&service.peers));
    warm_up(&rig, &metrics);
    rig.disk.faults.fail_last_sync();
    rig.pushed
        .send(batch([Event::set("t", "own", "1").on("x")]))
        .unwrap();
    within("it stalls", || metrics.stalled.get() == 1);
    assert!(rig.disk.faults.hits() > 0);
    let keys: Vec<String> = (0..200).map(|number| format!("k{number}")).collect();
    for (seq, key) in (1..).zip(&keys) {
        let stamp = Stamp {
            publisher: [8; 16],
            incarnation: 3,
            seq,
            prev: seq - 1,
            version: seq,
            unix_micros: Moment::now().unix_micros,
        };
        let event = Event {
            stamp: Some(stamp),
            ..Event::set("t", key, "theirs").on("y")
        };
        let rows = crate::publisher::peers::Heard::Rows(batch([event]));
        heard.send_timeout(rows, patience()).unwrap();
    }
    within("all are taken", || peers.rows_changed_total.get() == 200);
    assert_eq!(metrics.stalled.get(), 1);
    rig.disk.faults.heal();
    within("it goes on", || metrics.stalled.get() == 0);
    within("its own is sent", || rig.events().len() == 2);
    assert!(service.stop_by(soon()));
    let history = rig.history();
    assert_eq!(history.topic_rows("y"), 200);
    assert_eq!(history.head(), 2, "they are no events of this one");
    let row = history.rows().get("t", "k0").unwrap();
    assert_eq!(row.stamp.unwrap().publisher, [8; 16]);
}
