//! Somebody who claims to be a publisher.

use fanfare::event::hello::{Hello, topic_hash};
use fanfare::event::{Event, Stamp, codec};
use fanfare::security::key::SecretKey;

use super::stranger::watch;
use super::wait_for;

/// A publisher and a sync service by hand, at the addresses of real ones.
pub struct Impostor {
    events: zmq::Socket,
    sync: zmq::Socket,
    failures: [zmq::Socket; 2],
}

/// One of its two ports.
#[derive(Clone, Copy)]
pub enum At {
    Events,
    Sync,
}

impl Impostor {
    pub fn at(events: &str, sync: &str, key: Option<&SecretKey>) -> Impostor {
        let bound = |kind, uri: &str| {
            let context = zmq::Context::new();
            let socket = context.socket(kind).unwrap();
            socket.set_linger(0).unwrap();
            if let Some(key) = key {
                // It admits whoever comes.
                socket.set_curve_server(true).unwrap();
                socket.set_curve_secretkey(key.as_bytes()).unwrap();
            }
            let failures = watch(&context, &socket);
            wait_for("the address is free", || socket.bind(uri).is_ok());
            (socket, failures)
        };
        let (events, first) = bound(zmq::XPUB, events);
        let (sync, second) = bound(zmq::ROUTER, sync);
        Impostor {
            events,
            sync,
            failures: [first, second],
        }
    }

    /// Sends what a publisher in a later life would.
    fn lies(&self) {
        let mut payload = Vec::new();
        Hello {
            publisher: [9; 16],
            incarnation: u64::MAX,
            head: 1,
            recent: vec![(topic_hash("t1"), 1)],
            ..Hello::default()
        }
        .encode(&mut payload);
        self.send(b"\x01hello\0", &payload);
        let event = Event {
            stamp: Some(Stamp {
                publisher: [9; 16],
                incarnation: u64::MAX,
                seq: 1,
                version: u64::MAX,
                ..Stamp::default()
            }),
            ..Event::set("t", "evil", "1").on("t1")
        };
        codec::encode(&event, &mut payload);
        self.send(b"t1\0", &payload);
    }

    fn send(&self, topic: &[u8], payload: &[u8]) {
        self.events.send_multipart([topic, payload], 0).unwrap();
    }

    /// Lies until so many handshakes at one of its ports have failed.
    #[track_caller]
    pub fn is_refused(&self, at: At, times: usize) {
        let mut failed = 0;
        wait_for("the impostor is refused again and again", || {
            self.lies();
            while self.failures[at as usize]
                .recv_multipart(zmq::DONTWAIT)
                .is_ok()
            {
                failed += 1;
            }
            failed >= times
        });
        // Neither subscription nor question has reached it.
        assert!(self.events.recv_bytes(zmq::DONTWAIT).is_err());
        assert!(self.sync.recv_multipart(zmq::DONTWAIT).is_err());
    }

    /// Waits until somebody trusts it.
    #[track_caller]
    pub fn is_trusted(&self) {
        wait_for("somebody subscribes to the impostor's events", || {
            self.events.recv_bytes(zmq::DONTWAIT).is_ok()
        });
    }
}
