//! When handlers begin, and what covers publishers that say no hello.

use std::time::Instant;

use serde_json::json;

use crate::rig::cluster::Cluster;
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::wait_for;

/// The first bracket comes when all publishers are in sync, and holds everything.
#[test]
fn the_first_bracket_holds_everything() {
    let (first, second) = (Cluster::running(""), Cluster::running(""));
    first.publish("t1", 0..500, 500);
    let mut node = Node::new(
        &[&first.uri(), &second.uri()],
        &["t1"],
        "log_level = \"debug\"\n",
    );
    node.start();
    node.says("handler file: starts over (started)");
    node.has(&rows(500, 500));
    let counted = node.stop();
    assert_eq!(counted.resyncs(), 1);
    // All in the bracket, nothing before or after it: the rows, and a lease of each publisher.
    assert_eq!(counted.of(" handler file:", "events_applied_total"), 502);
}

/// One publisher is not there: after `sync_timeout` handlers begin with what there is and are told
/// so, and what comes later comes as events.
#[test]
fn an_absent_publisher_is_not_waited_for_for_ever() {
    let present = Cluster::running("");
    let mut absent = Cluster::new("");
    present.publish("t1", 0..50, 50);
    let publishers = [present.uri(), absent.uri()];
    let publishers = [publishers[0].as_str(), publishers[1].as_str()];
    let more = "log_level = \"debug\"\n";
    let mut node = Node::new(&publishers, &["t1"], more);
    node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 1.5"));
    let begun = Instant::now();
    node.start();
    node.says("handler file: starts over (incomplete)");
    assert!(begun.elapsed().as_secs_f64() > 1.4);
    node.has(&rows(50, 50));
    absent.host.start();
    absent.publish("t1", 50..60, 1_000);
    let mut expected = rows(50, 50);
    expected.extend(
        rows(60, 10)
            .into_values()
            .enumerate()
            .map(|(place, value)| (format!("k{}", 50 + place), value)),
    );
    node.has(&expected);
    let counted = node.stop();
    assert_eq!(counted.recovery("in_sync"), 2);
    assert_eq!(counted.resyncs(), 1);
}

/// Nothing shows what a legacy publisher sent and the agent missed: handlers start over from time to
/// time, and after each reconnection.
#[test]
fn a_legacy_publisher_makes_handlers_start_over() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let more = "db_sync_time = 0.6\nlog_level = \"debug\"\n";
    let mut node = Node::new(&[&port.uri()], &["t1"], more);
    node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 1.5"));
    node.start();
    publisher.has_agent(&["D", "t1"]);
    wait_for("the agent hears it", || {
        publisher.set("t1", "k0", "{\"n\": 0}");
        node.rows().contains_key("t")
            || node
                .process()
                .err
                .all()
                .iter()
                .any(|l| l.contains("(incomplete)"))
    });
    node.has(&[("k0".to_owned(), json!({"n": 0}))].into());
    node.says("handler file: starts over (requested)");
    drop(publisher);
    let mut publisher = Publisher::bind(&port.uri());
    publisher.has_agent(&["D", "t1"]);
    node.says("handler file: starts over (reconnected)");
    publisher.set("t1", "k1", "{\"n\": 1}");
    node.has(
        &[
            ("k0".to_owned(), json!({"n": 0})),
            ("k1".to_owned(), json!({"n": 1})),
        ]
        .into(),
    );
    let counted = node.stop();
    assert!(counted.resyncs() >= 3, "{:#?}", counted.lines);
    assert_eq!(counted.of(" publisher tcp", "legacy"), 1);
}
