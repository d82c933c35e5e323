//! The thread that admits nodes dies, in the real service.

use crate::rig::control::report;
use crate::rig::load::rows;
use crate::rig::peer::kill_thread;
use crate::rig::site::Site;
use crate::rig::stranger::{Stranger, refusals};
use crate::rig::{until, wait_for};

/// Nobody new is admitted, whoever is connected stays so, and the service says that it is not well.
#[test]
fn without_its_gate_the_service_admits_nobody_and_says_so() {
    let mut site = Site::new(&["n1", "n2"]);
    site.cluster.host.stop(crate::rig::PATIENCE);
    site.cluster.host.more += "stuck_timeout = 2.0\n";
    site.cluster.host.start();
    let mut first = site.node("n1");
    site.cluster.publish("t1", 0..50, 100);
    first.has(&rows(50, 100));

    let pid = site.cluster.host.process().id();
    if !kill_thread(pid, "gate") {
        return;
    }
    let [unknown, events, sync] = refusals(&site);
    let admitted = |site: &Site| site.report()["parts"]["gate"]["gate_admitted_total"].clone();
    let before = admitted(&site);
    let server = site.publisher_key();
    let keys = (&server.as_bytes()[..], &site.secret("n2"));
    let bare = Stranger::connect(zmq::SUB, &site.cluster.uri(), Some(keys));
    bare.is_refused();
    wait_for("it is counted", || refusals(&site)[1] > events);
    assert_eq!(refusals(&site)[2], sync);
    let asks = Stranger::connect(zmq::DEALER, &site.sync_uri, Some(keys));
    asks.is_refused();
    wait_for("it is counted at the other port", || {
        refusals(&site)[2] > sync
    });
    let mut second = site.node("n2");
    second.says("handshake broke off");
    site.cluster.publish("t1", 50..150, 100);
    first.has(&rows(150, 100));
    bare.heard_nothing();
    asks.heard_nothing();
    assert!(!second.rows().contains_key("t"), "{:?}", second.rows());
    let status = until("the service says so", || {
        let status = site.report();
        let reasons = status["reasons"].to_string();
        reasons
            .contains("the gate does not answer")
            .then_some(status)
    });
    assert_eq!(status["ready"], false, "{status:#}");
    // It was not the gate who refused them, and it let nobody in.
    assert_eq!(refusals(&site)[0], unknown);
    assert_eq!(admitted(&site), before);
    // Who was connected still is.
    let counters = report(&first.folder)["publishers"][0]["counters"].clone();
    assert_eq!(counters["connects_total"], 1, "{counters:#}");

    // A restart is all it takes.
    site.cluster.host.kill();
    site.cluster.host.start();
    second.has(&rows(150, 100));
    first.has(&rows(150, 100));
    let counted = second.stop();
    assert!(counted.of(" publisher tcp", "connects_failed_total") > 0);
    let counted = first.stop();
    assert_eq!(counted.resyncs(), 1);
    assert_eq!(counted.recovery("snapshots_total"), 2);
    site.stop();
}
