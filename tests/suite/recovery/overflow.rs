//! libzmq drops what a subscriber is too slow for, and says nothing.

use rustix::process::Signal;

use crate::rig::cluster::Cluster;
use crate::rig::load::rows;
use crate::rig::node::Node;

const BURST: u64 = 50_000;
const KEYS: u64 = 5_000;

/// A burst over the high-water mark, then silence: the hello tells of it, and the journal has it.
#[test]
fn a_burst_over_the_high_water_mark_then_silence() {
    let cluster = Cluster::running("send_hwm = 10\n");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "receive_hwm = 10\n");
    cluster.publish("t1", 0..1, KEYS);
    node.has(&rows(1, KEYS));
    // Stopped, so that the loss is certain however fast this machine is.
    node.process().signal(Signal::STOP);
    cluster.publish("t1", 1..BURST, KEYS);
    node.process().signal(Signal::CONT);
    node.has(&rows(BURST, KEYS));
    let counted = node.stop();
    assert!(counted.recovery("gaps_total") > 0, "{:#?}", counted.lines);
    assert!(counted.recovery("replayed_events_total") > BURST / 4);
    assert_eq!(
        counted.recovery("snapshots_total"),
        2,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("gone_total"), 0);
    assert_eq!(counted.resyncs(), 1);
}

/// The same, where the journal no longer has it: a snapshot, and still no loss.
#[test]
fn what_the_journal_has_no_longer_comes_by_snapshot() {
    let cluster = Cluster::running("send_hwm = 10\njournal_max_events = 1000\n");
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "receive_hwm = 10\n");
    cluster.publish("t1", 0..10, KEYS);
    node.has(&rows(10, KEYS));
    node.process().signal(Signal::STOP);
    cluster.publish("t1", 10..BURST, KEYS);
    cluster.delete("t1", "k7");
    node.process().signal(Signal::CONT);
    let mut expected = rows(BURST, KEYS);
    expected.remove("k7");
    node.has(&expected);
    let counted = node.stop();
    assert!(counted.recovery("gone_total") > 0, "{:#?}", counted.lines);
    assert!(counted.recovery("snapshots_total") > 2);
    assert_eq!(counted.resyncs(), 1);
}
