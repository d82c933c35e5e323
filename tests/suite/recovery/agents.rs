//! Publishers that are not who they say they are, or not alone in it.

use fanfare::event::hello::{Hello, topic_hash};
use fanfare::event::{Event, Stamp, codec};
use serde_json::Value;

use crate::rig::PATIENCE;
use crate::rig::cluster::Cluster;
use crate::rig::control::report;
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::port::Port;

/// A publisher by hand.
struct Forger {
    socket: zmq::Socket,
    port: Port,
}

impl Forger {
    fn new() -> Forger {
        let port = Port::free();
        let socket = zmq::Context::new().socket(zmq::PUB).unwrap();
        socket.set_linger(0).unwrap();
        socket.bind(&port.uri()).unwrap();
        Forger { socket, port }
    }

    fn send(&self, topic: &str, payload: &[u8]) {
        let frame = format!("{topic}\0");
        self.socket
            .send_multipart([frame.as_bytes(), payload], 0)
            .unwrap();
    }

    fn hello(&self, incarnation: u64, head: u64) {
        let mut payload = Vec::new();
        Hello {
            publisher: [9; 16],
            incarnation,
            head,
            recent: vec![(topic_hash("t1"), head)],
            ..Hello::default()
        }
        .encode(&mut payload);
        self.send("\u{1}hello", &payload);
    }

    fn event(&self, incarnation: u64, seq: u64, version: u64, key: &str) {
        let mut payload = Vec::new();
        let stamp = Stamp {
            publisher: [9; 16],
            incarnation,
            seq,
            prev: seq - 1,
            version,
            unix_micros: 1,
        };
        let event = Event {
            stamp: Some(stamp),
            ..Event::set("t", key, "1").on("t1")
        };
        codec::encode(&event, &mut payload);
        self.send("t1", &payload);
    }
}

/// Two publishers with one id behind one address: what comes of the lower incarnation is not
/// applied, and it is said aloud.
#[test]
fn a_lower_incarnation_is_not_believed() {
    let forger = Forger::new();
    let mut node = Node::started(&[&forger.port.uri()], &["t1"], "");
    crate::rig::wait_for("the agent hears it", || {
        forger.hello(5, 0);
        forger.event(5, 1, 100, "first");
        node.rows()
            .get("t")
            .is_some_and(|table| table.contains_key("first"))
    });
    for round in 0..5 {
        forger.hello(4, 9);
        forger.event(4, 10 + round, 1_000 + round, "forged");
        forger.hello(5, 1);
    }
    node.says("a message of a lower incarnation");
    forger.event(5, 2, 101, "last");
    crate::rig::wait_for("the true one is heard on", || {
        node.rows()["t"].contains_key("last")
    });
    assert!(!node.rows()["t"].contains_key("forged"));
    let counted = node.stop();
    assert!(counted.recovery("lower_incarnations_total") >= 10);
}

/// Two addresses that lead to one id: rows of the two cannot be told apart.
#[test]
fn two_addresses_with_one_id_are_reported() {
    let id = "publisher_id = \"0123456789abcdef0123456789abcdef\"\n";
    let (first, mut second) = (Cluster::running(id), Cluster::running(id));
    first.publish("t1", 0..10, 10);
    let mut node = Node::started(&[&first.uri(), &second.uri()], &["t1"], "");
    node.has(&rows(10, 10));
    node.says("another address leads to a publisher with the same id");
    let uris = [first.uri(), second.uri()];
    let twins = |node: &Node| -> Vec<Value> {
        let report = report(&node.folder);
        let publishers = report["publishers"].as_array().unwrap().iter();
        let of = |uri: &String| publishers.clone().find(|each| each["uri"] == *uri).unwrap();
        uris.iter().map(|uri| of(uri)["twin"].clone()).collect()
    };
    crate::rig::wait_for("each is shown as the other's twin", || {
        twins(&node) == [uris[1].as_str(), uris[0].as_str()]
    });
    // It is over as soon as the one of them is gone.
    second.host.stop(PATIENCE);
    crate::rig::wait_for("nobody has a twin", || {
        twins(&node).iter().all(Value::is_null)
    });
    assert!(node.stop().recovery("twins_total") > 0);
}
