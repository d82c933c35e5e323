//! The network lets through too little: no questions to the sync service, or everything slowly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fanfare::event::Event;
use rustix::process::Signal;

use crate::rig::counted::of_publisher;
use crate::rig::load::{Load, flush, rows};
use crate::rig::region::Region;
use crate::rig::{PATIENCE, in_time, wait_for};

const BURST: u64 = 50_000;
const KEYS: u64 = 5_000;

/// Only the way to the sync service is blocked: events still come, and what was missed cannot be
/// fetched. That is seen, and ends when the way is free.
#[test]
fn without_a_way_to_the_sync_service_a_gap_stays_and_is_seen() {
    let Some(mut region) = Region::new(2, "send_hwm = 10\n", "receive_hwm = 10\n", &["t1", "t2"])
    else {
        return;
    };
    region.cluster.publish("t1", 0..1, KEYS);
    for node in &mut region.nodes {
        node.start();
        node.has(&rows(1, KEYS));
    }
    region.net.cut_ports(&[region.cluster.sync.number]);
    for node in &mut region.nodes {
        node.process().signal(Signal::STOP);
    }
    region.cluster.publish("t1", 1..BURST, KEYS);
    for node in &mut region.nodes {
        node.process().signal(Signal::CONT);
    }
    for node in &region.nodes {
        node.says("the sync service does not answer");
    }
    let client = region.cluster.host.client();
    let event = Event::set("t", "meanwhile", "true").on("t2");
    client.publish(&event, None).unwrap();
    flush(&client);
    for node in &region.nodes {
        wait_for("another topic goes on", || {
            node.rows()["t"].contains_key("meanwhile")
        });
        assert!(node.rows()["t"].len() < KEYS as usize, "nothing is missing");
    }
    let witness = region.nodes[1].stop();
    assert!(witness.recovery("gaps_total") > 0, "{:#?}", witness.lines);
    assert!(witness.recovery("unanswered_total") > 0);
    assert!(witness.recovery("topics_behind") > 0);
    assert_eq!(witness.recovery("in_sync"), 0);
    assert_eq!(witness.recovery("replayed_events_total"), 0);

    assert!(region.net.heal() > 0, "nothing was cut");
    let healed = Instant::now();
    let mut expected = rows(BURST, KEYS);
    expected.insert("meanwhile".into(), serde_json::json!(true));
    region.nodes[0].has(&expected);
    in_time("repair once the way is free", healed, PATIENCE);
    let counted = region.nodes[0].stop();
    assert!(counted.recovery("unanswered_total") > 0);
    assert!(counted.recovery("replayed_events_total") > BURST / 4);
    assert_eq!(counted.recovery("snapshots_total"), 3);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
}

/// 1.2 MB of rows that cannot be compressed, through 2 Mbit/s: five seconds, in which events go on.
#[test]
fn through_a_slow_network_a_snapshot_gets_on() {
    const ROWS: u64 = 4_000;
    let Some(mut region) = Region::new(1, "", "", &["t1", "t2"]) else {
        return;
    };
    let client = region.cluster.host.client();
    let mut expected = BTreeMap::new();
    for number in 0..ROWS {
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(300)
            .collect();
        let (key, value) = (format!("noise{number}"), format!("{noise:?}"));
        let event = Event::set("t", &key, &value).on("t1");
        client.publish(&event, None).unwrap();
        expected.insert(key, serde_json::json!(noise));
        if number % 1_000 == 999 {
            flush(&client);
        }
    }
    region.net.slow(1, "2mbit");
    let begun = Instant::now();
    region.nodes[0].start();
    // A twentieth of what the network lets through.
    let load = Load::start(
        region.cluster.host.client(),
        "t1",
        0,
        KEYS,
        Duration::from_millis(200),
    );
    wait_for("the snapshot is here", || {
        let rows = region.nodes[0].rows();
        rows.get("t")
            .is_some_and(|table| table.len() > ROWS as usize)
    });
    let took = begun.elapsed();
    eprintln!("{ROWS} rows through 2 Mbit/s: {took:?}");
    assert!(took > Duration::from_secs(4), "it was not slow: {took:?}");
    let sent = load.stop();
    assert!(sent >= 200, "{sent}");
    expected.extend(rows(sent, KEYS));
    region.nodes[0].has(&expected);
    let counted = region.nodes[0].stop();
    assert_eq!(counted.recovery("unanswered_total"), 0);
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    assert_eq!(counted.recovery("snapshots_total"), 3);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
    let service = region.cluster.host.stop(PATIENCE);
    assert!(of_publisher(&service, "sync_chunks_total") > 0, "{service}");
    for cut in [
        "sync_silent_total",
        "sync_lapsed_total",
        "sync_answers_lost_total",
    ] {
        assert_eq!(of_publisher(&service, cut), 0, "{service}");
    }
}
