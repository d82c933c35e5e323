//! Somebody else at the address where the publisher was, and plain text where there should be none.

use std::collections::BTreeMap;

use fanfare::security::key::SecretKey;
use serde_json::{Value, json};

use crate::rig::cluster::Cluster;
use crate::rig::counted::Said;
use crate::rig::impostor::{At, Impostor};
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::port::Port;
use crate::rig::site::Site;
use crate::rig::{PATIENCE, wait_for};

/// Rows of another publisher, beside `rows`.
fn with_others(mut rows: BTreeMap<String, Value>, count: u64) -> BTreeMap<String, Value> {
    rows.extend((1000..1000 + count).map(|n| (format!("k{n}"), json!({ "n": n }))));
    rows
}

/// With a key of its own, and in plain text. A node takes nothing from it, tells it nothing, and
/// is there when the publisher is back. What it has from another publisher goes on.
#[test]
fn a_spoofed_publisher_on_the_configured_address_is_not_heard() {
    let mut site = Site::new(&["n1", "n2"]);
    let mut other = site.other("");
    let (events, sync) = (site.cluster.uri(), site.sync_uri.clone());
    site.cluster.publish("t1", 0..50, 100);
    let mut node = site.node("n1");
    let mut beside = Node::new(&[&events, &other.uri()], &["t1", "t2"], &site.secured("n2"));
    beside.start();
    other.publish("t2", 1000..1020, 10_000);
    node.has(&rows(50, 100));
    beside.has(&with_others(rows(50, 100), 20));
    site.cluster.host.stop(PATIENCE);
    let secret = SecretKey::random().unwrap();
    for (round, key) in (2..).zip([Some(&secret), None]) {
        let impostor = Impostor::at(&events, &sync, key);
        // Of two nodes.
        impostor.is_refused(At::Events, 6);
        other.publish("t2", 1000..1000 + 20 * round, 10_000);
        beside.has(&with_others(rows(50, 100), 20 * round));
        impostor.is_refused(At::Events, 6);
    }
    wait_for("the service has its address again", || {
        std::net::TcpListener::bind(&events["tcp://".len()..]).is_ok()
            && std::net::TcpListener::bind(&sync["tcp://".len()..]).is_ok()
    });
    site.cluster.host.start();
    site.cluster.publish("t1", 50..150, 100);
    node.has(&rows(150, 100));
    beside.has(&with_others(rows(150, 100), 60));
    for counted in [node.stop(), beside.stop()] {
        let count = |name| counted.of(&format!(" publisher {events}:"), name);
        assert_eq!(count("connects_total"), 2);
        let refused = count("refusals_total");
        assert!(refused >= 3, "{refused}: {:#?}", counted.lines);
        // Nothing of it was even looked at.
        assert_eq!(counted.of(" publisher tcp", "messages_malformed_total"), 0);
        assert_eq!(counted.recovery("new_incarnations_total"), 0);
        assert_eq!(counted.resyncs(), 1);
    }
    site.stop();
    let said = Said(other.host.stop(PATIENCE));
    // Its node was there all the time.
    assert_eq!(said.count("gate_admitted_total"), 2, "{}", said.0);
    assert_eq!(said.count("gate_refused_total"), 0, "{}", said.0);
    assert_eq!(said.count("handshakes_refused_total"), 0, "{}", said.0);
}

/// At the address of the sync service alone, while the publisher is there. The one that has to ask for what it
/// missed asks nothing of the impostor and takes nothing from it; the other does not notice.
#[test]
fn a_spoofed_sync_service_is_not_heard() {
    let (unused, port) = (Port::free(), Port::free());
    let told = format!("sync_endpoint = {:?}\n", port.uri());
    let mut site = Site::new(&["n1", "n2"]);
    site.cluster.publish("t1", 0..50, 100);
    let (mut node, beside) = (site.node("n1"), site.node("n2"));
    node.has(&rows(50, 100));
    beside.has(&rows(50, 100));
    node.stop();
    site.cluster.host.stop(PATIENCE);
    site.cluster.host.more += &told;
    site.cluster.host.start();
    // It must not miss anything: nobody could be asked for it.
    wait_for("it subscribes again", || {
        let subscribers = site.report()["subscribers"].clone();
        subscribers.to_string().contains("\"t1\"")
    });
    site.cluster.publish("t1", 50..100, 100);
    beside.has(&rows(100, 100));
    node.start();
    let secret = SecretKey::random().unwrap();
    for (round, key) in (2..).zip([Some(&secret), None]) {
        let impostor = Impostor::at(&unused.uri(), &port.uri(), key);
        impostor.is_refused(At::Sync, 2);
        site.cluster
            .publish("t1", 50 * round..50 * (round + 1), 100);
        beside.has(&rows(50 * (round + 1), 100));
        impostor.is_refused(At::Sync, 2);
        assert_eq!(node.rows()["t"], rows(50, 100));
    }

    site.cluster.host.stop(PATIENCE);
    site.cluster.host.more = site.cluster.host.more.replace(&told, "");
    site.cluster.host.start();
    site.cluster.publish("t1", 200..220, 100);
    // As often as the publisher was started while they were there.
    for (mut node, lives) in [(node, 2), (beside, 3)] {
        node.has(&rows(220, 100));
        let counted = node.stop();
        assert_eq!(counted.of(" publisher tcp", "connects_total"), lives);
        assert_eq!(counted.of(" publisher tcp", "messages_malformed_total"), 0);
        assert_eq!(counted.recovery("bad_answers_total"), 0);
        assert_eq!(counted.recovery("new_incarnations_total"), 0);
        assert_eq!(counted.resyncs(), 1);
    }
    site.stop();
}

/// A node with keys at a publisher without: neither is spoken to in plain text.
#[test]
fn a_node_with_keys_takes_nothing_in_plain_text() {
    let mut keys = Site::new(&["n1"]);
    let mut plain = Cluster::running("");
    let mut secured = keys.node_of("n1", &plain.uri());
    let mut open = Node::started(&[&plain.uri()], &["t1"], "");
    plain.publish("t1", 0..50, 100);
    open.has(&rows(50, 100));
    secured.says(&format!("{}: ", plain.uri()));
    wait_for("it was tried again and again", || {
        let lines = secured.process.as_ref().unwrap().err.all();
        let failed = |line: &&String| line.contains("refused") || line.contains("broke off");
        lines.iter().filter(failed).count() >= 3
    });
    plain.publish("t1", 50..150, 100);
    open.has(&rows(150, 100));
    assert!(!secured.rows().contains_key("t"), "{:?}", secured.rows());
    let counted = secured.stop();
    let count = |name| counted.of(" publisher tcp", name);
    assert_eq!(count("connects_total"), 0);
    assert!(count("refusals_total") >= 3);
    let beside = open.stop();
    assert_eq!(beside.of(" publisher tcp", "connects_total"), 1);
    plain.host.stop(PATIENCE);
    keys.stop();
}
