//! A node that is authorised and was taken over.

use fanfare::sync::{MAX_REQUEST, Request, request};

use super::Siege;
use crate::rig::peer::python;
use crate::rig::site::Site;
use crate::rig::stranger::{client, watch_for};
use crate::rig::{until, wait_for};

/// A socket with the keys of a node.
struct Taken {
    socket: zmq::Socket,
    monitor: zmq::Socket,
}

impl Taken {
    fn connect(site: &Site, node: &str, kind: zmq::SocketType) -> Taken {
        let server = site.publisher_key();
        let keys = (&server.as_bytes()[..], &site.secret(node));
        let context = zmq::Context::new();
        let socket = client(&context, kind, Some(keys));
        socket.set_sndhwm(0).unwrap();
        let events = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED | zmq_sys::ZMQ_EVENT_DISCONNECTED;
        let monitor = watch_for(events, &context, &socket);
        let uri = match kind {
            zmq::SUB => site.cluster.uri(),
            _ => site.sync_uri.clone(),
        };
        socket.connect(&uri).unwrap();
        let taken = Taken { socket, monitor };
        assert_eq!(taken.event(), zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
        taken
    }

    /// What happens next to its connection.
    #[track_caller]
    fn event(&self) -> u32 {
        until("something happens to the connection", || self.happened())
    }

    fn happened(&self) -> Option<u32> {
        let frames = self.monitor.recv_multipart(zmq::DONTWAIT).ok()?;
        Some(u16::from_ne_bytes([frames[0][0], frames[0][1]]).into())
    }
}

fn site() -> Site {
    Site::new(&["n1", "n2", "n3", "n4", "n5"])
}

/// As many subscriptions as it can ask for, one of them a megabyte long.
#[test]
fn subscription_bombs() {
    let mut site = site();
    let (honest, newcomer) = (vec![site.node("n1"), site.node("n2")], site.idle("n4"));
    let (many, long) = (
        Taken::connect(&site, "n3", zmq::SUB),
        Taken::connect(&site, "n5", zmq::SUB),
    );
    let mut siege = Siege::begin("subscription bombs", &mut site.cluster, honest);
    let cut_off = |taken: &Taken| taken.happened() == Some(zmq_sys::ZMQ_EVENT_DISCONNECTED);
    long.socket.set_subscribe(&[b'x'; 1 << 20]).unwrap();
    wait_for("the long one is cut off", || cut_off(&long));
    siege.goes_on();
    for number in 0..100_000 {
        let prefix = format!("{:016x}", fastrand::u64(..) ^ number);
        many.socket.set_subscribe(prefix.as_bytes()).unwrap();
        if number % 20_000 == 0 {
            siege.goes_on();
        }
    }
    wait_for("the other is cut off", || cut_off(&many));
    drop(many);
    // libzmq itself cannot let go of such a subscription: it would recurse a million times.
    std::mem::forget(long);
    siege.goes_on();
    siege.ends(newcomer);
    let said = site.stop();
    assert!(said.count("connections_greedy_total") > 0, "{}", said.0);
}

/// Requests without end whose answers are not read, garbage, and messages that are too large.
#[test]
fn a_flood_at_the_sync_service() {
    let mut site = site();
    let (honest, newcomer) = (vec![site.node("n1"), site.node("n2")], site.idle("n4"));
    let taken = Taken::connect(&site, "n3", zmq::DEALER);
    let large = Taken::connect(&site, "n3", zmq::DEALER);
    let mut siege = Siege::begin("a flood at the sync service", &mut site.cluster, honest);
    taken.socket.set_rcvhwm(1).unwrap();
    let mut out = Vec::new();
    for number in 0..20_000 {
        let asked = match number % 4 {
            0 => Request::Snapshot {
                topic: "t1".into(),
                chunk: None,
            },
            1 => Request::Replay {
                incarnation: number,
                topic: "t1".into(),
                after: 0,
            },
            2 => Request::Heads {
                incarnation: number,
                topics: vec![("t1".into(), 0); 100],
            },
            _ => Request::Snapshot {
                topic: format!("nothing{number}"),
                chunk: None,
            },
        };
        request::encode(number, &asked, &mut out);
        if number % 10 == 9 {
            out = std::iter::repeat_with(|| fastrand::u8(..))
                .take(100)
                .collect();
        }
        taken.socket.send(&out, 0).unwrap();
        if number % 5_000 == 0 {
            siege.goes_on();
        }
    }
    siege.goes_on();
    // One that cannot even be taken in.
    large.socket.send(vec![0; 8 * MAX_REQUEST], 0).unwrap();
    assert_eq!(large.event(), zmq_sys::ZMQ_EVENT_DISCONNECTED);
    drop(large);
    siege.goes_on();
    siege.ends(newcomer);
    drop(taken);
    let said = site.stop();
    assert!(said.count("sync_refused_total") > 0, "{}", said.0);
    assert!(
        said.count("sync_connections_unruly_total") > 0,
        "{}",
        said.0
    );
}

/// One message of ever more frames, empty ones and large ones, at both ports; by hand, since libzmq sends no
/// message before it is whole.
#[test]
fn endless_multipart_with_keys() {
    let taken = ["n3", "n4", "n5", "n6"];
    let mut site = Site::new(&["n1", "n2", "n7", taken[0], taken[1], taken[2], taken[3]]);
    let (honest, newcomer) = (vec![site.node("n1"), site.node("n2")], site.idle("n7"));
    let ports = [
        (site.cluster.host.port.number, "SUB"),
        (site.cluster.sync.number, "DEALER"),
    ];
    let keys = site.keys();
    let mut siege = Siege::begin("endless multipart with keys", &mut site.cluster, honest);
    let each = ports
        .iter()
        .flat_map(|port| [0, 900].map(|size| (port, size)));
    for (((port, kind), size), node) in each.zip(taken) {
        let mut endless = python("endless.py");
        endless.args([&port.to_string(), *kind]).arg(&keys);
        let said = endless.args([node, &size.to_string()]).output().unwrap();
        let told = String::from_utf8_lossy(&said.stdout).into_owned();
        eprintln!("{kind}, frames of {size}: {told}");
        assert!(
            said.status.success() && told.contains("not heard"),
            "{said:?}"
        );
        siege.goes_on();
    }
    siege.ends(newcomer);
    let said = site.stop();
    assert_eq!(said.count("gate_refused_total"), 0, "{}", said.0);
    assert_eq!(said.count("connections_unruly_total"), 2, "{}", said.0);
    assert_eq!(said.count("sync_connections_unruly_total"), 2, "{}", said.0);
    assert_eq!(said.count("gate_kept_out_total"), 4, "{}", said.0);
    // What they had in store.
    assert_eq!(said.count("connections_kept_out_total"), 2, "{}", said.0);
    assert_eq!(
        said.count("sync_connections_kept_out_total"),
        2,
        "{}",
        said.0
    );
}
