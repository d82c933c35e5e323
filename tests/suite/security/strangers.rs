//! Who has no right key hears nothing and is not heard.

use std::time::Duration;

use fanfare::event::{Event, codec};
use fanfare::pubsub::driver::zmq::curve;
use fanfare::security::key::SecretKey;

use crate::rig::control::{report, up};
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::port::Port;
use crate::rig::site::Site;
use crate::rig::stranger::{Stranger, refusals};
use crate::rig::wait_for;

/// Each comes once, and after the other: what is counted is its own.
#[test]
fn strangers_hear_nothing() {
    let mut site = Site::new(&["n1"]);
    let mut node = site.node("n1");
    site.cluster.publish("t1", 0..50, 100);
    node.has(&rows(50, 100));

    let server = *site.publisher_key().as_bytes();
    let (unknown, known) = (SecretKey::random().unwrap(), site.secret("n1"));
    let wrong = *curve::public_key(&SecretKey::random().unwrap())
        .unwrap()
        .as_bytes();
    let mut strangers = Vec::new();
    let mut counted = [0; 3];
    assert_eq!(refusals(&site), counted);
    for (kind, uri, port) in [
        (zmq::SUB, site.cluster.uri(), [0, 1, 0]),
        (zmq::DEALER, site.sync_uri.clone(), [0, 0, 1]),
    ] {
        // A key that nobody authorised; the right one for another publisher; plain text.
        for (keys, at_gate) in [
            (Some((&server[..], &unknown)), 1),
            (Some((&wrong[..], &known)), 0),
            (None, 0),
        ] {
            let stranger = Stranger::once(kind, &uri, keys);
            stranger.is_refused();
            counted[0] += at_gate;
            for (count, more) in counted.iter_mut().zip(port) {
                *count += more;
            }
            wait_for(&format!("the publisher has counted {counted:?}"), || {
                refusals(&site) == counted
            });
            strangers.push(stranger);
        }
    }
    site.cluster.publish("t1", 50..150, 100);
    node.has(&rows(150, 100));
    for stranger in &strangers {
        stranger.heard_nothing();
    }
    let counted = node.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    assert_eq!(counted.resyncs(), 1);
    assert_eq!(counted.recovery("snapshots_total"), 2);
    let said = site.stop();
    assert_eq!(said.count("gate_refused_total"), 2, "{}", said.0);
    assert_eq!(said.count("handshakes_refused_total"), 3, "{}", said.0);
    assert_eq!(said.count("sync_handshakes_refused_total"), 3, "{}", said.0);
}

/// Whoever sits at a configured address without the publisher's key is not heard.
#[test]
fn impostors_are_not_heard() {
    let mut site = Site::new(&["n1"]);
    let ports = [Port::free(), Port::free()];
    let secret = SecretKey::random().unwrap();
    let impostors: Vec<_> = ports
        .iter()
        .zip([Some(&secret), None])
        .map(|(port, key)| {
            let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
            socket.set_linger(0).unwrap();
            if let Some(key) = key {
                socket.set_curve_server(true).unwrap();
                socket.set_curve_secretkey(key.as_bytes()).unwrap();
            }
            socket.bind(&port.uri()).unwrap();
            socket
        })
        .collect();
    let uri = site.cluster.uri();
    let publishers = [uri.as_str(), &ports[0].uri(), &ports[1].uri()];
    let secured = site.secured("n1");
    let mut node = Node::new(&publishers, &["t1"], &secured);
    node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 1.0"));
    node.start();
    let mut payload = Vec::new();
    codec::encode(&Event::set("t", "evil", "1").on("t1"), &mut payload);
    let refused = |node: &Node, uri: &str| {
        let lines = node.process.as_ref().unwrap().err.all();
        let mut lines = lines.iter().filter(|line| line.contains(uri));
        lines.any(|line| line.contains("refused") || line.contains("handshake broke off"))
    };
    wait_for("both are refused", || {
        for impostor in &impostors {
            impostor.send(&b"t1\0"[..], zmq::SNDMORE).unwrap();
            impostor.send(&payload[..], 0).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
        refused(&node, publishers[1]) && refused(&node, publishers[2])
    });
    site.cluster.publish("t1", 0..50, 100);
    node.has(&rows(50, 100));
    for impostor in &impostors {
        let told = impostor.recv_bytes(zmq::DONTWAIT);
        assert!(told.is_err(), "a subscription reached an impostor");
    }
    let counted = node.stop();
    let count = |uri: &str, name: &str| counted.of(&format!(" publisher {uri}:"), name);
    for uri in &publishers[1..] {
        assert!(count(uri, "refusals_total") > 0);
        assert_eq!(count(uri, "connects_total"), 0);
    }
    // The publisher beside them notices nothing.
    assert_eq!(count(publishers[0], "connects_total"), 1);
    assert_eq!(counted.of(" publisher tcp", "messages_malformed_total"), 0);
    assert_eq!(counted.recovery("new_incarnations_total"), 0);
    assert_eq!(counted.resyncs(), 1);
    site.stop();
}

/// Keys that do not match are counted as refusals by the side that the alert FanfarePublisherRefuses looks at:
/// a node that has a wrong key of the publisher, or no keys at all, by the node; one that nobody authorised by the gate, which
/// leaves such a connection to time out. That looks to the node as a publisher that hangs, which refuses nobody.
#[test]
fn keys_that_do_not_match_are_counted_as_refusals() {
    let mut site = Site::new(&["n1"]);
    let key = site.keygen("n2");
    let (mut unknown, mut mistaken) = (site.idle("n2"), site.idle("n1"));
    mistaken.configure(|config| {
        let [right, wrong] = ["publisher.key", "n2.key"].map(|name| site.keys().join(name));
        let right = format!("{right:?}");
        assert!(config.contains(&right), "{config}");
        config.replace(&right, &format!("{wrong:?}"))
    });
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("tcp://{}", hung.local_addr().unwrap());
    let mut waiting = Node::new(&[&uri], &["t1"], &site.secured("n1"));
    for node in [&mut unknown, &mut waiting] {
        node.configure(|config| format!("connect_timeout = 0.5\n{config}"));
    }
    let count = |node: &Node, name: &str| {
        let report = report(&node.folder);
        report["publishers"][0]["counters"][name].as_u64().unwrap()
    };
    let mut plain = Node::new(&[&site.cluster.uri()], &["t1"], "");
    for node in [&mut mistaken, &mut plain, &mut waiting] {
        node.start();
        up(&node.folder, "agent");
    }
    for node in [&mistaken, &plain] {
        wait_for("the node is refused again and again", || {
            count(node, "refusals_total") >= 4
        });
        assert_eq!(count(node, "connects_total"), 0);
    }
    assert_eq!(refusals(&site)[0], 0, "the gate was not even asked");
    wait_for("one that hangs is waited for in vain", || {
        count(&waiting, "connects_failed_total") >= 3
    });
    assert_eq!(count(&waiting, "refusals_total"), 0);

    unknown.start();
    up(&unknown.folder, "agent");
    wait_for("the gate refuses the other again and again", || {
        refusals(&site)[0] >= 4
    });
    assert_eq!(count(&unknown, "connects_total"), 0);
    site.authorise("n2", &key);
    wait_for("it is let in", || count(&unknown, "connects_total") == 1);
    for mut node in [unknown, mistaken, plain, waiting] {
        node.stop();
    }
    site.stop();
}
