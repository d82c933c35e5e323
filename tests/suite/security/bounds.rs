//! Bounds of the two ports: who takes too much is held back, and others are not.

use std::net::TcpStream;

use fanfare::sync::{Answer, Request, answer, request};

use crate::rig::load::rows;
use crate::rig::site::Site;
use crate::rig::stranger::taken_over;
use crate::rig::{until, wait_for};

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let mut site = Site::with(&["n1"], "max_silent_connections = 16\n");
    site.cluster.publish("t1", 0..20, 100);
    let ports = [site.cluster.host.port.number, site.cluster.sync.number];
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..60 {
        for port in ports {
            silent.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
    }
    until("the silent ones are ended", || {
        let parts = site.report()["parts"].clone();
        let ended = [
            &parts["service"]["connections_crowded_total"],
            &parts["sync"]["sync_connections_crowded_total"],
        ];
        let enough = ended.iter().all(|count| count.as_u64() >= Some(44));
        // libzmq finds out a little later.
        let open = parts["service"]["connections"].as_u64().unwrap();
        (enough && open <= 20).then_some(())
    });
    let mut node = site.node("n1");
    node.has(&rows(20, 100));
    let counted = node.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    site.stop();
}

#[test]
fn more_connections_than_there_may_be_are_ended() {
    let mut site = Site::with(&["n1"], "max_connections = 16\n");
    site.cluster.publish("t1", 0..20, 100);
    let mut node = site.node("n1");
    node.has(&rows(20, 100));
    let port = site.cluster.host.port.number;
    let many: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    wait_for("the newest are ended", || {
        let parts = site.report()["parts"].clone();
        parts["service"]["connections_crowded_total"].as_u64() >= Some(45)
            && parts["service"]["connections"].as_u64() <= Some(16)
    });
    // Who was there before stays.
    site.cluster.publish("t1", 20..40, 100);
    node.has(&rows(40, 100));
    drop(many);
    let counted = node.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    site.stop();
}

/// One node does not use up the connections that all may have, nor connect without end.
#[test]
fn one_node_has_few_connections() {
    let mut site = Site::with(&["n1", "n2"], "max_connections = 48\n");
    site.cluster.publish("t1", 0..20, 100);
    let mut node = site.node("n1");
    node.has(&rows(20, 100));
    let count = |part: &str, name: &str| site.report()["parts"][part][name].as_u64().unwrap();
    let ports = [
        (zmq::SUB, site.cluster.uri()),
        (zmq::DEALER, site.sync_uri.clone()),
    ];
    let many: Vec<zmq::Socket> = (0..60)
        .map(|number| {
            let (kind, uri) = &ports[number % 2];
            let socket = taken_over(&site, "n2", *kind, uri);
            match *kind {
                zmq::SUB => socket.set_subscribe(b"t1\0").unwrap(),
                _ => socket.send("no request", 0).unwrap(),
            }
            socket
        })
        .collect();
    // Those that are ended come again, until they have come too often.
    wait_for("the node is held back", || {
        count("service", "connections_crowded_total") >= 4
            && count("sync", "sync_connections_crowded_total") >= 4
            && count("gate", "gate_hurried_total") >= 20
    });
    site.cluster.publish("t1", 20..40, 100);
    node.has(&rows(40, 100));
    let counted = node.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    drop(many);
    let said = site.stop();
    assert!(
        said.0.contains("node n2 connects without end"),
        "{}",
        said.0
    );
}

#[test]
fn who_asks_too_often_is_told_to_wait() {
    let mut site = Site::with(&["n1", "n2"], "sync_request_rate = 20\n");
    site.cluster.publish("t1", 0..20, 100);
    // Two connections of one node have one pace.
    let lines = [(); 2].map(|()| taken_over(&site, "n2", zmq::DEALER, &site.sync_uri));
    let heads = Request::Heads {
        incarnation: 1,
        topics: vec![("t1".into(), 0)],
    };
    let mut out = Vec::new();
    for n in 0..200 {
        request::encode(n, &heads, &mut out);
        lines[n as usize % 2].send(&out, 0).unwrap();
    }
    let (mut told, mut answered) = (0, 0);
    wait_for("all are answered", || {
        for line in &lines {
            while let Ok(bytes) = line.recv_bytes(zmq::DONTWAIT) {
                match answer::decode(&bytes).unwrap().1 {
                    Answer::RetryAfter(_) => told += 1,
                    Answer::Heads { .. } => answered += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        // Most are lost where so many are asked for at once.
        told + answered >= 24
    });
    assert!(
        told > 0 && answered <= 60,
        "{told} told to wait, {answered} answered"
    );
    let mut node = site.node("n1");
    node.has(&rows(20, 100));
    node.stop();
    let said = site.stop();
    assert!(said.count("sync_hurried_total") >= told, "{}", said.0);
}
