//! Bare sockets that connect with the keys they have.

use fanfare::pubsub::driver::zmq::curve;
use fanfare::security::key::SecretKey;
use fanfare::sync::{Request, request};

use super::site::Site;
use super::wait_for;

/// A bare socket, and what libzmq says of its handshakes.
pub struct Stranger {
    pub socket: zmq::Socket,
    monitor: zmq::Socket,
}

const FAILED: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
    | zmq_sys::ZMQ_EVENT_DISCONNECTED;

/// The publisher's public key and a client's secret one.
pub type Keys<'a> = (&'a [u8], &'a SecretKey);

/// A socket with these keys that is not connected yet.
pub fn client(
    context: &zmq::Context,
    kind: zmq::SocketType,
    keys: Option<Keys<'_>>,
) -> zmq::Socket {
    let socket = context.socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_reconnect_ivl(20).unwrap();
    if let Some((server, secret)) = keys {
        let public = curve::public_key(secret).unwrap();
        socket.set_curve_serverkey(server).unwrap();
        socket.set_curve_publickey(public.as_bytes()).unwrap();
        socket.set_curve_secretkey(secret.as_bytes()).unwrap();
    }
    socket
}

/// What libzmq says of failed handshakes at a socket.
pub fn watch(context: &zmq::Context, socket: &zmq::Socket) -> zmq::Socket {
    watch_for(FAILED, context, socket)
}

/// What libzmq says of these events at a socket.
pub fn watch_for(events: u32, context: &zmq::Context, socket: &zmq::Socket) -> zmq::Socket {
    let address = "inproc://events";
    socket.monitor(address, events as i32).unwrap();
    let monitor = context.socket(zmq::PAIR).unwrap();
    monitor.connect(address).unwrap();
    monitor
}

impl Stranger {
    /// Connects with these keys, the publisher's public one and its own; with none in plain text. It
    /// comes again and again.
    pub fn connect(kind: zmq::SocketType, uri: &str, keys: Option<Keys<'_>>) -> Stranger {
        Stranger::again(20, kind, uri, keys)
    }

    /// The same, but it comes a single time.
    pub fn once(kind: zmq::SocketType, uri: &str, keys: Option<Keys<'_>>) -> Stranger {
        Stranger::again(-1, kind, uri, keys)
    }

    fn again(every_ms: i32, kind: zmq::SocketType, uri: &str, keys: Option<Keys<'_>>) -> Stranger {
        let context = zmq::Context::new();
        let socket = client(&context, kind, keys);
        socket.set_reconnect_ivl(every_ms).unwrap();
        let monitor = watch(&context, &socket);
        if kind == zmq::SUB {
            socket.set_subscribe(b"").unwrap();
        }
        socket.connect(uri).unwrap();
        let stranger = Stranger { socket, monitor };
        stranger.asks();
        stranger
    }

    /// Asks for rows, where that is what its kind does.
    pub fn asks(&self) {
        if self.socket.get_socket_type().unwrap() == zmq::DEALER {
            let mut out = Vec::new();
            let snapshot = Request::Snapshot {
                topic: "t1".into(),
                chunk: None,
            };
            request::encode(1, &snapshot, &mut out);
            self.socket.send(out, 0).unwrap();
        }
    }

    #[track_caller]
    pub fn is_refused(&self) {
        wait_for("a stranger is refused", || {
            self.monitor.recv_multipart(zmq::DONTWAIT).is_ok()
        });
    }

    /// Waits until it hears something, and asks again meanwhile: what was asked on a connection that is made to
    /// come again is lost.
    #[track_caller]
    pub fn hears(&self) {
        wait_for("a stranger hears something", || {
            let hears = self.socket.poll(zmq::POLLIN, 100).unwrap() > 0;
            if !hears {
                self.asks();
            }
            hears
        });
    }

    /// Throws away what it has heard.
    pub fn forgets(&self) {
        while self.socket.recv_multipart(zmq::DONTWAIT).is_ok() {}
    }

    #[track_caller]
    pub fn heard_nothing(&self) {
        assert_eq!(self.socket.poll(zmq::POLLIN, 0).unwrap(), 0);
    }
}

/// What a publisher has counted of those it let in at neither port: whose key it does not know, and
/// handshakes that failed at the one port and the other.
pub fn refusals(site: &Site) -> [u64; 3] {
    let parts = site.report()["parts"].clone();
    [
        ("gate", "gate_refused_total"),
        ("service", "handshakes_refused_total"),
        ("sync", "sync_handshakes_refused_total"),
    ]
    .map(|(part, name)| parts[part][name].as_u64().unwrap())
}

/// A socket of a node that has been taken over: it has the node's key, and asks for what it likes.
pub fn taken_over(site: &Site, node: &str, kind: zmq::SocketType, uri: &str) -> zmq::Socket {
    let server = site.publisher_key();
    let keys = (&server.as_bytes()[..], &site.secret(node));
    let socket = client(&zmq::Context::new(), kind, Some(keys));
    socket.connect(uri).unwrap();
    socket
}
