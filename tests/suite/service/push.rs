//! Workers that push and await no answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::rig::counted::of_publisher;
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::peer::Publisher;

const EVENTS: usize = 5_000;

#[test]
fn an_unchanged_python_worker_is_stamped_kept_and_sent() {
    let mut host = Host::running("");
    let listener = Listener::joined(&host.port.uri(), &[b""]);
    let uri = format!("ipc://{}", host.socket().display());
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker.tell(json!({
        "op": "series", "topics": ["t1", "t2", "D"], "count": EVENTS, "spec": "old",
    }));
    listener.has(&format!("k{}", EVENTS - 1));

    let told = listener.told();
    assert!(
        told.iter()
            .map(|told| told.key.clone())
            .eq((0..EVENTS).map(|n| format!("k{n}")))
    );
    let mut heads = BTreeMap::new();
    for (n, told) in told.iter().enumerate() {
        let topic = ["t1", "t2", "D"][n % 3];
        assert_eq!(told.frame, format!("{topic}\0").as_bytes());
        let prev = heads.insert(topic, told.stamp.seq);
        // The first one of D may follow the publisher's own row.
        if prev.is_some() || topic != "D" {
            assert_eq!(told.stamp.prev, prev.unwrap_or(0), "{told:?}");
        }
        assert!(told.stamp.version > 0 && told.stamp.unix_micros > 0);
    }
    let history = host.stop_and_open();
    for told in told {
        let row = history.rows().get("series", &told.key).unwrap();
        assert_eq!(
            (row.value.clone(), row.stamp),
            (told.value, Some(told.stamp))
        );
    }
}

/// What the service had received survives kill -9: what was sent was journalled before.
#[test]
fn what_was_sent_for_a_worker_survives_kill_9() {
    let mut host = Host::running("");
    let listener = Listener::joined(&host.port.uri(), &[b""]);
    let uri = format!("ipc://{}", host.socket().display());
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker.tell(json!({"op": "load", "topic": "t1", "name": "load", "rate": 3_000}));
    listener.has("load-300");
    host.kill();
    let told = listener.told();
    // It goes on until it is told to halt; whether it has sent another since is a matter of a moment.
    assert!(worker.ask(json!({"op": "halt"}), "halted") >= told.len() as u64);
    let start = host.start();
    let head = told.last().unwrap().stamp.seq;
    assert!(start.head >= head, "{} was sent, {start:?}", head);
    let history = host.stop_and_open();
    for told in told {
        let row = history.rows().get("load", &told.key).unwrap();
        assert_eq!(row.stamp, Some(told.stamp));
    }
}

/// What it took from a worker is published, also while it ends.
#[test]
fn stopped_under_load_it_keeps_all_that_it_received() {
    let mut host = Host::running("");
    let listener = Listener::joined(&host.port.uri(), &[b""]);
    let uri = format!("ipc://{}", host.socket().display());
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker.tell(json!({"op": "load", "topic": "t1", "name": "load", "rate": 5_000}));
    listener.has("load-500");
    let said = host.stop(Duration::from_millis(2_000));
    assert!(said.contains("journal closed in order"), "{said}");
    assert!(worker.ask(json!({"op": "halt"}), "halted") > 500);
    let received = of_publisher(&said, "events_received_total");
    let history = host.history();
    let rows = history.rows().keys(|table, _| table == "load");
    assert_eq!(rows.len() as u64, received);
}
