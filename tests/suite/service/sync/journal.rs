//! Heads and missed events.

use fanfare::event::codec;
use fanfare::sync::{Answer, Request};

use crate::rig::cluster::Cluster;
use crate::rig::dealer::{Peer, read};
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::until;

fn replay(incarnation: u64, topic: &str, after: u64) -> Request {
    Request::Replay {
        incarnation,
        topic: topic.into(),
        after,
    }
}

#[test]
fn a_hello_names_it_and_it_says_what_has_moved() {
    let cluster = Cluster::running("");
    cluster.fill("t1", 0..3, "v");
    cluster.fill("t2", 3..4, "v");
    let listener = Listener::joined(&cluster.host.port.uri(), &[]);
    let (_, hello) = listener.hellos().pop().unwrap();
    let port = cluster.sync.number;
    assert_eq!(hello.sync_endpoint, format!("tcp://127.0.0.1:{port}"));
    assert!(!hello.authoritative);
    let mut peer = Peer::connect(&hello.sync_endpoint);
    let (incarnation, behind) = peer.heads(hello.incarnation, &[("t1", 0), ("t2", 0), ("none", 0)]);
    assert_eq!(incarnation, hello.incarnation);
    let [(one, first), (two, second)] = behind.try_into().unwrap();
    assert_eq!((&*one, &*two), ("t1", "t2"));
    // The publisher's own lease may have come in between.
    assert!(second > first, "{first}, {second}");
    let heads = [("t1", first), ("t2", second - 1)];
    let (_, behind) = peer.heads(incarnation, &heads);
    assert_eq!(behind, [("t2".to_owned(), second)]);
    // What is known of another incarnation is worth nothing.
    let (_, behind) = peer.heads(incarnation - 1, &[("t1", first), ("t2", second)]);
    assert_eq!(behind.len(), 2);
}

/// Where the sync service listens besides.
#[test]
fn it_listens_as_the_publisher_does() {
    let told = |config: &str, bound: &str| -> String {
        let port = crate::rig::port::Port::free();
        let mut host = Host::new(&format!("sync_port = {}\n{config}", port.number));
        host.start();
        let listener = Listener::joined(bound.replace("HOST", &host.port.uri()).as_str(), &[]);
        let (_, hello) = listener.hellos().pop().unwrap();
        hello
            .sync_endpoint
            .replace(&port.number.to_string(), "PORT")
    };
    let given = "sync_endpoint = \"tcp://192.0.2.1:99\"\nauthoritative = true\n";
    assert_eq!(told(given, "HOST"), "tcp://192.0.2.1:99");
    assert_eq!(told("", "HOST"), "tcp://127.0.0.1:PORT");
    let host = Host::running("");
    let listener = Listener::joined(&host.port.uri(), &[]);
    assert_eq!(listener.hellos().pop().unwrap().1.sync_endpoint, "");
}

#[test]
fn what_was_missed_is_given_in_pieces_and_in_order() {
    let mut cluster = Cluster::running("");
    let value = "v".repeat(1_000);
    cluster.fill("t1", 0..1_000, &value);
    // Rows of their own: one that changed its topic would leave the old one by a delete there.
    cluster.fill("t2", 5_000..5_005, "other");
    cluster.fill("t1", 1_000..2_000, &value);
    let mut peer = cluster.peer();
    let (incarnation, behind) = peer.heads(0, &[("t1", 0)]);
    let head = behind[0].1;
    // Twice, from two clients: what was made for one is given to the other.
    for _ in 0..2 {
        let mut peer = cluster.peer();
        let (mut after, mut found, mut last, mut pieces) = (0, 0, 0, 0);
        loop {
            let answer = peer.ask(&replay(incarnation, "t1", after));
            let Answer::Events {
                incarnation: of,
                upto,
                last: end,
                events,
            } = answer
            else {
                panic!("{answer:?}");
            };
            assert_eq!((of, end), (incarnation, head));
            for payload in events.iter() {
                let event = codec::decode(payload).unwrap();
                let stamp = event.stamp.unwrap();
                assert_eq!(stamp.prev, last, "an event is missing");
                assert_eq!(event.key, format!("k{found}"));
                (last, found) = (stamp.seq, found + 1);
            }
            pieces += 1;
            after = upto;
            if upto >= end {
                break;
            }
        }
        assert_eq!(found, 2_000);
        assert!(after >= head);
        assert!((4..8).contains(&pieces), "{pieces} pieces");
    }
    let answer = peer.ask(&replay(incarnation, "t1", head));
    assert!(matches!(answer, Answer::Events { upto, ref events, .. }
        if upto >= head && events.is_empty()));
    assert!(cluster.stop().count("sync_shared_total") >= 3);
}

#[test]
fn what_is_trimmed_or_of_another_life_is_gone() {
    let cluster = Cluster::running("journal_max_events = 1000\n");
    cluster.fill("t1", 0..2_000, "v");
    let mut peer = cluster.peer();
    let (incarnation, behind) = peer.heads(0, &[("t1", 0)]);
    let head = behind[0].1;
    let gone = Answer::Gone { incarnation };
    until("the journal is trimmed", || {
        (peer.ask(&replay(incarnation, "t1", 0)) == gone).then_some(())
    });
    assert_eq!(peer.ask(&replay(incarnation + 1, "t1", head)), gone);
    assert_eq!(peer.ask(&replay(incarnation - 1, "t1", head)), gone);
    let answer = peer.ask(&replay(incarnation, "t1", head - 1));
    let Answer::Events { events, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(read(&events).len(), 1);
}
