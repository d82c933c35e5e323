//! Peers that do not keep to the protocol.

use fanfare::sync::{Answer, MAX_REQUEST, Refusal, answer};

use crate::rig::cluster::Cluster;
use crate::rig::counted::of_publisher;
use crate::rig::dealer::{Peer, snapshot};

#[track_caller]
fn refusal(peer: &Peer) -> (u64, Refusal, String) {
    match peer.receive() {
        (tag, Answer::Refused { code, reason }) => (tag, code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_version_is_told_which_is_spoken() {
    let cluster = Cluster::running("");
    let peer = cluster.peer();
    let request = [9, 200, 0, 0, 0, 0, 0, 0, 0, 77, 1, 2, 3];
    peer.socket.send(&request[..], 0).unwrap();
    let bytes = peer.socket.recv_bytes(0).unwrap();
    let (tag, refused) = answer::decode(&bytes).unwrap();
    assert_eq!(tag, 77);
    let Answer::Refused { code, reason } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, Refusal::Version);
    assert!(reason.ends_with("version 1 is"), "{reason}");
}

#[test]
fn garbage_costs_a_counter_and_nobody_else() {
    let mut cluster = Cluster::running("");
    cluster.fill("t1", 0..10, "v");
    let mut good = cluster.peer();
    let bad = cluster.peer();
    bad.socket.send("", 0).unwrap();
    assert_eq!(refusal(&bad).1, Refusal::Malformed);
    bad.socket
        .send(&[1, 3, 0, 0, 0, 0, 0, 0, 0, 5, 9][..], 0)
        .unwrap();
    assert_eq!((refusal(&bad).0, good.snapshot("t1").rows.len()), (5, 10));
    bad.socket.send(vec![1; MAX_REQUEST + 1], 0).unwrap();
    assert_eq!(refusal(&bad).1, Refusal::Malformed);
    // No one is answered whose frames are too many; one that is far too long is cut off.
    bad.socket.send_multipart(["a", "b", "c"], 0).unwrap();
    cluster
        .peer()
        .socket
        .send(vec![1; 3 * MAX_REQUEST], 0)
        .unwrap();
    let id = good.snapshot("t1").id;
    let beyond = good.ask(&snapshot("t1", Some((id, 7))));
    assert!(
        matches!(
            beyond,
            Answer::Refused {
                code: Refusal::Malformed,
                ..
            }
        ),
        "{beyond:?}"
    );
    assert_eq!(good.ask(&snapshot("t2", Some((id, 0)))), Answer::Lapsed);
    assert_eq!(
        good.ask(&snapshot("t1", Some((id ^ 1 << 40, 0)))),
        Answer::Lapsed
    );
    assert_eq!(good.snapshot("t1").rows.len(), 10);
    assert!(cluster.stop().count("sync_refused_total") >= 5);
}

/// As when a backup was written over the state in place: agents are further than the publisher.
#[test]
fn who_has_more_than_was_sent_is_told_of() {
    let mut cluster = Cluster::running("");
    cluster.fill("t1", 0..10, "v");
    let mut peer = cluster.peer();
    let (incarnation, behind) = peer.heads(0, &[("t1", 0)]);
    let head = behind[0].1;
    // Nobody that could be in step, nor one of another life.
    peer.heads(incarnation, &[("t1", head), ("t2", 0)]);
    peer.heads(incarnation - 1, &[("t1", head + 99)]);
    assert_eq!(
        cluster.host.report()["parts"]["sync"]["sync_beyond_total"],
        0
    );
    assert_eq!(peer.heads(incarnation, &[("t1", head + 99)]).1, []);
    let replay = fanfare::sync::Request::Replay {
        incarnation,
        topic: "t1".into(),
        after: head + 99,
    };
    peer.ask(&replay);
    let said = cluster.host.stop(std::time::Duration::from_secs(5));
    assert_eq!(of_publisher(&said, "sync_beyond_total"), 2, "{said}");
    let line = format!("an agent at 127.0.0.1 has events up to {}", head + 99);
    assert!(said.contains(&line), "{said}");
}

#[test]
fn who_asks_without_reading_is_bounded() {
    let mut cluster = Cluster::running("");
    cluster.fill("t1", 0..2_000, &"v".repeat(1_000));
    let mut greedy = cluster.peer();
    greedy.socket.set_rcvhwm(1).unwrap();
    let (incarnation, _) = cluster.peer().heads(0, &[]);
    for after in 0..2_000 {
        greedy.send(&fanfare::sync::Request::Replay {
            incarnation,
            topic: "t1".into(),
            after,
        });
    }
    // Others are served meanwhile.
    assert_eq!(cluster.peer().snapshot("t1").rows.len(), 2_000);
    drop(greedy);
    assert_eq!(cluster.peer().snapshot("t1").rows.len(), 2_000);
    assert!(cluster.stop().count("sync_retry_after_total") > 0);
}
