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

mod audience;
mod journal;
mod latency;
mod memory;
mod path;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fanfare::publisher::history::Durability;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use audience::{Audience, await_subscriptions};
use path::{Made, WAYS, Way, Worker, middle, worker};

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

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn median(values: Vec<f64>) -> f64 {
    quartiles(values)[1]
}

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
        match quick {
            true => latency::run(1, 100),
            false => latency::run(21, 1_000),
        }
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
