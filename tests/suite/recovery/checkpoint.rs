//! The agent goes and comes back.

use crate::rig::cluster::Cluster;
use crate::rig::control::{report, says, up};
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::{PATIENCE, wait_for};

/// An agent that is started again in an unchanged world is sent nothing at all.
#[test]
fn an_unchanged_world_costs_no_row() {
    let cluster = Cluster::running("");
    cluster.publish("t1", 0..2_000, 1_000);
    cluster.delete("t1", "k7");
    let mut expected = rows(2_000, 1_000);
    expected.remove("k7");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&expected);
    let first = node.stop();
    assert_eq!(first.recovery("snapshot_rows_total"), 1_001);
    std::fs::remove_file(node.folder.path("rows.json")).unwrap();
    node.start();
    node.has(&expected);
    let second = node.stop();
    assert!(
        second
            .lines
            .iter()
            .any(|line| line.contains("1001 rows of 1 publishers restored"))
    );
    for none in [
        "snapshots_total",
        "replays_total",
        "snapshot_rows_total",
        "gaps_total",
    ] {
        assert_eq!(second.recovery(none), 0, "{none}: {:#?}", second.lines);
    }
    assert_eq!(second.of(" publisher tcp", "events_received_total"), 0);
    assert_eq!(second.recovery("in_sync"), 1);
}

/// One that was away for a while is sent what it missed, and no more.
#[test]
fn what_was_missed_meanwhile_is_replayed() {
    let cluster = Cluster::running("");
    cluster.publish("t1", 0..1_000, 1_000);
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&rows(1_000, 1_000));
    node.stop();
    cluster.publish("t1", 1_000..1_100, 1_000);
    cluster.delete("t1", "k500");
    node.start();
    let mut expected = rows(1_100, 1_000);
    expected.remove("k500");
    node.has(&expected);
    let counted = node.stop();
    assert_eq!(
        counted.recovery("replayed_events_total"),
        101,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("snapshots_total"), 0);
}

/// kill -9: what came after its last checkpoint is replayed; a damaged one is as none.
#[test]
fn killed_it_goes_on_from_its_last_checkpoint() {
    let cluster = Cluster::running("");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "checkpoint_interval = 1.0\n");
    let checkpoint = node
        .folder
        .path("fanfare-agent-state")
        .join("replica.checkpoint");
    let written = || std::fs::metadata(&checkpoint).and_then(|file| file.modified());
    let mut sent = 0;
    for round in 1..=3 {
        let before = written().ok();
        cluster.publish("t1", sent..sent + 2_000, 1_000);
        sent += 2_000;
        node.has(&rows(sent, 1_000));
        wait_for("a checkpoint is written", || {
            written().is_ok_and(|at| Some(at) != before)
        });
        node.kill();
        cluster.publish("t1", sent..sent + 500, 1_000);
        sent += 500;
        if round == 3 {
            let mut bytes = std::fs::read(&checkpoint).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&checkpoint, bytes).unwrap();
        }
        node.start();
        if round < 3 {
            node.says("publishers restored from");
        }
        node.has(&rows(sent, 1_000));
        if round < 3 {
            let recovery = report(&node.folder)["publishers"][0]["recovery"].clone();
            assert_eq!(recovery["snapshots_total"], 0, "{recovery:#}");
            let replayed = recovery["replayed_events_total"].as_u64();
            assert!(replayed >= Some(500), "{recovery:#}");
        }
    }
    let counted = node.stop();
    assert!(
        counted
            .lines
            .iter()
            .any(|line| line.contains("it is damaged"))
    );
    assert_eq!(
        counted.recovery("snapshots_total"),
        2,
        "{:#?}",
        counted.lines
    );
    let fresh = Node::started(&[&cluster.uri()], &["t1"], "");
    fresh.has(&rows(sent, 1_000));
}

/// What a checkpoint has of a topic goes with its rows: they are loaded again, not only what follows.
#[test]
fn a_topic_that_was_left_is_loaded_when_it_is_wanted_again() {
    let mut cluster = Cluster::running("");
    cluster.publish("t1", 0..1_000, 100);
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&rows(1_000, 100));
    node.stop();
    // The whole run long nobody is there to be asked.
    cluster.host.stop(PATIENCE);
    node.start();
    up(&node.folder, "agent");
    says(&node.folder, &["topics", "remove", "t1"]);
    node.says("100 rows are gone");
    says(&node.folder, &["topics", "add", "t1"]);
    node.stop();
    std::fs::remove_file(node.folder.path("rows.json")).unwrap();
    node.start();
    cluster.host.start();
    node.has(&rows(1_000, 100));
    let counted = node.stop();
    // That of the other topic was not needed.
    assert_eq!(
        counted.recovery("snapshots_total"),
        1,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("new_incarnations_total"), 0);
}

/// No event tells a restarted agent of a publisher whose row it has.
#[test]
fn whom_it_discovered_it_follows_after_a_restart() {
    let (first, second) = (Cluster::running(""), Cluster::running(""));
    let mut node = Node::started(&[&first.uri()], &["t1"], "");
    let row = serde_json::json!({"uri": second.uri(), "last_activity_timestamp": 1.0});
    let (key, row) = ("b".repeat(32), row.to_string());
    let arguments = ["--table", "publisher", "--key", &key, "--value", &row];
    assert!(first.host.published(&arguments).status.success());
    let discovered = format!("publisher {} is discovered", second.uri());
    node.says(&discovered);
    second.publish("t1", 0..100, 100);
    node.has(&rows(100, 100));
    node.stop();
    second.publish("t1", 100..200, 100);
    node.start();
    node.says(&discovered);
    node.has(&rows(200, 100));
    let counted = node.stop();
    // The row was not loaded again.
    assert_eq!(
        counted.recovery("snapshots_total"),
        0,
        "{:#?}",
        counted.lines
    );
}
