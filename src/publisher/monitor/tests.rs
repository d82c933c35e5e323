use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::store::driver::memory::MemoryStore;
use crate::store::publisher_row::id_text;
use crate::store::{PUBLISHER_TABLE, PublisherRow, StoreError};
use crate::util::pulse::Watched;
use crate::util::testing::{at_most, patience, within};

const ID: [u8; 16] = [1; 16];

fn options(tables: &[&str], known: Option<BTreeMap<String, String>>) -> MonitorOptions {
    MonitorOptions {
        tables: tables.iter().map(|table| (*table).into()).collect(),
        poll_time: Duration::from_millis(10),
        publisher_timeout: Duration::from_millis(300),
        identity: Identity {
            id: ID,
            uri: "tcp://a:1".into(),
            incarnation: 1,
            instance: 1,
        },
        known: Box::new(move |_| known.clone()),
        seed: Some(1),
    }
}

fn start(options: MonitorOptions, store: &MemoryStore, events: Sender<EventBatch>) -> Monitors {
    Monitors::start(options, Arc::new(store.clone()), events).unwrap()
}

fn next(events: &Receiver<EventBatch>) -> Vec<String> {
    let batch = events.recv_timeout(patience()).unwrap();
    let shown = batch.iter().map(|event| {
        let value = event.value.unwrap_or("-");
        format!(
            "{} {} {} {value}",
            event.action.as_str(),
            event.table,
            event.key
        )
    });
    shown.collect()
}

#[test]
fn differences_are_published_and_a_failing_store_never_ends_it() {
    let store = MemoryStore::new();
    store.set("t", "same", "1").unwrap();
    store.set("t", "new", "1").unwrap();
    let known = BTreeMap::from([("same".into(), "1".into()), ("old".into(), "1".into())]);
    store.fail_next(20);
    let (sender, events) = bounded(8);
    let monitors = start(options(&["t", "t", ""], Some(known)), &store, sender);
    assert_eq!(next(&events), ["create t new 1", "delete t old -"]);
    assert_eq!(store.happened().failed, 20);
    assert!(monitors.metrics.polls_failed_total.get() > 0);
    store.fail_next(u64::MAX);
    let before = store.happened().failed;
    within("failures", || store.happened().failed > before + 20);
    store.fail_next(0);
    store.set("t", "same", "2").unwrap();
    assert_eq!(next(&events), ["set t same 2"]);
    assert!(monitors.thread.is_running());
    // Counted once they are handed over.
    within("the count", || {
        monitors.metrics.changes_published_total.get() == 3
    });
}

/// The store of a new disk, or another one by mistake.
#[test]
fn an_empty_store_ends_no_row_that_is_published() {
    let store = MemoryStore::new();
    let known = BTreeMap::from([("old".into(), "1".into())]);
    let (sender, events) = bounded(8);
    let monitors = start(options(&["t"], Some(known)), &store, sender);
    let metrics = &monitors.metrics;
    within("it is looked at", || metrics.polls_total.get() >= 5);
    within("it is doubted", || metrics.tables_doubted.get() == 1);
    assert!(events.is_empty(), "{:?}", next(&events));
    store.set("t", "new", "1").unwrap();
    assert_eq!(next(&events), ["create t new 1", "delete t old -"]);
    within("it is believed", || metrics.tables_doubted.get() == 0);
}

#[test]
fn stale_publishers_are_removed_and_the_own_lease_is_kept_while_nobody_takes_events() {
    let store = MemoryStore::new();
    let own = id_text(&ID);
    let row = |at: f64| format!(r#"{{"id":"x","uri":"u","last_activity_timestamp":{at}}}"#);
    let future = unix_seconds() + 60.0;
    store.set(PUBLISHER_TABLE, "stale", &row(1.0)).unwrap();
    store.set(PUBLISHER_TABLE, "odd", &row(future)).unwrap();
    store.set("t", "a", "1").unwrap();
    // Nobody ever receives and there is no room: the thread waits with its first batch.
    let (sender, _events) = bounded(0);
    let monitors = start(options(&["t"], Some(BTreeMap::new())), &store, sender);
    let metrics = Arc::clone(&monitors.metrics);
    within("renewals", || metrics.lease_renewals_total.get() >= 4);
    let row = store.get(PUBLISHER_TABLE, &own).unwrap().unwrap();
    let row = PublisherRow::parse(&row).unwrap();
    assert!(unix_seconds() - row.last_activity_timestamp.unwrap() < 5.0);
    assert_eq!(store.get(PUBLISHER_TABLE, "stale").unwrap(), None);
    assert!(store.get(PUBLISHER_TABLE, "odd").unwrap().is_some());
    assert_eq!(metrics.publishers_removed_total.get(), 1);
    assert_eq!(metrics.changes_published_total.get(), 0);
    let stopping = Instant::now();
    drop(monitors);
    assert!(
        stopping.elapsed() < at_most(CLOSE_WITHIN),
        "a full channel holds it up"
    );
    // The row outlives a clean stop.
    assert!(store.get(PUBLISHER_TABLE, &own).unwrap().is_some());
}

#[test]
fn large_differences_come_in_bounded_batches_and_in_order() {
    let store = MemoryStore::new();
    let keys: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    for key in &keys {
        store.set("t", key, "1").unwrap();
    }
    let (sender, events) = bounded(1);
    let _monitors = start(options(&["t"], Some(BTreeMap::new())), &store, sender);
    let mut got = Vec::new();
    while got.len() < keys.len() {
        let batch = events.recv_timeout(patience()).unwrap();
        assert!(batch.len() <= 256);
        got.extend(batch.iter().map(|event| event.key.to_owned()));
    }
    assert_eq!(got, keys);
}

/// A store that answers nobody while its gate is shut.
struct Slow {
    store: MemoryStore,
    gate: Receiver<()>,
}

impl Slow {
    fn wait(&self) {
        // Open for ever once its other end is gone.
        let _ = self.gate.recv();
    }
}

impl NbStore for Slow {
    fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.wait();
        self.store.tables()
    }

    fn keys(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.wait();
        self.store.keys(table)
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.wait();
        self.store.get(table, key)
    }

    fn set(&self, table: &str, key: &str, value: &str) -> Result<(), StoreError> {
        self.wait();
        self.store.set(table, key, value)
    }

    fn delete(&self, table: &str, key: &str) -> Result<bool, StoreError> {
        self.wait();
        self.store.delete(table, key)
    }
}

#[test]
fn that_the_store_blocks_shows() {
    let (open, gate) = bounded(0);
    let store = Slow {
        store: MemoryStore::new(),
        gate,
    };
    let (sender, _events) = bounded(8);
    let options = MonitorOptions {
        poll_time: Duration::from_secs(60),
        publisher_timeout: Duration::from_secs(60),
        ..options(&["t"], None)
    };
    let monitors = Monitors::start(options, Arc::new(store), sender).unwrap();
    let mut watched = Watched::new(&monitors.pulse, Instant::now());
    let blocked = Duration::from_millis(200);
    within("it is at one thing", || {
        watched.stuck_for(&monitors.pulse, Instant::now()) >= blocked
    });
    assert!(monitors.thread.is_running());
    assert_eq!(monitors.metrics.lease_renewals_total.get(), 0);
    drop(open);
    within("the lease", || {
        monitors.metrics.lease_renewals_total.get() == 1
    });
    // Now it waits for the time to come, which is no fault.
    let rests = |watched: &mut Watched| {
        let later = Instant::now() + patience();
        watched.stuck_for(&monitors.pulse, later) == Duration::ZERO
            && watched.stuck_for(&monitors.pulse, later + patience()) == Duration::ZERO
    };
    within("it rests", || rests(&mut watched));
}

#[test]
fn it_ends_when_nobody_takes_events_any_more() {
    let store = MemoryStore::new();
    store.set("t", "a", "1").unwrap();
    let (sender, events) = bounded(1);
    drop(events);
    let monitors = start(options(&["t"], Some(BTreeMap::new())), &store, sender);
    within("the end", || !monitors.thread.is_running());
}

fn unix_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
