//! The whole receive path of an agent (SUB → decode → session → hub → channel → handler) beside a
//! bare libzmq SUB loop in the same run: throughput and latency, as ratios.
//!
//! The publisher is the same for both: a raw socket that waits when the receiver is slower, so that
//! nothing is dropped and the receiver's pace is what is measured.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::agent::{Agent, Parts};
use fanfare::dispatch::LaneOptions;
use fanfare::dispatch::hub::SeatOptions;
use fanfare::event::{Event, codec, topic};
use fanfare::handler::{Handler, HandlerError, SyncReason};
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::{ZmqPubSub, ffi};
use fanfare::pubsub::endpoint::{Defaults, Endpoint, Transport};

const XPUB_NODROP: i32 = 69;
const ROWS: u64 = 10_000;
const PAYLOAD: usize = 330;
const TOPIC: &str = "D";

/// What a receiver is told of: how many so far, and when each latency probe was sent.
struct Sink {
    count: Arc<AtomicU64>,
    latencies: Sender<u64>,
    epoch: Instant,
    measure: bool,
}

impl Sink {
    fn take(&self, value: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.measure {
            let sent: u64 = value[6..26].parse().unwrap();
            let now = self.epoch.elapsed().as_nanos() as u64;
            if sent > 0 {
                self.latencies.send(now - sent).unwrap();
            }
        }
    }
}

struct Counting(Sink);

impl Handler for Counting {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.0.take(event.value.unwrap());
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// An encoded event of [`PAYLOAD`] bytes that carries `nanos`.
fn payload(number: u64, nanos: u64, out: &mut Vec<u8>) {
    let key = format!("{:036}", number % ROWS);
    let head = format!("{{\"at\":{nanos:020},\"fill\":\"");
    let fixed = 48 + key.len() + head.len();
    let value = format!("{head}{}\"}}", "x".repeat(PAYLOAD - fixed));
    codec::encode(&Event::set("lport", &key, &value).on(TOPIC), out);
}

/// One run: events are sent at full speed, or 1,000 a second; gives events per second and the
/// latencies in nanoseconds, sorted.
fn run(
    events: u64,
    paced: bool,
    receiver: impl FnOnce(&str, Sink) -> Box<dyn FnOnce()>,
) -> (f64, Vec<u64>) {
    let context = zmq::Context::new();
    let mut publisher = context.socket(zmq::XPUB).unwrap();
    ffi::set_int(&mut publisher, XPUB_NODROP, 1).unwrap();
    publisher.set_linger(0).unwrap();
    publisher.set_sndhwm(100_000).unwrap();
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let uri = publisher.get_last_endpoint().unwrap().unwrap();

    let (latencies, measured): (Sender<u64>, Receiver<u64>) = unbounded();
    let count = Arc::new(AtomicU64::new(0));
    let epoch = Instant::now();
    let stop = receiver(
        &uri,
        Sink {
            count: Arc::clone(&count),
            latencies,
            epoch,
            measure: paced,
        },
    );
    // The subscription to the topic itself is what both receivers make.
    while publisher.recv_bytes(0).unwrap()[1..] != *TOPIC.as_bytes() {}

    let mut frame = Vec::new();
    topic::write_frame(TOPIC, &mut frame);
    let mut ready = Vec::new();
    let prepared: Vec<Vec<u8>> = (0..ROWS)
        .map(|number| {
            payload(number, 0, &mut ready);
            ready.clone()
        })
        .collect();
    let arrived = |events: u64| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while count.load(Ordering::Relaxed) < events {
            let arrived = count.load(Ordering::Relaxed);
            assert!(
                Instant::now() < deadline,
                "{arrived} of {events} have arrived"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    // Latency is that of changes: all rows are there before.
    let before = if paced { ROWS } else { 0 };
    for event in &prepared[..before as usize] {
        publisher.send(&frame[..], zmq::SNDMORE).unwrap();
        publisher.send(&event[..], 0).unwrap();
    }
    arrived(before);
    let start = Instant::now();
    for number in 0..events {
        publisher.send(&frame[..], zmq::SNDMORE).unwrap();
        if paced {
            payload(number, epoch.elapsed().as_nanos() as u64, &mut ready);
            publisher.send(&ready[..], 0).unwrap();
            let due = start + Duration::from_millis(number + 1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        } else {
            publisher
                .send(&prepared[(number % ROWS) as usize][..], 0)
                .unwrap();
        }
    }
    arrived(before + events);
    let rate = events as f64 / start.elapsed().as_secs_f64();
    stop();
    let mut latencies: Vec<u64> = measured.try_iter().collect();
    latencies.sort_unstable();
    (rate, latencies)
}

fn bare(uri: &str, sink: Sink) -> Box<dyn FnOnce()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::SUB).unwrap();
    socket.set_rcvhwm(100_000).unwrap();
    socket.set_subscribe(TOPIC.as_bytes()).unwrap();
    socket.set_rcvtimeo(200).unwrap();
    socket.connect(uri).unwrap();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let thread = std::thread::spawn(move || {
        let (mut topic, mut payload) = (zmq::Message::new(), zmq::Message::new());
        while stopped.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
            if socket.recv(&mut topic, 0).is_ok() {
                socket.recv(&mut payload, 0).unwrap();
                if sink.measure {
                    // The probe's text stands where the encoder put it.
                    let at = payload.windows(6).position(|w| w == b"{\"at\":").unwrap();
                    sink.take(std::str::from_utf8(&payload[at..at + 26]).unwrap());
                } else {
                    sink.take("");
                }
            }
        }
    });
    Box::new(move || {
        drop(stop);
        thread.join().unwrap();
    })
}

fn agent(uri: &str, sink: Sink) -> Box<dyn FnOnce()> {
    let sink = std::sync::Mutex::new(Some(sink));
    let endpoint = Endpoint::parse(
        uri,
        &Defaults {
            transport: Transport::Tcp,
            port: 1,
        },
    )
    .unwrap();
    let agent = Agent::start(Parts {
        driver: Box::new(ZmqPubSub::new()),
        subscriber: SubscriberOptions::default(),
        publishers: vec![endpoint],
        recovery: None,
        discovery: None,
        topics: vec![],
        handlers: vec![LaneOptions::new(
            "count",
            // Wide enough that the handler is given every event.
            SeatOptions {
                queue_length: 1 << 16,
                queue_bytes: 1 << 30,
                ..SeatOptions::default()
            },
            Box::new(move |_| Ok(Box::new(Counting(sink.lock().unwrap().take().unwrap())))),
        )],
        stop_timeout: Duration::from_secs(1),
    })
    .unwrap();
    Box::new(move || assert_eq!(agent.stop(), 0))
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn median(values: Vec<f64>) -> f64 {
    quartiles(values)[1]
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let (rounds, events) = if quick { (1, 10_000) } else { (7, 1_000_000) };
    // Many short rounds: what else the host does falls on some of them, by milliseconds, and on
    // either side. The median round tells of the two paths, a long round's p99 of the neighbours.
    let (pairs, probes) = if quick { (1, 100) } else { (41, 1_000) };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("receive path, {PAYLOAD}-byte events, {cores} cores, {rounds} rounds in turn");

    let (mut bare_rates, mut agent_rates, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (bare_rate, _) = run(events, false, bare);
        let (agent_rate, _) = run(events, false, agent);
        ratios.push(agent_rate / bare_rate);
        bare_rates.push(bare_rate);
        agent_rates.push(agent_rate);
    }
    println!(
        "throughput: bare {:.0} k/s, agent {:.0} k/s, ratio {:.2} (wanted: at least 0.7)",
        median(bare_rates) / 1e3,
        median(agent_rates) / 1e3,
        median(ratios)
    );

    let at = |latencies: &[u64], share: f64| {
        latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e3
    };
    let (mut p50, mut p99) = ((vec![], vec![]), (vec![], vec![]));
    for _ in 0..pairs {
        let (_, bare) = run(probes, true, bare);
        let (_, agent) = run(probes, true, agent);
        for (into, share) in [(&mut p50, 0.5), (&mut p99, 0.99)] {
            into.0.push(at(&bare, share));
            into.1.push(at(&agent, share));
        }
    }
    for (name, (bare, agent)) in [("p50", p50), ("p99", p99)] {
        let (bare, agent) = (quartiles(bare), quartiles(agent));
        println!(
            "latency at 1,000 events/s, {name} of {pairs} rounds, µs (quartiles): \
             bare {:.0} ({:.0}-{:.0}), agent {:.0} ({:.0}-{:.0}), ratio {:.2} (wanted: at most 1.3)",
            bare[1],
            bare[0],
            bare[2],
            agent[1],
            agent[0],
            agent[2],
            agent[1] / bare[1]
        );
    }
}
