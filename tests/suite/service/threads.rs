//! A thread of the service dies, in the real service.

use std::time::Duration;

use crate::rig::cluster::Cluster;
use crate::rig::peer::kill_thread;
use crate::rig::until;

/// It is not ready, and the watchdog is fed no more: see `stuck_threads`.
#[test]
fn a_socket_without_its_thread_is_missed() {
    for (thread, words) in [
        ("requests", "the request socket does not answer"),
        ("sync", "the sync service does not answer"),
    ] {
        let mut cluster = Cluster::running("stuck_timeout = 2.0\n");
        cluster.fill("t1", 0..5, "v");
        assert_eq!(cluster.host.report()["ready"], true);
        if !kill_thread(cluster.host.process().id(), thread) {
            return;
        }
        let status = until("the service says so", || {
            let status = cluster.host.report();
            (status["ready"] == false).then_some(status)
        });
        let reasons = status["reasons"].as_array().unwrap();
        let one = reasons.iter().map(|reason| reason.as_str().unwrap());
        assert!(
            one.clone().all(|reason| reason.contains(words)),
            "{status:#}"
        );
        assert_eq!(one.count(), 1);
        let stuck = status["parts"]["publisher"]["stuck_threads"].as_u64();
        assert_eq!(stuck, Some(1), "{status:#}");

        // A restart is all it takes.
        cluster.host.kill();
        cluster.host.start();
        cluster.fill("t1", 5..10, "v");
        assert_eq!(cluster.peer().snapshot("t1").rows.len(), 10);
    }
}

/// What does not end does not take the time of the service, which has a journal to close.
#[test]
fn parts_that_do_not_end_leave_time_for_the_journal() {
    let mut cluster = Cluster::running("monitor_tables = [\"t\"]\n");
    cluster.fill("t1", 0..50, "v");
    let pid = cluster.host.process().id();
    if !["sync", "monitors"]
        .iter()
        .all(|name| kill_thread(pid, name))
    {
        return;
    }
    let said = cluster.host.stop(Duration::from_secs(2));
    for left in ["the sync service does not end", "the monitors do not end"] {
        assert!(said.contains(left), "{said}");
    }
    assert!(said.contains("journal closed in order"), "{said}");
}
