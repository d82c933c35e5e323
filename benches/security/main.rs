//! What CURVE costs: events through a real `fanfare-publisher` to one agent and to several, and a
//! thousand subscribers that connect at once; each with keys and without.
//!
//! Arguments: `--test` for a quick look, and the names of parts (`throughput`, `storm`) to run only
//! those.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../sync/rig.rs"]
#[allow(dead_code)]
mod rig;

mod party;
mod storm;

use std::time::{Duration, Instant};

use self::party::Party;
use self::rig::{Follower, Publisher};

/// So many that nothing is lost to a slow reader: what is replayed is not what is measured.
const HWM: i32 = 10_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    let parts = arguments.iter().filter(|name| !name.starts_with("--"));
    let parts: Vec<&str> = parts.map(String::as_str).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    if wanted("throughput") {
        for agents in [1, 8] {
            throughput(
                agents,
                if quick { 2_000 } else { 200_000 },
                if quick { 1 } else { 3 },
            );
        }
    }
    if wanted("storm") {
        storm(if quick { 100 } else { 1_000 }, if quick { 1 } else { 3 });
    }
}

/// The middle one of several.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Runs both, in turn, so that both meet the same machine; the medians with keys and without.
fn both(rounds: usize, run: impl Fn(Option<&Party>) -> Duration) -> (Duration, Duration) {
    let party = Party::new();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(run(None));
        with.push(run(Some(&party)));
    }
    (median(with), median(without))
}

fn publisher(party: Option<&Party>) -> Publisher {
    let keys = party.map_or_else(String::new, |party| party.config.clone());
    Publisher::start(&format!(
        "{keys}send_hwm = 10000000\nmax_connections = 4000\n"
    ))
}

/// Events from a worker to all agents.
fn throughput(agents: usize, events: u64, rounds: usize) {
    let (with, without) = both(rounds, |party| {
        let publisher = publisher(party);
        let uri = publisher.uri();
        let keys = party.map(|party| party.node.clone());
        let follow = |_| Follower::secured(&uri, HWM, None, keys.clone());
        let followers: Vec<Follower> = (0..agents).map(follow).collect();
        publisher.publish(0..100, 100);
        followers.iter().for_each(|follower| follower.has(100, 100));
        let start = Instant::now();
        publisher.publish(100..100 + events, 1_000);
        for follower in &followers {
            follower.has(1_000.min(events), 100 + events);
        }
        let took = start.elapsed();
        followers.into_iter().for_each(Follower::stop);
        publisher.stop();
        took
    });
    let rate = |took: Duration| events as f64 / took.as_secs_f64();
    println!(
        "throughput, {agents} agents: {:.0} events/s with CURVE, {:.0} without: {:.2} of it",
        rate(with),
        rate(without),
        rate(with) / rate(without)
    );
}

/// Subscribers that connect at once, until the last one's handshake is done.
fn storm(subscribers: usize, rounds: usize) {
    let (with, without) = both(rounds, |party| {
        let publisher = publisher(party);
        let took = storm::run(&publisher.uri(), subscribers, party);
        let log = publisher.stop();
        assert_eq!(rig::counted(&log, "handshakes_refused_total"), 0, "{log}");
        took
    });
    println!(
        "connect storm, {subscribers} subscribers: {with:.2?} with CURVE, {without:.2?} without: {:.2} times",
        with.as_secs_f64() / without.as_secs_f64()
    );
}
