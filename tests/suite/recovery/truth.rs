//! Objects that more than one API server changes.

use serde_json::json;

use fanfare::event::Event;

use super::cluster::{Cluster, Node, flush};

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
