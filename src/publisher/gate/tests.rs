//! The gate with real sockets: it opens, it shuts, and broken it is shut.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::event::Event;
use crate::pubsub::driver::zmq::{ZmqPubSub, curve};
use crate::pubsub::endpoint::{Endpoint, Host};
use crate::pubsub::{PubSubApi, PublisherApi, PublisherOptions};
use crate::security::file;
use crate::security::key::{PublicKey, SecretKey};

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    folder: TempDir,
    context: zmq::Context,
    server: PublicKey,
    port: u16,
    publisher: Box<dyn PublisherApi>,
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
        };
        Gate::start(context, options).unwrap()
    }

    fn new(context: &zmq::Context, folder: TempDir) -> Rig {
        let (server, key) = pair();
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
                key: Some(key),
                peers: Default::default(),
            })
            .unwrap();
        publisher.initialize().unwrap();
        Rig {
            folder,
            context: context.clone(),
            server,
            port,
            publisher,
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
        let uri = format!("tcp://127.0.0.1:{}", self.port);
        socket.connect(&uri).unwrap();
        socket
    }

    /// Sends until `client` has something.
    #[track_caller]
    fn reaches(&mut self, client: &zmq::Socket) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.send();
            if client.poll(zmq::POLLIN, 5).unwrap() > 0 {
                while client.recv_bytes(zmq::DONTWAIT).is_ok() {}
                return;
            }
            assert!(Instant::now() < until, "nothing is heard");
        }
    }

    fn send(&mut self) {
        let event = Event::set("t", "k", "v");
        self.publisher.send_event(&event, None).unwrap();
    }

    /// Waits until someone was refused.
    #[track_caller]
    fn refuses(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.publisher.peers().refused == 0 {
            assert!(Instant::now() < until, "nobody is refused");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
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
    wait_for("both are known", || gate.metrics.gate_nodes.get() == 2);
    let before = rig.client(&first.1);
    rig.reaches(&before);
    assert_eq!(gate.metrics.gate_admitted_total.get(), 1);

    gate.break_down();
    wait_for("it is broken", || gate.metrics.gate_open.get() == 0);
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
    wait_for("it is listed", || {
        let pending = crate::security::pending::Pending::read(&list).unwrap();
        pending.iter().any(|(key, _)| *key == public)
    });
    assert!(gate.metrics.gate_refused_total.get() > 0);

    rig.authorise("n1.key", &public);
    gate.look();
    rig.reaches(&client);
    gate.look();
    wait_for("it is listed no longer", || {
        gate.metrics.gate_pending.get() == 0
    });

    let cuts = gate.cuts();
    std::fs::remove_file(rig.folder.path().join("authorized/n1.key")).unwrap();
    gate.look();
    wait_for("a cut is ordered", || cuts.count() == 1);
    let mut first = true;
    wait_for("it is open again", || {
        rig.publisher.cut(std::mem::take(&mut first)).unwrap()
    });
    rig.refuses();
    while client.recv_bytes(zmq::DONTWAIT).is_ok() {}
    rig.send();
    rig.refuses();
    assert_eq!(client.poll(zmq::POLLIN, 0).unwrap(), 0);
}
