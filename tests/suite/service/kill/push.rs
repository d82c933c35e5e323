//! kill -9 at random points under workers that push: what the service had received is not lost.
//!
//! That is what it took from its socket: journalled, then sent. What was still in the queues of
//! the killed process is lost, which is why there is another way to publish.

use std::collections::BTreeMap;

use serde_json::json;

use super::{KILLS, PATIENCE, WORKERS, follower, in_order, number, places, reached, total};
use crate::rig::cluster::Cluster;
use crate::rig::host::journal;
use crate::rig::listener::Listener;
use crate::rig::peer::Publisher;
use crate::rig::{slowness, within};

/// Events a second of each worker, fewer where the programs are slower.
const RATE: u64 = 4_000;

/// Events that wait in a worker; it makes no more until the service has taken some.
const AHEAD: &str = "1000";

#[test]
fn what_was_received_from_workers_that_push_survives() {
    let Cluster {
        mut host,
        sync: _sync,
    } = Cluster::new("durability = \"os\"\n");
    let first = host.start();
    let mut node = follower(&host);
    let topics: [&[u8]; 4] = [b"t0\0", b"t1\0", b"t2\0", b"t3\0"];
    let listener = Listener::joined(&host.port.uri(), &topics);
    let uri = format!("ipc://{}", host.socket().display());
    let mut workers: Vec<Publisher> = (0..WORKERS)
        .map(|number| {
            let mut worker = Publisher::start(&["--type", "push", "--hwm", AHEAD, "--connect", &uri]);
            let (topic, name) = (format!("t{number}"), format!("w{number}"));
            worker.tell(json!({"op": "load", "topic": topic, "name": name, "rate": RATE / u64::from(slowness())}));
            worker
        })
        .collect();

    for place in places(KILLS) {
        within(PATIENCE, "the workers get on", || {
            (listener.head() >= place).then_some(())
        });
        host.kill();
        let start = host.start();
        assert_eq!(start.incarnation, first.incarnation);
        assert!(start.head >= place, "{start:?}, {place} was heard of");
    }
    within(PATIENCE, "all is received", || {
        (listener.head() >= total()).then_some(())
    });
    for (number, worker) in workers.iter_mut().enumerate() {
        let sent = worker.ask(json!({"op": "halt"}), "halted");
        assert!(sent >= total() / WORKERS as u64 / 2, "{sent}");
        let (topic, key) = (format!("t{number}"), format!("last-{number}"));
        worker.set(&topic, &key, "{\"n\": 0}");
        listener.has_within(PATIENCE, &key);
    }

    // What anyone was told, and what was received and told to nobody before a kill, is with the
    // agent: the listener, which asks for nothing, may have missed some of it.
    let mut newest: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for told in listener.told() {
        let rows = newest.entry(told.table.clone()).or_default();
        rows.insert(told.key.clone(), number(told.value.as_deref()));
    }
    reached(&mut node, &newest);

    let history = host.stop_and_open();
    assert_eq!(history.incarnation(), first.incarnation);
    let entries = journal(&history);
    assert!(entries.len() as u64 >= total());
    // Each worker's events in its order, none twice.
    let mut last = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.table == "load") {
        let (worker, _) = entry.key.split_once('-').unwrap();
        let n = number(entry.value.as_deref());
        let before = last.insert(worker, n);
        assert!(before.is_none_or(|before| before < n), "{}", entry.key);
    }
    assert_eq!(last.len(), WORKERS);
    // All that anyone was told is there as it was told.
    let told = listener.told();
    in_order(&told, first.incarnation);
    let floor = history.floor();
    for told in told {
        let entry = &entries[(told.stamp.seq - floor) as usize];
        assert_eq!((&entry.key, entry.stamp), (&told.key, told.stamp));
        let row = history.rows().get(&told.table, &told.key).unwrap();
        assert_eq!(row.stamp, Some(told.stamp));
    }
}
