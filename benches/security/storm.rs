//! Bare subscribers that connect at the same time.

use std::time::{Duration, Instant};

use fanfare::pubsub::driver::zmq::curve;
use fanfare::util::descriptors;

use super::party::Party;
use super::rig::{self, wait_for};

/// Subscribers of a context; each has a monitor beside, of the 1,023 sockets of a context.
const PER_CONTEXT: usize = 250;

struct Subscriber {
    socket: zmq::Socket,
    monitor: zmq::Socket,
}

impl Subscriber {
    fn new(context: &zmq::Context, number: usize, party: Option<&Party>) -> Subscriber {
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_linger(0).unwrap();
        if let Some(party) = party {
            let secret = &party.crowd[number % party.crowd.len()];
            let public = curve::public_key(secret).unwrap();
            socket
                .set_curve_serverkey(party.publisher.as_bytes())
                .unwrap();
            socket.set_curve_publickey(public.as_bytes()).unwrap();
            socket.set_curve_secretkey(secret.as_bytes()).unwrap();
        }
        let address = format!("inproc://storm-{number}");
        let done = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        socket.monitor(&address, done as i32).unwrap();
        let monitor = context.socket(zmq::PAIR).unwrap();
        monitor.connect(&address).unwrap();
        socket
            .set_subscribe(&[rig::TOPIC.as_bytes(), b"\0"].concat())
            .unwrap();
        Subscriber { socket, monitor }
    }
}

pub fn run(uri: &str, count: usize, party: Option<&Party>) -> Duration {
    let wanted = 8 * count as u64 + 1_024;
    let allowed = descriptors::allow(wanted);
    assert!(allowed >= wanted, "{allowed} open files are too few");
    let contexts: Vec<_> = (0..=count / PER_CONTEXT)
        .map(|_| zmq::Context::new())
        .collect();
    let numbers = 0..count;
    let subscribers: Vec<Subscriber> = numbers
        .map(|number| Subscriber::new(&contexts[number / PER_CONTEXT], number, party))
        .collect();
    let start = Instant::now();
    for subscriber in &subscribers {
        subscriber.socket.connect(uri).unwrap();
    }
    let mut waiting: Vec<&Subscriber> = subscribers.iter().collect();
    wait_for("all handshakes are done", || {
        waiting.retain(|subscriber| subscriber.monitor.recv_multipart(zmq::DONTWAIT).is_err());
        waiting.is_empty()
    });
    start.elapsed()
}
