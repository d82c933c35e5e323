//! What handlers cost, and what one that sleeps costs the others.
//!
//! `cargo bench --bench lanes [-- cost] [sleeper]`; without a section all of them; `--test` runs
//! them once and shortly.
//!
//! * `cost`: processor time per event per handler for 1, 4 and 16 lanes, that of no lane taken off.
//! * `sleeper`: 20,000 events/s over 5,000 rows for 30 s, once with and once without a handler that
//!   sleeps all the time: throughput and p99 of the others as ratios, and the sleeper's memory.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use fanfare::dispatch::{Hub, Lane, LaneOptions, SeatOptions};
use fanfare::event::{Action, Event, EventBatch};
use fanfare::handler::{Handler, HandlerError, SyncReason};

const PAYLOAD: usize = 330;
const TOPIC: &str = "tenant";

fn key(number: u64) -> String {
    format!("{number:036}")
}

/// A value that begins with `nanos`.
fn value(nanos: u64) -> String {
    let head = format!("{{\"at\":{nanos:020},\"fill\":\"");
    let fill = PAYLOAD - 48 - 36 - head.len();
    format!("{head}{}\"}}", "x".repeat(fill))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time of this process, seconds.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    // 100 ticks a second on every Linux one meets.
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// As the agent's defaults are.
fn seat() -> SeatOptions {
    SeatOptions {
        queue_length: 1024,
        queue_bytes: 8 << 20,
        ..SeatOptions::default()
    }
}

fn lane(hub: &Arc<Hub>, handler: impl Handler + 'static) -> Lane {
    let handler = Mutex::new(Some(handler));
    let build = Box::new(move |_: &_| {
        let handler = handler.lock().unwrap().take();
        Ok(Box::new(handler.expect("it is made once")) as Box<dyn Handler>)
    });
    Lane::start(hub, LaneOptions::new("bench", seat(), build)).unwrap()
}

fn end(hub: &Hub, lanes: Vec<Lane>) {
    hub.close();
    let deadline = Instant::now() + Duration::from_secs(10);
    for mut lane in lanes {
        assert!(lane.join_by(deadline), "a lane does not end");
    }
}

fn wait(what: &str, until: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !until() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Looks at each event as a handler must at the least.
struct Counting(Arc<AtomicU64>);

impl Handler for Counting {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let bytes = event.value.map_or(0, str::len);
        self.0.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Events, in groups between which all lanes have worked off what they have.
fn cost_of(lanes: usize, groups: u64) -> f64 {
    const ROWS: u64 = 10_000;
    const BATCH: u64 = 256;
    const BATCHES: u64 = 32;
    let hub = Hub::new();
    let counts: Vec<Arc<AtomicU64>> = (0..lanes).map(|_| Arc::default()).collect();
    let running: Vec<Lane> = counts
        .iter()
        .map(|count| lane(&hub, Counting(Arc::clone(count))))
        .collect();
    wait("all are up to date", || {
        running
            .iter()
            .all(|lane| lane.metrics.resyncs_total.get() == 1 && lane.metrics.behind.get() == 0)
    });
    let value = value(0);
    let batches: Vec<EventBatch> = (0..BATCHES)
        .map(|batch| {
            let keys: Vec<String> = (0..BATCH)
                .map(|n| key((batch * BATCH + n) % ROWS))
                .collect();
            let event = |key| Event::set("lport", key, &value).on(TOPIC);
            keys.iter().map(|key| event(key)).collect()
        })
        .collect();
    let mut sent = 0;
    let mut group = || {
        for batch in &batches {
            hub.publish(batch.clone());
        }
        sent += BATCH * BATCHES;
        wait("all have it", || {
            counts
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == sent)
        });
    };
    group();
    let before = processor();
    for _ in 0..groups {
        group();
    }
    let used = processor() - before;
    assert!(
        running
            .iter()
            .all(|lane| lane.metrics.overflows_total.get() == 0),
        "a lane fell behind"
    );
    end(&hub, running);
    used / (groups * BATCH * BATCHES) as f64 * 1e9
}

fn cost(quick: bool) {
    let (rounds, groups) = if quick { (1, 4) } else { (7, 60) };
    let mut results: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for lanes in [0, 1, 4, 16] {
            // As many events in all, so that the clock's grain matters as little.
            let groups = groups * 4 / (lanes as u64).clamp(1, 4);
            results
                .entry(lanes)
                .or_default()
                .push(cost_of(lanes, groups));
        }
    }
    let none = results[&0].clone();
    println!(
        "cost: the hub alone {:.0} ns of processor time per event",
        median(none.clone())
    );
    for lanes in [1, 4, 16] {
        let each = results[&lanes].iter().zip(&none);
        let each = each.map(|(all, none)| (all - none) / lanes as f64);
        println!(
            "cost: {lanes:>2} lanes, {:.0} ns per event per handler",
            median(each.collect())
        );
    }
}

/// Notes how old each event is.
struct Timing {
    epoch: Instant,
    ages: Arc<Mutex<Vec<u64>>>,
}

impl Handler for Timing {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let at: u64 = event.value.unwrap()[6..26].parse().unwrap();
        let now = self.epoch.elapsed().as_nanos() as u64;
        self.ages.lock().unwrap().push(now - at);
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Keeps rows, and sleeps on its first event until the other end of the gate is dropped.
struct Sleeping {
    gate: Receiver<()>,
    rows: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Handler for Sleeping {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        assert!(self.gate.recv().is_err(), "nothing is sent");
        let mut rows = self.rows.lock().unwrap();
        match event.action {
            Action::Delete => drop(rows.remove(event.key)),
            _ => drop(rows.insert(event.key.into(), event.value.unwrap().into())),
        }
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

const RATE: u64 = 20_000;
const ROWS: u64 = 5_000;
const OTHERS: usize = 3;

/// What became of the others: events per second and the p99 of their age in nanoseconds.
struct Run {
    rate: f64,
    p99: f64,
    grown: f64,
}

fn run(time: Duration, sleeps: bool) -> Run {
    let hub = Hub::new();
    let epoch = Instant::now();
    let events = RATE * time.as_millis() as u64 / 1000;
    let ages: Vec<Arc<Mutex<Vec<u64>>>> = (0..OTHERS)
        // Room from the start: what grows is to be the sleeper's.
        .map(|_| Arc::new(Mutex::new(vec![0; events as usize + 8192])))
        .collect();
    for ages in &ages {
        ages.lock().unwrap().clear();
    }
    let mut lanes: Vec<Lane> = ages
        .iter()
        .map(|ages| {
            let ages = Arc::clone(ages);
            lane(&hub, Timing { epoch, ages })
        })
        .collect();
    let (open, gate) = bounded::<()>(0);
    let rows = Arc::default();
    if sleeps {
        let rows = Arc::clone(&rows);
        lanes.push(lane(&hub, Sleeping { gate, rows }));
    }
    wait("all are up to date", || {
        lanes
            .iter()
            .all(|lane| lane.metrics.resyncs_total.get() == 1 && lane.metrics.behind.get() == 0)
    });
    let publish = |sent: u64, count: u64| {
        let value = value(epoch.elapsed().as_nanos() as u64);
        let keys: Vec<String> = (sent..sent + count).map(|n| key(n % ROWS)).collect();
        let event = |key| Event::set("lport", key, &value).on(TOPIC);
        hub.publish(keys.iter().map(|key| event(key)).collect());
    };
    // All rows are there before, so that memory tells of the sleeper and not of the replica.
    for first in (0..ROWS).step_by(20) {
        publish(first, 20);
    }
    wait("the others have all rows", || {
        ages.iter()
            .all(|ages| ages.lock().unwrap().len() as u64 == ROWS)
    });
    let before = resident();
    let start = Instant::now();
    let mut sent = 0;
    while sent < events {
        publish(sent, 20);
        sent += 20;
        let due = start + Duration::from_micros(sent * 1_000_000 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    wait("the others have it all", || {
        ages.iter()
            .all(|ages| ages.lock().unwrap().len() as u64 == ROWS + sent)
    });
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    let grown = resident() as f64 - before as f64;
    let mut all: Vec<u64> = Vec::new();
    for ages in &ages {
        all.extend(&ages.lock().unwrap()[ROWS as usize..]);
    }
    all.sort_unstable();
    let p99 = all[(all.len() - 1) * 99 / 100] as f64;
    if sleeps {
        let slow = lanes.last().unwrap();
        assert!(slow.metrics.overflows_total.get() > 0, "it never slept");
        assert!(slow.metrics.rows_waiting.get() <= ROWS);
        drop(open);
        wait("the sleeper has caught up", || {
            slow.metrics.behind.get() == 0 && rows.lock().unwrap().len() as u64 == ROWS
        });
        wait("the sleeper's rows are the replica's", || {
            hub.with_replica(|replica| {
                rows.lock().unwrap().iter().all(|(key, value)| {
                    replica.get("lport", key).and_then(|row| row.value.as_ref()) == Some(value)
                })
            })
        });
    }
    end(&hub, lanes);
    Run { rate, p99, grown }
}

fn sleeper(quick: bool) {
    let (rounds, time) = match quick {
        true => (1, Duration::from_secs(1)),
        false => (3, Duration::from_secs(30)),
    };
    println!(
        "sleeper: {RATE} events/s over {ROWS} rows for {time:?}, {OTHERS} other handlers, {rounds} rounds in turn"
    );
    let (mut rates, mut p99s, mut without, mut with, mut grown) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let alone = run(time, false);
        let beside = run(time, true);
        rates.push(beside.rate / alone.rate);
        p99s.push(beside.p99 / alone.p99);
        without.push(alone.p99 / 1e3);
        with.push(beside.p99 / 1e3);
        grown.push(beside.grown - alone.grown);
    }
    println!(
        "sleeper: throughput of the others {:.3} of that without it (wanted: at least 0.9)",
        median(rates)
    );
    println!(
        "sleeper: p99 of the others {:.0} µs without it, {:.0} µs beside it, ratio {:.2} (wanted: at most 1.1)",
        median(without),
        median(with),
        median(p99s)
    );
    println!(
        "sleeper: memory grew by {:.1} MB more than without it; its queue may hold {} MB, the names of {ROWS} rows the rest",
        median(grown) / 1e6,
        seat().queue_bytes >> 20
    );
}

type Section = fn(bool);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    let named: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let sections: [(&str, Section); 2] = [("cost", cost), ("sleeper", sleeper)];
    if let Some(unknown) = named
        .iter()
        .find(|name| sections.iter().all(|(known, _)| known != *name))
    {
        panic!("there is no section {unknown}; there are cost and sleeper");
    }
    for (name, section) in sections {
        if named.is_empty() || named.contains(&name) {
            section(quick);
        }
    }
}
