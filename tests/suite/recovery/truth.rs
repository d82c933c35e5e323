//! Objects that more than one API server changes.

use serde_json::json;

use fanfare::event::Event;

use crate::rig::cluster::Cluster;
use crate::rig::load::flush;
use crate::rig::node::Node;

fn set(cluster: &Cluster, key: &str, n: u64, version: u64) {
    let client = cluster.host.client();
    let value = format!("{{\"n\": {n}}}");
    let event = Event::set("t", key, &value).on("t1");
    client.publish(&event, Some(version)).unwrap();
    flush(&client);
}

fn delete(cluster: &Cluster, key: &str, version: u64) {
    let client = cluster.host.client();
    let event = Event::delete("t", key).on("t1");
    client.publish(&event, Some(version)).unwrap();
    flush(&client);
}

/// Created through one, deleted through another: deleted on every agent, whichever is heard first.
#[test]
fn created_here_deleted_there_is_deleted_everywhere() {
    let (mut first, second) = (Cluster::running(""), Cluster::running(""));
    let both = [first.uri(), second.uri()];
    let both = [both[0].as_str(), both[1].as_str()];
    let mut early = Node::started(&both, &["t1"], "");
    set(&first, "gone", 1, 10);
    set(&first, "stays", 1, 10);
    set(&second, "stays", 2, 11);
    early.has(
        &[
            ("gone".into(), json!({"n": 1})),
            ("stays".into(), json!({"n": 2})),
        ]
        .into(),
    );
    delete(&second, "gone", 12);
    let expected = [("stays".to_owned(), json!({"n": 2}))].into();
    early.has(&expected);
    // The creator restarts, and tells late-comers of a row that exists no longer.
    first.host.stop(crate::rig::PATIENCE);
    first.host.start();
    let swapped = [both[1], both[0]];
    for publishers in [both, swapped] {
        let mut late = Node::started(&publishers, &["t1"], "");
        late.has(&expected);
        let counted = late.stop();
        assert!(
            counted.recovery("snapshot_rows_total") >= 4,
            "{:#?}",
            counted.lines
        );
    }
    // One that heard the creator alone, and the other one later.
    let absent = Node::started(&[both[0]], &["t1"], "");
    absent.has(
        &[
            ("gone".into(), json!({"n": 1})),
            ("stays".into(), json!({"n": 1})),
        ]
        .into(),
    );
    early.has(&expected);
    assert_eq!(early.stop().resyncs(), 1);
}

/// An object that moves from one tenant to another, and one whose delete names neither: who follows
/// the old topic only lets go of it, also who was away meanwhile.
#[test]
fn a_row_that_changes_its_topic_leaves_the_old_one() {
    let cluster = Cluster::running("");
    let uri = cluster.uri();
    let follow = |topics: &[&str]| Node::started(&[&uri], topics, "");
    let (old, new, both) = (follow(&["t1"]), follow(&["t2"]), follow(&["t1", "t2"]));
    let mut away = follow(&["t1"]);
    let n = |n: u64| json!({ "n": n });
    set(&cluster, "moves", 1, 10);
    set(&cluster, "ends", 2, 10);
    let first = [("moves".to_owned(), n(1)), ("ends".to_owned(), n(2))].into();
    for node in [&old, &both, &away] {
        node.has(&first);
    }
    away.stop();
    let client = cluster.host.client();
    let moves = Event::set("t", "moves", "{\"n\": 3}").on("t2");
    client.publish(&moves, Some(11)).unwrap();
    let ends = Event::delete("t", "ends").on("t3");
    client.publish(&ends, Some(11)).unwrap();
    flush(&client);
    away.start();
    let moved = [("moves".to_owned(), n(3))].into();
    for node in [&new, &both] {
        node.has(&moved);
    }
    for node in [&old, &away] {
        node.has(&[].into());
    }
    let fresh = follow(&["t2"]);
    fresh.has(&moved);
    // And back again.
    set(&cluster, "moves", 4, 12);
    let back = [("moves".to_owned(), n(4))].into();
    for node in [&old, &both, &away] {
        node.has(&back);
    }
    for node in [&new, &fresh] {
        node.has(&[].into());
    }
}
