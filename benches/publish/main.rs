//! The whole publishing path beside the same hops with bare libzmq (PUSH → PULL, one thread, PUB →
//! SUB) in the same run: a worker that pushes, and one that awaits acknowledgements, through the
//! service to a bare SUB. Throughput and latency as ratios, the cost per subscriber, and the memory
//! of the service.
//!
//! An XPUB socket drops what a subscriber's queue has no room for, and the service must not wait for
//! a subscriber. So that nothing is dropped and the slowest hop is what is measured, the worker is
//! never more than [`AHEAD`] deliveries ahead of the subscribers, in all runs alike, and every run
//! ends when all has arrived. Bare workers send what was encoded before; the others encode.
//!
//! Arguments: `--test` for a quick look, and the names of parts (`throughput`, `latency`,
//! `subscribers`, `journal`, `memory`) to run only those.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod journal;
mod memory;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROWS: u64 = 10_000;
const PAYLOAD: usize = 330;
const TOPIC: &str = "D";

/// Deliveries that may be under way.
const AHEAD: u64 = 50_000;
/// With many subscribers: events that may be under way to each.
const AHEAD_EACH: u64 = 200;
/// A queue is taken for full at half of its mark when the other end reads in a hurry, and with very
/// many subscribers one may be behind by all that is under way.
const HWM: i32 = 1_000_000;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Bare,
    Pushed(Durability),
    Acknowledged(Durability),
}

// ---------------------------------------------------------------------------------------------
// What is sent
// ---------------------------------------------------------------------------------------------

/// An event, and what it is on the wire.
struct Made {
    key: String,
    value: String,
    wire: Vec<u8>,
}

impl Made {
    /// An event of [`PAYLOAD`] bytes that carries `nanos`.
    fn new(number: u64, nanos: u64) -> Self {
        let key = format!("{:036}", number % ROWS);
        let head = format!("{{\"at\":{nanos:020},\"fill\":\"");
        let fixed = 48 + key.len() + head.len();
        let value = format!("{head}{}\"}}", "x".repeat(PAYLOAD - fixed));
        let mut wire = Vec::new();
        codec::encode(&Event::set("lport", &key, &value).on(TOPIC), &mut wire);
        assert_eq!(wire.len(), PAYLOAD);
        Made { key, value, wire }
    }

    fn event(&self) -> Event<'_> {
        Event::set("lport", &self.key, &self.value).on(TOPIC)
    }

    /// When the event in `payload` was made.
    fn nanos_in(payload: &[u8]) -> u64 {
        let at = payload.windows(6).position(|w| w == b"{\"at\":").unwrap();
        let digits = &payload[at + 6..at + 26];
        std::str::from_utf8(digits).unwrap().parse().unwrap()
    }
}

/// The worker's end. Opens nothing before the first event.
trait Worker {
    fn send(&mut self, made: &Made);
    /// Returns when everything is handed over for good.
    fn finish(&mut self) {}
}

struct BareWorker {
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

fn worker(way: Way, socket: &Path) -> Box<dyn Worker> {
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
                key: None,
            };
            Box::new(ZmqMultiproc::new().publisher(&options).unwrap())
        }
        Way::Acknowledged(_) => Box::new(client(socket)),
    }
}

fn client(socket: &Path) -> PublisherClient {
    PublisherClient::new(ClientOptions {
        spool_events: 2 * AHEAD as usize,
        spool_bytes: 1 << 30,
        send_timeout: PATIENCE,
        ..ClientOptions::beside(socket)
    })
}

// ---------------------------------------------------------------------------------------------
// Between worker and subscribers
// ---------------------------------------------------------------------------------------------

struct Middle {
    /// Where subscribers connect.
    uri: String,
    /// How many subscriptions it has seen.
    subscriptions: Box<dyn Fn() -> u64>,
    stop: Box<dyn FnOnce()>,
}

fn middle(way: Way, folder: &Path) -> Middle {
    match way {
        Way::Bare => forwarder(&folder.join("s")),
        Way::Pushed(durability) | Way::Acknowledged(durability) => serve(folder, durability),
    }
}

/// One thread that passes messages on as they are.
fn forwarder(path: &Path) -> Middle {
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
struct Hand(Sender<EventBatch>);

impl Callback for Hand {
    fn events(&self, _: &Source, events: EventBatch) {
        self.0.send(events).unwrap();
    }
    fn link(&self, _: &Source, _: LinkChange) {}
}

/// The service as `fanfare-publisher` puts it together, without monitors.
fn serve(folder: &Path, durability: Durability) -> Middle {
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
            key: None,
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
        sync_endpoint: String::new(),
        cuts: Default::default(),
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

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

// ---------------------------------------------------------------------------------------------
// Subscribers
// ---------------------------------------------------------------------------------------------

/// Bare SUB sockets and what they have received together.
struct Audience {
    size: u64,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<u64>>>,
}

/// A context has at most 1,023 sockets, and libzmq's lists of them grow slow.
const SOCKETS_PER_CONTEXT: u64 = 256;
const AUDIENCE_THREADS: u64 = 2;

impl Audience {
    fn subscribe(context: &zmq::Context, uri: &str) -> zmq::Socket {
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_rcvhwm(HWM).unwrap();
        socket.set_subscribe(TOPIC.as_bytes()).unwrap();
        socket.connect(uri).unwrap();
        socket
    }

    /// One subscriber that is always at its socket. With an epoch it notes how long each event was
    /// on its way.
    fn one(uri: &str, epoch: Option<Instant>) -> Self {
        let (count, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let socket = Self::subscribe(&zmq::Context::new(), uri);
        socket.set_rcvtimeo(200).unwrap();
        let thread = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            let mut frame = zmq::Message::new();
            while !stopped.load(Ordering::Relaxed) {
                if socket.recv(&mut frame, 0).is_err() {
                    continue;
                }
                socket.recv(&mut frame, 0).unwrap();
                if let Some(epoch) = epoch {
                    let now = epoch.elapsed().as_nanos() as u64;
                    match Made::nanos_in(&frame) {
                        0 => {}
                        made => latencies.push(now - made),
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            latencies
        });
        Audience {
            size: 1,
            count,
            stop,
            threads: vec![thread],
        }
    }

    /// Many subscribers that few threads look after in turn.
    fn many(uri: &str, size: u64) -> Self {
        let (count, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let contexts: Vec<zmq::Context> = (0..size.div_ceil(SOCKETS_PER_CONTEXT))
            .map(|_| zmq::Context::new())
            .collect();
        let mut shares: Vec<Vec<zmq::Socket>> = Vec::new();
        shares.resize_with(AUDIENCE_THREADS.min(size) as usize, Vec::new);
        for place in 0..size as usize {
            let socket = Self::subscribe(&contexts[place % contexts.len()], uri);
            let share = place % shares.len();
            shares[share].push(socket);
        }
        let look_after = |sockets: Vec<zmq::Socket>| {
            let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut frame = zmq::Message::new();
                while !stopped.load(Ordering::Relaxed) {
                    let mut received = 0;
                    for socket in &sockets {
                        while socket.recv(&mut frame, zmq::DONTWAIT).is_ok() {
                            socket.recv(&mut frame, 0).unwrap();
                            received += 1;
                        }
                    }
                    counted.fetch_add(received, Ordering::Relaxed);
                    if received == 0 {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
                Vec::new()
            })
        };
        let threads = shares.into_iter().map(look_after).collect();
        Audience {
            size,
            count,
            stop,
            threads,
        }
    }

    /// Waits until at most `missing` deliveries of `events` events are under way.
    fn wait_for(&self, events: u64, missing: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (wanted, count) = (events * self.size, self.count.load(Ordering::Relaxed));
            if wanted <= count + missing {
                return;
            }
            assert!(Instant::now() < deadline, "{count} of {wanted} arrived");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends; gives what was noted, sorted.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap());
        let mut latencies: Vec<u64> = ended.flatten().collect();
        latencies.sort_unstable();
        latencies
    }
}

// ---------------------------------------------------------------------------------------------
// Runs
// ---------------------------------------------------------------------------------------------

/// Waits until all of the audience has subscribed.
fn await_subscriptions(middle: &Middle, audience: &Audience) {
    let deadline = Instant::now() + PATIENCE;
    while (middle.subscriptions)() < audience.size {
        assert!(Instant::now() < deadline, "not all subscriptions are seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends as fast as it goes, and returns when all has arrived and is acknowledged.
fn pour(worker: &mut dyn Worker, audience: &Audience, made: &[Made], sent: u64, events: u64) {
    let ahead = AHEAD.max(AHEAD_EACH * audience.size);
    let step = (ahead / audience.size / 8).clamp(1, 64);
    for number in sent..sent + events {
        if number % step == 0 {
            audience.wait_for(number, ahead);
        }
        worker.send(&made[(number % ROWS) as usize]);
    }
    worker.finish();
    audience.wait_for(sent + events, 0);
}

/// One run at full speed: events per second, and CPU time of what stands between the worker and the
/// network, seconds per event.
fn flood(way: Way, made: &[Made], events: u64, audience: impl Fn(&str) -> Audience) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let others = threads();
    let middle = middle(way, folder.path());
    let ours: BTreeSet<u64> = &threads() - &others;
    let audience = audience(&middle.uri);
    await_subscriptions(&middle, &audience);
    let mut worker = worker(way, &folder.path().join("s"));
    // What is opened at the first event is not measured, nor is the first use of memory.
    let first = (events / 20).clamp(1, ROWS);
    pour(worker.as_mut(), &audience, made, 0, first);
    let (start, used) = (Instant::now(), cpu_seconds(&ours));
    pour(worker.as_mut(), &audience, made, first, events);
    let rate = events as f64 / start.elapsed().as_secs_f64();
    let used = (cpu_seconds(&ours) - used) / events as f64;
    drop(worker);
    (middle.stop)();
    audience.end();
    (rate, used)
}

/// One run of 1,000 events a second: how long each was on its way, nanoseconds, sorted.
fn trickle(way: Way, events: u64) -> Vec<u64> {
    const FIRST: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let middle = middle(way, folder.path());
    let epoch = Instant::now();
    let audience = Audience::one(&middle.uri, Some(epoch));
    await_subscriptions(&middle, &audience);
    let mut worker = worker(way, &folder.path().join("s"));
    let start = Instant::now();
    for number in 0..FIRST + events {
        let due = start + Duration::from_millis(number);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // The first ones open connections; without a time they are not noted.
        let nanos = match number {
            ..FIRST => 0,
            _ => epoch.elapsed().as_nanos() as u64,
        };
        worker.send(&Made::new(number, nanos));
    }
    worker.finish();
    audience.wait_for(FIRST + events, 0);
    drop(worker);
    (middle.stop)();
    audience.end()
}

/// The threads of this process.
fn threads() -> BTreeSet<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| task.unwrap().file_name();
    tasks
        .map(|task| name(task).to_string_lossy().parse().unwrap())
        .collect()
}

/// CPU time of these threads so far.
fn cpu_seconds(threads: &BTreeSet<u64>) -> f64 {
    let of = |id: &u64| -> f64 {
        let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat"));
        // One that has ended counts no more.
        let text = text.unwrap_or_default();
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        nanos.unwrap_or(0.0)
    };
    threads.iter().map(of).sum::<f64>() / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// ---------------------------------------------------------------------------------------------
// Parts
// ---------------------------------------------------------------------------------------------

const WAYS: [(&str, Way, f64); 4] = [
    ("pushed, os", Way::Pushed(Durability::Os), 0.5),
    ("acknowledged, os", Way::Acknowledged(Durability::Os), 0.3),
    ("pushed, sync", Way::Pushed(Durability::Sync), 0.0),
    (
        "acknowledged, sync",
        Way::Acknowledged(Durability::Sync),
        0.0,
    ),
];

fn wanted(bar: f64, how: &str) -> String {
    match bar {
        0.0 => String::new(),
        bar => format!(" (wanted: {how} {bar})"),
    }
}

fn throughput(made: &[Made], rounds: usize, events: u64) {
    let mut bare_rates = Vec::new();
    let mut rates = [const { (Vec::new(), Vec::new()) }; WAYS.len()];
    for _ in 0..rounds {
        let (bare, _) = flood(Way::Bare, made, events, |uri| Audience::one(uri, None));
        bare_rates.push(bare);
        for ((_, way, _), (rates, ratios)) in WAYS.iter().zip(&mut rates) {
            let (rate, _) = flood(*way, made, events, |uri| Audience::one(uri, None));
            rates.push(rate);
            ratios.push(rate / bare);
        }
    }
    println!("throughput: bare {:.0} k/s", median(bare_rates) / 1e3);
    for ((name, _, bar), (rates, ratios)) in WAYS.iter().zip(rates) {
        println!(
            "throughput, {name}: {:.0} k/s, ratio {:.2}{}",
            median(rates) / 1e3,
            median(ratios),
            wanted(*bar, "at least")
        );
    }
}

fn latency(rounds: usize, events: u64) {
    const SHARES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];
    let at = |latencies: &[u64], share: f64| {
        latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e3
    };
    let mut bare = [const { Vec::new() }; SHARES.len()];
    let mut figures = [const { [const { (Vec::new(), Vec::new()) }; SHARES.len()] }; WAYS.len()];
    for _ in 0..rounds {
        let alone = trickle(Way::Bare, events);
        for ((_, share), bare) in SHARES.iter().zip(&mut bare) {
            bare.push(at(&alone, *share));
        }
        for ((_, way, _), figures) in WAYS.iter().zip(&mut figures) {
            let latencies = trickle(*way, events);
            for ((_, share), (micros, ratios)) in SHARES.iter().zip(figures) {
                micros.push(at(&latencies, *share));
                ratios.push(at(&latencies, *share) / at(&alone, *share));
            }
        }
    }
    for ((share, _), bare) in SHARES.iter().zip(bare) {
        println!(
            "latency at 1,000 events/s, bare, {share}: {:.0} µs",
            median(bare)
        );
    }
    for ((name, _, bar), figures) in WAYS.iter().zip(figures) {
        for ((share, _), (micros, ratios)) in SHARES.iter().zip(figures) {
            let bar = if *share == "p99" && *bar > 0.0 {
                2.0
            } else {
                0.0
            };
            println!(
                "latency at 1,000 events/s, {name}, {share}: {:.0} µs, ratio {:.2}{}",
                median(micros),
                median(ratios),
                wanted(bar, "at most")
            );
        }
    }
}

/// What one event costs between the worker and the network by the number of subscribers, which are
/// all sent it.
fn subscribers(made: &[Made], rounds: usize, sizes: &[u64], deliveries: u64) {
    let way = Way::Pushed(Durability::Os);
    for &size in sizes {
        let events = (deliveries / size).min(deliveries / 5);
        let mut figures = [const { Vec::new() }; 5];
        for _ in 0..rounds {
            let (rate, cpu) = flood(way, made, events, |uri| Audience::many(uri, size));
            let (bare_rate, bare_cpu) =
                flood(Way::Bare, made, events, |uri| Audience::many(uri, size));
            let round = [
                cpu * 1e6,
                bare_cpu * 1e6,
                cpu / bare_cpu,
                rate,
                rate / bare_rate,
            ];
            for (figure, value) in figures.iter_mut().zip(round) {
                figure.push(value);
            }
        }
        let [cpu, bare_cpu, cpu_ratio, rate, ratio] = figures.map(median);
        println!(
            "{size} subscribers: {cpu:.1} µs of CPU per event, {:.2} µs per delivery \
             (bare {bare_cpu:.1} µs per event, ratio {cpu_ratio:.2}); \
             {:.0} k deliveries/s, ratio {ratio:.2}",
            cpu / size as f64,
            rate * size as f64 / 1e3,
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|arg| arg == "--test");
    let parts: Vec<&String> = arguments
        .iter()
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let part = |name: &str| parts.is_empty() || parts.iter().any(|part| *part == name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rounds = if quick { 1 } else { 7 };
    println!("publishing path, {PAYLOAD}-byte events, {cores} cores, {rounds} rounds in turn");

    // Every subscriber takes some descriptors on both sides.
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();

    let made: Vec<Made> = (0..ROWS).map(|number| Made::new(number, 0)).collect();
    if part("throughput") {
        throughput(&made, rounds, if quick { 10_000 } else { 300_000 });
    }
    if part("latency") {
        latency(rounds, if quick { 100 } else { 2_000 });
    }
    if part("subscribers") {
        match quick {
            true => subscribers(&made, 1, &[1, 10], 10_000),
            false => subscribers(&made, 3, &[1, 10, 100, 1_000], 1_000_000),
        }
    }
    if part("journal") {
        journal::run(if quick { 20 } else { 2_000 });
    }
    if part("memory") {
        match quick {
            true => memory::run(&made, &[10_000, 20_000, 40_000]),
            false => memory::run(&made, &[1_000_000, 2_000_000, 4_000_000]),
        }
    }
}
