//! The gate with real sockets: it opens, it shuts, and broken it is shut.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::event::Event;
use crate::event::topic::MAX_TOPIC_LEN;
use crate::pubsub::driver::zmq::{ZmqPubSub, curve};
use crate::pubsub::endpoint::{Endpoint, Host};
use crate::pubsub::{PeerControl, PeerRules, Subscription};
use crate::pubsub::{PubSubApi, PublisherApi, PublisherOptions};
use crate::security::file;
use crate::security::key::{PublicKey, SecretKey};
use crate::security::party::ServerKey;
use crate::util::testing::within;

struct Rig {
    folder: TempDir,
    context: zmq::Context,
    server: PublicKey,
    port: u16,
    publisher: Box<dyn PublisherApi>,
    /// Not the gate's: who is kept out may come again.
    admitted: Admitted,
}

fn pair() -> (PublicKey, SecretKey) {
    let secret = SecretKey::random().unwrap();
    (curve::public_key(&secret).unwrap(), secret)
}

impl Rig {
    fn gate(context: &zmq::Context, folder: &TempDir) -> Gate {
        let authorized = folder.path().join("authorized");
        std::fs::create_dir_all(&authorized).unwrap();
        let options = GateOptions {
            authorized,
            pending: folder.path().join("pending"),
            cut_every: Duration::ZERO,
            admitted: Admitted::default(),
        };
        Gate::start(context, options).unwrap()
    }

    fn new(context: &zmq::Context, folder: TempDir) -> Rig {
        Rig::with(context, folder, PeerRules::default())
    }

    fn with(context: &zmq::Context, folder: TempDir, peers: PeerRules) -> Rig {
        let (server, key) = pair();
        let key = ServerKey::new(key);
        let admitted = key.admitted.clone();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let host = Host::Ip("127.0.0.1".parse().unwrap());
        let mut publisher = ZmqPubSub::with_context(context)
            .publisher(&PublisherOptions {
                endpoint: Endpoint::Tcp { host, port },
                send_hwm: 1_000,
                subscriptions: true,
                send_timeout: Duration::ZERO,
                linger: Duration::ZERO,
                socket_group: None,
                socket_users: Default::default(),
                key: Some(key),
                peers,
            })
            .unwrap();
        publisher.initialize().unwrap();
        Rig {
            folder,
            context: context.clone(),
            server,
            port,
            publisher,
            admitted,
        }
    }

    fn authorise(&self, name: &str, key: &PublicKey) {
        let path = self.folder.path().join("authorized").join(name);
        file::write_public(&path, key, true).unwrap();
    }

    fn client(&self, secret: &SecretKey) -> zmq::Socket {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(20).unwrap();
        let public = curve::public_key(secret).unwrap();
        socket.set_curve_serverkey(self.server.as_bytes()).unwrap();
        socket.set_curve_publickey(public.as_bytes()).unwrap();
        socket.set_curve_secretkey(secret.as_bytes()).unwrap();
        socket.set_subscribe(b"").unwrap();
        socket.connect(&self.uri()).unwrap();
        socket
    }

    fn uri(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// A socket of `kind` with nothing subscribed to.
    fn bare(&self, kind: zmq::SocketType, secret: &SecretKey) -> zmq::Socket {
        self.bare_at(&self.uri(), kind, secret)
    }

    fn bare_at(&self, uri: &str, kind: zmq::SocketType, secret: &SecretKey) -> zmq::Socket {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(5).unwrap();
        let public = curve::public_key(secret).unwrap();
        socket.set_curve_serverkey(self.server.as_bytes()).unwrap();
        socket.set_curve_publickey(public.as_bytes()).unwrap();
        socket.set_curve_secretkey(secret.as_bytes()).unwrap();
        socket.connect(uri).unwrap();
        socket
    }

    fn peers(&mut self) -> &mut dyn PeerControl {
        self.publisher.control().unwrap()
    }

    /// Gives leave to whatever `may` says; gives what was asked for and by whom.
    fn judge(&mut self, may: impl Fn(&str, &[u8]) -> bool) -> Vec<(String, Vec<u8>, bool)> {
        let mut seen = Vec::new();
        let see = &mut |subscription: &Subscription<'_>| {
            let node = subscription.node.unwrap_or_default();
            seen.push((
                node.to_owned(),
                subscription.prefix.to_vec(),
                subscription.added,
            ));
            may(node, subscription.prefix)
        };
        self.peers().subscriptions(see).unwrap();
        seen
    }

    /// Sends until `client` has something.
    #[track_caller]
    fn reaches(&mut self, client: &zmq::Socket) {
        within("something is heard", || {
            self.send();
            client.poll(zmq::POLLIN, 5).unwrap() > 0
        });
        while client.recv_bytes(zmq::DONTWAIT).is_ok() {}
    }

    fn send(&mut self) {
        let event = Event::set("t", "k", "v");
        self.publisher.send_event(&event, None).unwrap();
    }

    /// Lets libzmq take in what has come, without asking for it.
    fn pass(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            self.send();
        }
    }

    /// Connections that were ended for harm, or for what their node did before they said anything.
    fn ended(&mut self) -> u64 {
        let peers = self.peers().peers();
        peers.unruly + peers.kept_out
    }

    /// Waits until someone was refused.
    #[track_caller]
    fn refuses(&mut self) {
        within("somebody is refused", || self.peers().peers().refused > 0);
    }
}

#[test]
fn broken_it_admits_nobody_and_cuts_nobody() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::new(&context, folder);
    let (first, second) = (pair(), pair());
    rig.authorise("n1.key", &first.0);
    rig.authorise("n2.key", &second.0);
    gate.look();
    within("both are known", || gate.metrics.gate_nodes.get() == 2);
    let before = rig.client(&first.1);
    rig.reaches(&before);
    assert_eq!(gate.metrics.gate_admitted_total.get(), 1);

    gate.break_down();
    within("it is broken", || gate.metrics.gate_open.get() == 0);
    let after = rig.client(&second.1);
    rig.refuses();
    rig.reaches(&before);
    rig.refuses();
    rig.reaches(&before);
    assert_eq!(after.poll(zmq::POLLIN, 0).unwrap(), 0);
    assert_eq!(gate.metrics.gate_admitted_total.get(), 1);
    drop(gate);

    // With a new gate the same client gets in.
    let folder = std::mem::replace(&mut rig.folder, tempfile::tempdir().unwrap());
    let _gate = Rig::gate(&rig.context, &folder);
    rig.reaches(&after);
}

#[test]
fn without_one_nobody_is_admitted() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let mut rig = Rig::new(&context, folder);
    let client = rig.client(&pair().1);
    rig.refuses();
    rig.send();
    rig.refuses();
    assert_eq!(client.poll(zmq::POLLIN, 0).unwrap(), 0);
}

#[test]
fn unknown_keys_are_listed_let_in_when_authorised_and_cut_off() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::new(&context, folder);
    let (public, secret) = pair();
    let client = rig.client(&secret);
    rig.refuses();
    gate.look();
    let list = rig.folder.path().join("pending");
    within("it is listed", || {
        let pending = crate::security::pending::Pending::read(&list).unwrap();
        pending.iter().any(|(key, _)| *key == public)
    });
    assert!(gate.metrics.gate_refused_total.get() > 0);

    rig.authorise("n1.key", &public);
    gate.look();
    rig.reaches(&client);
    gate.look();
    within("it is listed no longer", || {
        gate.metrics.gate_pending.get() == 0
    });

    let cuts = gate.cuts();
    std::fs::remove_file(rig.folder.path().join("authorized/n1.key")).unwrap();
    gate.look();
    within("a cut is ordered", || cuts.count() == 1);
    let mut first = true;
    within("it is open again", || {
        rig.peers().cut(std::mem::take(&mut first)).unwrap()
    });
    rig.refuses();
    while client.recv_bytes(zmq::DONTWAIT).is_ok() {}
    rig.send();
    rig.refuses();
    assert_eq!(client.poll(zmq::POLLIN, 0).unwrap(), 0);
}

/// What cannot be read for a moment is no reason to cut anybody off, nor to keep one who goes.
#[test]
fn a_disk_that_fails_for_a_moment_shuts_nobody_out() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::new(&context, folder);
    let (own, other) = (pair(), pair());
    rig.authorise("n1.key", &own.0);
    rig.authorise("n2.key", &other.0);
    gate.look();
    let nodes = || gate.metrics.gate_nodes.get();
    within("both are known", || nodes() == 2);
    let authorized = rig.folder.path().join("authorized");
    std::fs::rename(authorized.join("n1.key"), authorized.join("kept")).unwrap();
    // Reading it fails with EIO.
    std::os::unix::fs::symlink("/proc/self/mem", authorized.join("n1.key")).unwrap();
    gate.look();
    let unsure = || gate.metrics.gate_unsure_files.get();
    within("it cannot be read", || unsure() == 1);
    assert_eq!((nodes(), gate.cuts().count()), (2, 0));
    let client = rig.client(&own.1);
    rig.reaches(&client);
    std::fs::remove_file(authorized.join("n2.key")).unwrap();
    gate.look();
    within("the other is cut off", || gate.cuts().count() == 1);
    assert_eq!((nodes(), unsure()), (1, 1));
    std::fs::rename(authorized.join("kept"), authorized.join("n1.key")).unwrap();
    gate.look();
    within("it can be read", || unsure() == 0);
    assert_eq!((nodes(), gate.cuts().count()), (1, 1));
}

const GUARDED: PeerRules = PeerRules {
    guarded: true,
    max_connections: 100,
    max_silent: 50,
    max_subscriptions: 50,
    max_all_subscriptions: 1_000,
};

/// libzmq keeps connections in mind whose memory it has given back.
#[test]
fn nothing_is_made_for_connections_that_have_ended() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::with(&context, folder, GUARDED);
    let own = pair();
    rig.authorise("n1.key", &own.0);
    gate.look();
    within("it is known", || gate.metrics.gate_nodes.get() == 1);
    for round in 0..20u64 {
        let clients: Vec<zmq::Socket> = (0..5).map(|_| rig.bare(zmq::SUB, &own.1)).collect();
        for client in &clients {
            for n in 0..40 {
                client.set_subscribe(format!("p{n}\0").as_bytes()).unwrap();
            }
        }
        let admitted = 5 * (round + 1);
        within("all are admitted", || {
            gate.metrics.gate_admitted_total.get() == admitted
        });
        // Subscriptions are read by libzmq while it sends; nobody asks for them yet.
        rig.pass();
        drop(clients);
        within("all have ended", || {
            rig.send();
            rig.peers().peers().open == 0
        });
        // Its memory goes a moment after.
        rig.pass();
        assert_eq!(rig.judge(|_, _| true), [], "round {round}");
        let mut nothing = |_: &Subscription<'_>| panic!("round {round}");
        // Who never comes to the end of what waits takes it for a flood.
        while rig.peers().subscriptions(&mut nothing).unwrap() {}
        for n in 0..40 {
            let topic = format!("p{n}");
            rig.publisher.send_payload(&topic, b"x").unwrap();
        }
    }
    // Whoever is there has what it asks for.
    let client = rig.bare(zmq::SUB, &own.1);
    client.set_subscribe(b"p1\0").unwrap();
    within("it hears what it asked for", || {
        rig.judge(|node, prefix| node == "n1" && prefix == b"p1\0");
        rig.publisher.send_payload("p1", b"x").unwrap();
        client.poll(zmq::POLLIN, 2).unwrap() > 0
    });
}

/// Between a client and the publisher: passes on what both send, once, and says something of its own when told to.
struct Between {
    uri: String,
    say: std::sync::mpsc::Sender<&'static [u8]>,
}

impl Between {
    fn new(port: u16) -> Between {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("tcp://{}", listener.local_addr().unwrap());
        let (say, said) = std::sync::mpsc::channel::<&'static [u8]>();
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            drop(listener);
            let server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let copy = |from: &std::net::TcpStream, to: &std::net::TcpStream| {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                // Until one of them is closed.
                std::thread::spawn(move || _ = std::io::copy(&mut from, &mut to));
            };
            copy(&client, &server);
            copy(&server, &client);
            while let Ok(bytes) = said.recv() {
                (&server).write_all(bytes).unwrap();
            }
            for stream in [client, server] {
                // It may be closed already.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        Between { uri, say }
    }
}

/// libzmq speaks of a failed handshake too where somebody breaks the rules long after it, and where somebody is
/// refused who stays connected.
#[test]
fn who_fails_a_handshake_does_not_hide_who_has_ended() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::with(&context, folder, GUARDED);
    let (own, stranger) = (pair(), pair());
    rig.authorise("n1.key", &own.0);
    gate.look();
    within("it is known", || gate.metrics.gate_nodes.get() == 1);
    let (mut late, mut breaches) = (0, 0);
    for round in 0..20u64 {
        let breach = round % 2 == 0;
        let between = Between::new(rig.port);
        let client = rig.bare_at(&between.uri, zmq::SUB, &own.1);
        for n in 0..40 {
            client.set_subscribe(format!("p{n}\0").as_bytes()).unwrap();
        }
        within("it is admitted", || {
            gate.metrics.gate_admitted_total.get() == round + 1
        });
        rig.pass();
        let refused = gate.metrics.gate_refused_total.get();
        let other = (!breach).then(|| rig.bare(zmq::SUB, &stranger.1));
        if breach {
            // No message of CURVE.
            between.say.send(b"\0\x07garbage").unwrap();
            rig.pass();
            breaches += rig.peers().peers().refused;
        } else {
            within("the stranger is refused", || {
                gate.metrics.gate_refused_total.get() > refused
            });
        }
        drop((client, between));
        // It ends before the other one does.
        rig.pass();
        drop(other);
        within("both have ended", || {
            rig.send();
            rig.peers().peers().open == 0
        });
        rig.pass();
        let mut seen = Vec::new();
        let see = &mut |subscription: &Subscription<'_>| {
            seen.push(subscription.prefix.to_vec());
            true
        };
        late += u32::from(rig.peers().subscriptions(see).unwrap());
        assert!(seen.is_empty(), "round {round}: {seen:?}");
    }
    assert!(late >= 15 && breaches > 0, "{late} {breaches}");
}

/// After a message that is no subscription libzmq takes one connection for another.
#[test]
fn a_subscription_is_not_made_for_somebody_else() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::with(&context, folder, GUARDED);
    // Several of each: one may not connect so often.
    let pairs: Vec<_> = (0..4).map(|_| (pair(), pair())).collect();
    for (number, (honest, other)) in pairs.iter().enumerate() {
        rig.authorise(&format!("honest{number}.key"), &honest.0);
        rig.authorise(&format!("other{number}.key"), &other.0);
    }
    gate.look();
    within("all are known", || gate.metrics.gate_nodes.get() == 8);
    let may = |node: &str, prefix: &[u8]| node.starts_with("honest") && prefix == b"secret\0";
    let mut ended = 0;
    for round in 0..40 {
        let (honest, other) = &pairs[round as usize % 4];
        let thief = rig.bare(zmq::XSUB, &other.1);
        let client = rig.bare(zmq::SUB, &honest.1);
        within("both are there", || {
            rig.send();
            gate.metrics.gate_admitted_total.get() >= 2 * (round + 1)
        });
        // In this order: no subscription, that of the honest one, another of the thief. libzmq takes
        // them in while it sends.
        let pass = |rig: &mut Rig| {
            std::thread::sleep(Duration::from_millis(4));
            rig.send();
        };
        thief.send("no subscription", 0).unwrap();
        pass(&mut rig);
        client.set_subscribe(b"secret\0").unwrap();
        pass(&mut rig);
        thief.send(&b"\x01anything\0"[..], 0).unwrap();
        pass(&mut rig);
        within("the honest one hears", || {
            rig.judge(may);
            rig.publisher.send_payload("secret", b"x").unwrap();
            ended += rig.ended();
            client.poll(zmq::POLLIN, 2).unwrap() > 0
        });
        assert_eq!(thief.poll(zmq::POLLIN, 2).unwrap(), 0, "round {round}");
    }
    assert!(ended >= 10, "{ended}");
}

/// A guarded publisher with the keys of `n1` and `n2`.
fn guarded() -> (Rig, Gate, [SecretKey; 2]) {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let rig = Rig::with(&context, folder, GUARDED);
    let secrets = ["n1.key", "n2.key"].map(|file| {
        let (public, secret) = pair();
        rig.authorise(file, &public);
        secret
    });
    gate.look();
    within("both are known", || gate.metrics.gate_nodes.get() == 2);
    (rig, gate, secrets)
}

/// A node with another connection, on which it has said nothing yet: nobody knows whose that is until it does.
#[test]
fn who_is_kept_out_is_not_heard_on_what_it_had_in_store() {
    let (mut rig, gate, [own, honest]) = guarded();
    let [bad, stored] = [(), ()].map(|()| rig.bare(zmq::XSUB, &own));
    let client = rig.bare(zmq::XSUB, &honest);
    within("all are there", || {
        rig.judge(|_, _| true);
        gate.metrics.gate_admitted_total.get() == 3 && rig.peers().peers().open == 3
    });
    bad.send("no subscription", 0).unwrap();
    within("it is kept out", || {
        rig.judge(|_, _| true);
        rig.admitted.is_out("n1", Instant::now())
    });
    drop(bad);
    for other in [&stored, &client] {
        other.send(&b"\x01secret\0"[..], 0).unwrap();
    }
    let (mut ended, mut seen) = (0, Vec::new());
    within("the other one is ended, and the honest one heard", || {
        seen.extend(rig.judge(|_, _| true));
        ended += rig.peers().peers().kept_out;
        ended > 0 && !seen.is_empty()
    });
    assert_eq!(seen, [("n2".to_owned(), b"secret\0".to_vec(), true)]);
    assert_eq!(ended, 1);
}

/// A node that was taken over may be at two places at once.
#[test]
fn who_is_kept_out_loses_what_it_has_from_other_addresses_too() {
    let (mut rig, _gate, [own, honest]) = guarded();
    let elsewhere = format!("tcp://127.0.0.2:0;127.0.0.1:{}", rig.port);
    let bad = rig.bare(zmq::XSUB, &own);
    let other = rig.bare_at(&elsewhere, zmq::XSUB, &own);
    let client = rig.bare(zmq::XSUB, &honest);
    let mut heard = 0;
    for one in [&bad, &other, &client] {
        one.send(&b"\x01anything\0"[..], 0).unwrap();
    }
    within("all are heard", || {
        heard += rig.judge(|_, _| true).len();
        heard == 3
    });
    bad.send("no subscription", 0).unwrap();
    let mut ended = 0;
    within("the other one is ended", || {
        rig.judge(|_, _| true);
        ended += rig.peers().peers().kept_out;
        ended > 0
    });
    assert!(rig.admitted.is_out("n1", Instant::now()));
    assert!(!rig.admitted.is_out("n2", Instant::now()));
    assert_eq!(ended, 1);
}

/// So that its end is known before what it has sent is heard.
#[test]
fn who_does_harm_and_hangs_up_is_kept_out() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::with(&context, folder, GUARDED);
    let (public, own) = pair();
    rig.authorise("n1.key", &public);
    gate.look();
    within("it is known", || gate.metrics.gate_nodes.get() == 1);
    let bad = rig.bare(zmq::XSUB, &own);
    bad.send(&b"\x01anything\0"[..], 0).unwrap();
    within("it is heard", || !rig.judge(|_, _| true).is_empty());
    assert!(!rig.admitted.is_out("n1", Instant::now()));
    bad.set_linger(20_000).unwrap();
    bad.send("no subscription", 0).unwrap();
    // Its context goes with it, once all was sent.
    drop(bad);
    within("it is kept out", || {
        rig.judge(|_, _| true);
        rig.admitted.is_out("n1", Instant::now())
    });
    assert_eq!(rig.peers().peers().unruly, 1);
}

/// Who asks for too much is cut off, and nobody else.
#[test]
fn too_many_subscriptions_end_their_connection() {
    for guarded in [true, false] {
        let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
        let gate = Rig::gate(&context, &folder);
        let mut rig = Rig::with(&context, folder, PeerRules { guarded, ..GUARDED });
        let (honest, other) = (pair(), pair());
        rig.authorise("honest.key", &honest.0);
        rig.authorise("other.key", &other.0);
        gate.look();
        within("both are known", || gate.metrics.gate_nodes.get() == 2);
        let client = rig.bare(zmq::SUB, &honest.1);
        client.set_subscribe(b"t\0").unwrap();
        within("the honest one hears", || {
            rig.judge(|_, prefix| prefix == b"t\0");
            rig.publisher.send_payload("t", b"x").unwrap();
            client.poll(zmq::POLLIN, 2).unwrap() > 0
        });
        let bomb = rig.bare(zmq::XSUB, &other.1);
        for n in 0..10_000 {
            bomb.send(format!("\u{1}bomb{n}\0").as_bytes(), zmq::DONTWAIT)
                .unwrap_or_default();
        }
        let (mut greedy, mut most) = (0, 0);
        within("the bomb is cut off", || {
            let seen = rig.judge(|_, prefix| prefix == b"t\0");
            most = most.max(seen.iter().filter(|(node, ..)| node == "other").count());
            greedy += rig.peers().peers().greedy;
            greedy > 0
        });
        bomb.disconnect(&rig.uri()).unwrap();
        while client.recv_multipart(zmq::DONTWAIT).is_ok() {}
        rig.judge(|_, prefix| prefix == b"t\0");
        rig.publisher.send_payload("t", b"x").unwrap();
        assert!(client.poll(zmq::POLLIN, 5_000).unwrap() > 0);
        assert!(!guarded || most <= 50, "{most}");
    }
}

/// libzmq would take what no topic is, at a price.
#[test]
fn a_subscription_that_is_too_long_ends_its_connection() {
    for guarded in [true, false] {
        let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
        let gate = Rig::gate(&context, &folder);
        let mut rig = Rig::with(&context, folder, PeerRules { guarded, ..GUARDED });
        let (honest, other) = (pair(), pair());
        rig.authorise("n1.key", &honest.0);
        rig.authorise("n2.key", &other.0);
        gate.look();
        within("both are known", || gate.metrics.gate_nodes.get() == 2);
        let topic = "x".repeat(MAX_TOPIC_LEN);
        let asks = |length: usize, own: &SecretKey| {
            let client = rig.bare(zmq::XSUB, own);
            let mut message = format!("\u{1}{topic}\0").into_bytes();
            message.resize(1 + length, b'y');
            client.send(message, 0).unwrap();
            client
        };
        // The longest there is, two that are longer, and almost a whole message.
        let client = asks(241, &honest.1);
        let longer = [242, 300, 900].map(|length| (length, asks(length, &other.1)));
        let mut ended = 0;
        within("the others are ended, and it hears", || {
            for (_, prefix, _) in rig.judge(|_, _| true) {
                assert!(prefix.len() <= 241, "{} bytes are seen", prefix.len());
            }
            ended += rig.ended();
            rig.publisher.send_payload(&topic, b"x").unwrap();
            ended >= longer.len() as u64 && client.poll(zmq::POLLIN, 2).unwrap() > 0
        });
        let is_out = |node| rig.admitted.is_out(node, Instant::now());
        assert!(is_out("n2") && !is_out("n1"));
        for (length, peer) in &longer {
            let heard = peer.poll(zmq::POLLIN, 0).unwrap();
            assert_eq!(heard, 0, "one of {length} bytes hears");
        }
    }
}

/// Who asks for more than all may have together is ended, but has done no harm; what others give back it
/// may have.
#[test]
fn subscriptions_of_all_are_bounded() {
    let rules = PeerRules {
        max_all_subscriptions: 60,
        ..GUARDED
    };
    for guarded in [true, false] {
        let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
        let gate = Rig::gate(&context, &folder);
        let mut rig = Rig::with(&context, folder, PeerRules { guarded, ..rules });
        let (first, second) = (pair(), pair());
        rig.authorise("n1.key", &first.0);
        rig.authorise("n2.key", &second.0);
        gate.look();
        within("both are known", || gate.metrics.gate_nodes.get() == 2);
        // What is seen: the same of two connections is there twice.
        let mut held = HashMap::<String, i32>::new();
        let mut look = |rig: &mut Rig| {
            for (_, prefix, added) in rig.judge(|_, _| true) {
                let prefix = String::from_utf8(prefix).unwrap();
                *held.entry(prefix).or_default() += if added { 1 } else { -1 };
                let all: i32 = held.values().sum();
                assert!(all <= 60, "all have {all}");
            }
            let of = |name| {
                held.iter()
                    .filter(move |(prefix, _)| prefix.starts_with(name))
            };
            let count = |name| of(name).map(|(_, count)| count).sum::<i32>();
            (count("a"), count("b"))
        };
        // Fewer than one may have, and two of them more than all may have.
        let asks = |rig: &Rig, own: &SecretKey, name: &str| {
            let client = rig.bare(zmq::SUB, own);
            for n in 0..40 {
                let topic = format!("{name}{n}\0");
                client.set_subscribe(topic.as_bytes()).unwrap();
            }
            client
        };
        let one = asks(&rig, &first.1, "a");
        within("the first has all", || look(&mut rig).0 == 40);
        assert_eq!(rig.peers().peers().greedy, 0);
        let two = asks(&rig, &second.1, "b");
        let mut greedy = 0;
        within("the second is ended", || {
            look(&mut rig);
            greedy += rig.peers().peers().greedy;
            greedy > 0
        });
        let is_out = rig.admitted.is_out("n2", Instant::now());
        assert!(!is_out, "it may come at once");
        rig.publisher.send_payload("a39", b"x").unwrap();
        assert!(one.poll(zmq::POLLIN, 5_000).unwrap() > 0, "it goes on");
        drop(one);
        within("the second has all", || {
            // libzmq asks anew only while it is used.
            two.get_events().unwrap();
            look(&mut rig) == (0, 40)
        });
        within("and hears", || {
            // Some of these may have been those of the connection before.
            look(&mut rig);
            rig.publisher.send_payload("b39", b"x").unwrap();
            two.poll(zmq::POLLIN, 2).unwrap() > 0
        });
    }
}

/// What ends without having begun, and what ends twice, is not shown.
#[test]
fn only_what_was_asked_for_ends() {
    let (folder, context) = (tempfile::tempdir().unwrap(), zmq::Context::new());
    let gate = Rig::gate(&context, &folder);
    let mut rig = Rig::new(&context, folder);
    let (public, secret) = pair();
    rig.authorise("n1.key", &public);
    gate.look();
    within("it is known", || gate.metrics.gate_nodes.get() == 1);
    let client = rig.bare(zmq::XSUB, &secret);
    let (mut all, mut shown) = (Vec::new(), 0_i32);
    within("everything was seen", || {
        if all.is_empty() {
            for message in [
                "\u{0}a", "\u{1}a", "\u{1}a", "\u{0}b", "\u{0}a", "\u{0}a", "\u{1}c",
            ] {
                client.send(message, zmq::DONTWAIT).unwrap_or_default();
            }
        }
        all.extend(rig.judge(|_, _| true));
        all.iter().any(|(_, prefix, _)| prefix == b"c")
    });
    drop(client);
    within("it is gone", || {
        all.extend(rig.judge(|_, _| true));
        rig.peers().peers().open == 0
    });
    all.extend(rig.judge(|_, _| true));
    for (_, prefix, added) in &all {
        assert!(prefix != b"b", "never asked for");
        if prefix == b"a" {
            shown += if *added { 1 } else { -1 };
            assert!((0..=1).contains(&shown), "{all:?}");
        }
    }
    let ended = all.iter().filter(|(_, prefix, _)| prefix == b"c").count();
    assert_eq!((shown, ended), (0, 2), "{all:?}");
}
