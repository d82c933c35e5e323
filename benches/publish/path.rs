//! What is sent, the worker that sends it, and what stands between worker and subscribers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use fanfare::event::{Event, EventBatch, codec, topic};
use fanfare::publisher::client::{ClientOptions, PublisherClient};
use fanfare::publisher::group::Rules;
use fanfare::publisher::history::{self, Durability, History, Moment};
use fanfare::publisher::requests::{RequestOptions, Requests};
use fanfare::publisher::service::{self, Service};
use fanfare::publisher::submit::request_path;
use fanfare::pubsub::driver::zmq::multiproc::ZmqMultiproc;
use fanfare::pubsub::driver::zmq::{ZmqPubSub, ffi};
use fanfare::pubsub::endpoint::{Defaults, Endpoint, Transport};
use fanfare::pubsub::{
    Callback, LinkChange, PubSubApi, PublisherApi, PublisherOptions, Source, SubscriberOptions,
};

use crate::{AHEAD, HWM, PATIENCE, PAYLOAD, ROWS, TOPIC};

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Bare,
    Pushed(Durability),
    Acknowledged(Durability),
}

pub const WAYS: [(&str, Way, f64); 4] = [
    ("pushed, os", Way::Pushed(Durability::Os), 0.5),
    ("acknowledged, os", Way::Acknowledged(Durability::Os), 0.3),
    ("pushed, sync", Way::Pushed(Durability::Sync), 0.0),
    (
        "acknowledged, sync",
        Way::Acknowledged(Durability::Sync),
        0.0,
    ),
];

/// An event, and what it is on the wire.
pub struct Made {
    key: String,
    value: String,
    wire: Vec<u8>,
}

impl Made {
    /// An event of [`PAYLOAD`] bytes that carries `nanos`.
    pub fn new(number: u64, nanos: u64) -> Self {
        let key = format!("{:036}", number % ROWS);
        let head = format!("{{\"at\":{nanos:020},\"fill\":\"");
        let fixed = 48 + key.len() + head.len();
        let value = format!("{head}{}\"}}", "x".repeat(PAYLOAD - fixed));
        let mut wire = Vec::new();
        codec::encode(&Event::set("lport", &key, &value).on(TOPIC), &mut wire);
        assert_eq!(wire.len(), PAYLOAD);
        Made { key, value, wire }
    }

    pub fn event(&self) -> Event<'_> {
        Event::set("lport", &self.key, &self.value).on(TOPIC)
    }

    /// When the event in `payload` was made.
    pub fn nanos_in(payload: &[u8]) -> u64 {
        let at = payload.windows(6).position(|w| w == b"{\"at\":").unwrap();
        let digits = &payload[at + 6..at + 26];
        std::str::from_utf8(digits).unwrap().parse().unwrap()
    }
}

/// The worker's end. Opens nothing before the first event.
pub trait Worker {
    fn send(&mut self, made: &Made);
    /// Returns when everything is handed over for good.
    fn finish(&mut self) {}
}

pub struct BareWorker {
    uri: String,
    topic: Vec<u8>,
    socket: Option<zmq::Socket>,
}

impl Worker for BareWorker {
    fn send(&mut self, made: &Made) {
        let socket = self.socket.get_or_insert_with(|| {
            let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
            socket.set_sndhwm(HWM).unwrap();
            socket.connect(&self.uri).unwrap();
            socket
        });
        socket.send(&self.topic[..], zmq::SNDMORE).unwrap();
        socket.send(&made.wire[..], 0).unwrap();
    }
}

impl Worker for Box<dyn PublisherApi> {
    fn send(&mut self, made: &Made) {
        self.send_event(&made.event(), None).unwrap();
    }
}

impl Worker for PublisherClient {
    fn send(&mut self, made: &Made) {
        self.publish(&made.event(), None).unwrap();
    }

    fn finish(&mut self) {
        let summary = self.flush(PATIENCE).unwrap();
        assert_eq!((summary.pending, summary.refused), (0, 0));
    }
}

pub fn worker(way: Way, socket: &Path) -> Box<dyn Worker> {
    match way {
        Way::Bare => {
            let mut frame = Vec::new();
            topic::write_frame(TOPIC, &mut frame);
            Box::new(BareWorker {
                uri: format!("ipc://{}", socket.display()),
                topic: frame,
                socket: None,
            })
        }
        Way::Pushed(_) => {
            let options = PublisherOptions {
                endpoint: Endpoint::Ipc {
                    path: socket.into(),
                },
                send_hwm: HWM,
                send_timeout: PATIENCE,
                subscriptions: false,
                linger: Duration::ZERO,
                socket_group: None,
                socket_users: Default::default(),
                key: None,
                peers: Default::default(),
            };
            Box::new(ZmqMultiproc::new().publisher(&options).unwrap())
        }
        Way::Acknowledged(_) => Box::new(client(socket)),
    }
}

pub fn client(socket: &Path) -> PublisherClient {
    PublisherClient::new(ClientOptions {
        spool_events: 2 * AHEAD as usize,
        spool_bytes: 1 << 30,
        send_timeout: PATIENCE,
        ..ClientOptions::beside(socket)
    })
}

pub struct Middle {
    /// Where subscribers connect.
    pub uri: String,
    /// How many subscriptions it has seen.
    pub subscriptions: Box<dyn Fn() -> u64>,
    pub stop: Box<dyn FnOnce()>,
}

pub fn middle(way: Way, folder: &Path) -> Middle {
    match way {
        Way::Bare => forwarder(&folder.join("s")),
        Way::Pushed(durability) | Way::Acknowledged(durability) => serve(folder, durability),
    }
}

/// One thread that passes messages on as they are.
pub fn forwarder(path: &Path) -> Middle {
    let context = zmq::Context::new();
    let pull = context.socket(zmq::PULL).unwrap();
    pull.set_rcvhwm(HWM).unwrap();
    pull.bind(&format!("ipc://{}", path.display())).unwrap();
    let mut network = context.socket(zmq::XPUB).unwrap();
    // Shows all subscriptions, as the service's socket does.
    ffi::set_int(&mut network, ffi::XPUB_VERBOSER, 1).unwrap();
    network.set_sndhwm(HWM).unwrap();
    network.set_linger(0).unwrap();
    network.bind("tcp://127.0.0.1:*").unwrap();
    let uri = network.get_last_endpoint().unwrap().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let seen = Arc::new(AtomicU64::new(0));
    let sees = Arc::clone(&seen);
    // While events pass, it does nothing else.
    pull.set_rcvtimeo(100).unwrap();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let (mut topic, mut payload) = (zmq::Message::new(), zmq::Message::new());
            if pull.recv(&mut topic, 0).is_err() {
                while network.recv_bytes(zmq::DONTWAIT).is_ok() {
                    sees.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            pull.recv(&mut payload, 0).unwrap();
            network.send(topic, zmq::SNDMORE).unwrap();
            network.send(payload, 0).unwrap();
        }
    });
    Middle {
        uri,
        subscriptions: Box::new(move || seen.load(Ordering::Relaxed)),
        stop: Box::new(move || {
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
        }),
    }
}

/// Hands pushed events to the service.
pub struct Hand(Sender<EventBatch>);

impl Callback for Hand {
    fn events(&self, _: &Source, events: EventBatch) {
        self.0.send(events).unwrap();
    }
    fn link(&self, _: &Source, _: LinkChange) {}
}

/// The service as `fanfare-publisher` puts it together, without monitors.
pub fn serve(folder: &Path, durability: Durability) -> Middle {
    let context = zmq::Context::new();
    let port = free_port();
    let uri = format!("tcp://127.0.0.1:{port}");
    let defaults = Defaults {
        transport: Transport::Tcp,
        port,
    };
    let mut network = ZmqPubSub::with_context(&context)
        .publisher(&PublisherOptions {
            endpoint: Endpoint::parse_bind(&uri, &defaults).unwrap(),
            send_hwm: HWM,
            send_timeout: Duration::ZERO,
            subscriptions: true,
            linger: Duration::ZERO,
            socket_group: None,
            socket_users: Default::default(),
            key: None,
            peers: Default::default(),
        })
        .unwrap();
    network.initialize().unwrap();
    let mut options = history::Options::new(folder.join("publisher.redb"));
    options.durability = durability;
    let (pushed_to, pushed) = bounded(64);
    let (submit_to, submitted) = bounded(64);
    let mut service = Service::start(service::Parts {
        publisher: network,
        history: History::open(options, Moment::now()).unwrap(),
        pushed,
        submitted,
        monitored: crossbeam_channel::never(),
        asks: crossbeam_channel::never(),
        heard: crossbeam_channel::never(),
        sync_endpoint: String::new(),
        cuts: Default::default(),
        permits: Default::default(),
        rules: Rules {
            version_field: None,
            selective: true,
        },
        hello_interval: Duration::from_secs(1),
        max_idle_time: Duration::from_secs(5),
    })
    .unwrap();
    let path = folder.join("s");
    let clients = Requests::start(
        &context,
        &request_path(&path),
        &RequestOptions::default(),
        submit_to,
    )
    .unwrap();
    let mut workers = ZmqMultiproc::with_context(&context)
        .subscriber(&SubscriberOptions::default())
        .unwrap();
    workers.initialize(Arc::new(Hand(pushed_to))).unwrap();
    workers
        .register_listen_address(&Endpoint::Ipc { path })
        .unwrap();
    workers.daemonize().unwrap();
    let metrics = Arc::clone(&service.metrics);
    Middle {
        uri,
        subscriptions: Box::new(move || metrics.subscriptions.get()),
        stop: Box::new(move || {
            workers.close();
            assert!(service.stop_by(Instant::now() + Duration::from_secs(20)));
            drop(clients);
        }),
    }
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
