//! Snapshots.

use std::time::Duration;

use fanfare::sync::Answer;

use crate::rig::cluster::Cluster;
use crate::rig::dealer::{Taken, snapshot};
use crate::rig::listener::Listener;
use crate::rig::until;

#[test]
fn all_rows_of_a_topic_and_what_was_deleted() {
    let cluster = Cluster::running("");
    cluster.fill("t1", 0..1_200, "v");
    cluster.fill("t2", 5_000..5_010, "other");
    cluster.delete("t1", "k7");
    let mut peer = cluster.peer();
    let taken = peer.snapshot("t1");
    assert_eq!((taken.rows.len(), taken.chunks), (1_200, 3));
    assert_eq!(taken.rows["k7"], None);
    assert_eq!(taken.rows["k8"].as_deref(), Some("v"));
    let (incarnation, behind) = peer.heads(taken.incarnation, &[("t1", taken.seq)]);
    assert_eq!((taken.incarnation, &behind[..]), (incarnation, &[][..]));
    assert_eq!(taken.complete_since, incarnation);
    // A row that goes to another topic.
    cluster.fill("t2", 8..9, "moved");
    until("a newer snapshot is made", || {
        let rows = peer.snapshot("t2").rows;
        rows.contains_key("k8").then_some(())
    });
    until("it is gone from the other", || {
        let rows = peer.snapshot("t1").rows;
        (!rows.contains_key("k8") && rows.len() == 1_199).then_some(())
    });
    let empty = peer.snapshot("nothing");
    assert_eq!((empty.rows.len(), empty.chunks), (0, 1));
}

#[test]
fn it_is_made_once_for_all_and_anew_when_something_moved() {
    let mut cluster = Cluster::running("");
    cluster.fill("t1", 0..1_000, "v");
    let first = cluster.peer().snapshot("t1");
    for _ in 0..9 {
        assert_eq!(cluster.peer().snapshot("t1").id, first.id);
    }
    // It is old, but there is nothing newer.
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(cluster.peer().snapshot("t1").id, first.id);
    cluster.fill("t1", 0..1, "new");
    let second = until("a newer one", || {
        let taken = cluster.peer().snapshot("t1");
        (taken.id != first.id).then_some(taken)
    });
    assert!(second.seq > first.seq);
    assert_eq!(second.rows["k0"].as_deref(), Some("new"));
    let built = {
        let chunks = u64::from(first.chunks + second.chunks);
        let built = cluster.stop().count("sync_built_total");
        assert!(chunks >= 4);
        (built, chunks)
    };
    assert_eq!(built.0, built.1);
}

#[test]
fn who_is_slow_is_not_cut_while_others_come_and_things_move() {
    let cluster = Cluster::running("sync_max_snapshots = 1\nsync_cache_bytes = 1048576\n");
    let value = "v".repeat(300);
    cluster.fill("t1", 0..4_000, &value);
    let mut slow = cluster.peer();
    let mut answer = slow.ask(&snapshot("t1", None));
    let mut taken = Taken::default();
    let mut others = 0;
    while let Some(next) = taken.take(answer) {
        cluster.fill("t1", 0..1, &format!("{}", next.1));
        std::thread::sleep(Duration::from_millis(300));
        let other = cluster.peer().ask(&snapshot("t1", None));
        assert!(matches!(other, Answer::RetryAfter(_)), "{other:?}");
        others += 1;
        answer = slow.ask(&snapshot("t1", Some(next)));
    }
    assert_eq!(taken.rows.len(), 4_000);
    assert!(others >= 4, "only {others} chunks");
    // Its place is free.
    let other = cluster.peer().snapshot("t1");
    assert!(other.seq > taken.seq);
}

#[test]
fn since_when_it_is_complete_outlives_a_kill_and_not_the_loss_of_its_state() {
    let mut cluster = Cluster::new("durability = \"sync\"\n");
    cluster.host.start();
    cluster.fill("t1", 0..10, "v");
    let first = cluster.peer().snapshot("t1");
    assert_eq!(first.complete_since, first.incarnation);
    cluster.host.kill();
    cluster.host.start();
    let second = cluster.peer().snapshot("t1");
    assert_eq!(second.incarnation, first.incarnation);
    assert_eq!(second.complete_since, first.complete_since);
    assert_eq!(second.rows, first.rows);
    assert_ne!(second.id, first.id, "of another run");
    let lapsed = cluster.peer().ask(&snapshot("t1", Some((first.id, 0))));
    assert_eq!(lapsed, Answer::Lapsed);
    cluster.host.kill();
    std::fs::remove_dir_all(&cluster.host.state_dir).unwrap();
    cluster.host.start();
    let third = cluster.peer().snapshot("t1");
    assert!(third.incarnation > first.incarnation);
    assert_eq!(third.complete_since, third.incarnation);
    assert_eq!(third.rows.len(), 0);
}

#[test]
fn an_operator_may_vouch_for_everything() {
    let cluster = Cluster::running("authoritative = true\n");
    cluster.fill("t1", 0..1, "v");
    assert_eq!(cluster.peer().snapshot("t1").complete_since, 0);
    let uri = cluster.host.port.uri();
    let listener = Listener::joined(&uri, &[]);
    assert!(listener.hellos().pop().unwrap().1.authoritative);
}
