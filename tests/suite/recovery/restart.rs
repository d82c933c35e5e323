//! The publisher goes and comes back.

use std::sync::Arc;
use std::time::Duration;

use fanfare::publisher::client::{ClientOptions, PublisherClient};
use rustix::process::Signal;

use crate::rig::cluster::Cluster;
use crate::rig::load::{flush, publish, rows};
use crate::rig::node::Node;
use crate::rig::{PATIENCE, within};

const EVENTS: u64 = 40_000;
const KEYS: u64 = 500;

/// kill -9 under load, several times: everything acknowledged reaches the agent by replay alone.
#[test]
fn killed_under_load_nothing_acknowledged_is_missing() {
    let mut cluster = Cluster::running("durability = \"os\"\n");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    // What is missed later is missed by one that had everything.
    cluster.publish("t1", 0..KEYS, KEYS);
    node.has(&rows(KEYS, KEYS));
    let client = Arc::new(PublisherClient::new(ClientOptions {
        batch_events: 32,
        window: 4,
        spool_events: 500,
        resend: Duration::from_secs(1),
        ..cluster.host.options()
    }));
    let worker = {
        let client = Arc::clone(&client);
        std::thread::spawn(move || {
            publish(&client, "t1", 0..EVENTS, KEYS);
            flush(&client);
        })
    };
    for place in 1..=4 {
        within(PATIENCE * 3, "the worker gets on", || {
            (client.summary().acknowledged >= place * EVENTS / 6).then_some(())
        });
        cluster.host.kill();
        cluster.host.start();
    }
    worker.join().unwrap();
    node.has(&rows(EVENTS, KEYS));
    let counted = node.stop();
    // Kills may follow each other faster than the agent comes back.
    assert!(counted.of(" publisher tcp", "connects_total") >= 2);
    // Seen by a gap or told by a hello, whichever came first.
    let replayed = counted.recovery("replayed_events_total");
    assert!(replayed > 0, "{:#?}", counted.lines);
    // One for each topic, at the beginning.
    assert_eq!(
        counted.recovery("snapshots_total"),
        2,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("new_incarnations_total"), 0);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
}

/// A clean restart of an idle publisher: no agent has anything to do.
#[test]
fn a_clean_restart_costs_nothing() {
    let mut cluster = Cluster::running("");
    cluster.publish("t1", 0..1_000, 100);
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&rows(1_000, 100));
    cluster.host.stop(PATIENCE);
    cluster.host.start();
    cluster.publish("t1", 1_000..1_100, 100);
    node.has(&rows(1_100, 100));
    let counted = node.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 2);
    assert_eq!(
        counted.recovery("snapshots_total"),
        2,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("new_incarnations_total"), 0);
    assert_eq!(counted.resyncs(), 1);
}

/// The publisher loses its disk: a new incarnation, everything is loaded again, and what is written
/// from then on arrives.
#[test]
fn a_lost_disk_is_noticed() {
    let mut cluster = Cluster::running("");
    cluster.publish("t1", 0..1_000, 100);
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&rows(1_000, 100));
    cluster.host.kill();
    std::fs::remove_file(cluster.host.state_dir.join("publisher.redb")).unwrap();
    cluster.host.start();
    cluster.publish("t1", 1_000..1_100, 100);
    node.has(&rows(1_100, 100));
    let counted = node.stop();
    assert_eq!(counted.recovery("new_incarnations_total"), 1);
    assert_eq!(
        counted.recovery("snapshots_total"),
        4,
        "{:#?}",
        counted.lines
    );
    // It vouches for nothing that it stamped before.
    assert_eq!(counted.recovery("rows_swept_total"), 0);
}

/// The publisher hangs for longer than three hellos, while events wait to be sent.
#[test]
fn a_hung_publisher_is_left_and_found_again() {
    let mut cluster = Cluster::running("");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    cluster.publish("t1", 0..100, 100);
    node.has(&rows(100, 100));
    cluster.host.process().signal(Signal::STOP);
    node.says("silent for too long");
    cluster.host.process().signal(Signal::CONT);
    cluster.publish("t1", 100..200, 100);
    node.has(&rows(200, 100));
    let counted = node.stop();
    assert!(counted.of(" publisher tcp", "silences_total") >= 1);
    assert_eq!(counted.recovery("snapshots_total"), 2);
    assert_eq!(counted.resyncs(), 1);
}

/// A backup that is written over the state in place cannot be told from it: numbers are given away a
/// second time, until somebody hears of it. Those who have more say so at once.
#[test]
fn a_state_that_went_back_in_place_is_told_by_those_who_have_more() {
    let mut cluster = Cluster::running("");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    cluster.publish("t1", 0..KEYS, KEYS);
    node.has(&rows(KEYS, KEYS));
    cluster.host.stop(Duration::from_secs(3));
    let state = cluster.host.state_dir.join("publisher.redb");
    let backup = std::fs::read(&state).unwrap();
    let first = cluster.host.start();
    cluster.publish("t1", KEYS..2 * KEYS, KEYS);
    node.has(&rows(2 * KEYS, KEYS));
    let report = cluster.host.report();
    assert_eq!(report["parts"]["sync"]["sync_beyond_total"], 0);
    cluster.host.stop(Duration::from_secs(3));
    std::fs::write(&state, backup).unwrap();
    let again = cluster.host.start();
    // What this test is about has happened.
    assert_eq!(again, first);
    within(PATIENCE, "the agent's positions are told", || {
        let report = cluster.host.report();
        let beyond = &report["parts"]["sync"]["sync_beyond_total"];
        (beyond.as_u64() > Some(0)).then_some(())
    });
    let said = cluster.host.stop(Duration::from_secs(3));
    assert!(
        said.contains("this state is older than what was sent"),
        "{said}"
    );
    node.stop();
}
