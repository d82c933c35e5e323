//! How long an event is on its way at 1,000 events a second.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::audience::{Audience, await_subscriptions};
use crate::path::{Made, Middle, WAYS, Way, Worker, middle, worker};
use crate::{ROWS, quartiles, wanted};

const SHARES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// Many short rounds, all ways in turn: what else the host does falls on some of them, by
/// milliseconds, and on any way. The median round tells of the ways, a long round's p99 of the
/// neighbours.
pub fn run(rounds: usize, events: u64) {
    let mut ways: Vec<Line> = std::iter::once(Way::Bare)
        .chain(WAYS.iter().map(|(_, way, _)| *way))
        .map(Line::open)
        .collect();
    let mut figures = vec![[const { Vec::new() }; SHARES.len()]; ways.len()];
    for _ in 0..rounds {
        for (line, figures) in ways.iter_mut().zip(&mut figures) {
            let latencies = line.trickle(events);
            for ((_, share), figures) in SHARES.iter().zip(figures) {
                let at = ((latencies.len() - 1) as f64 * share) as usize;
                figures.push(latencies[at] as f64 / 1e3);
            }
        }
    }
    ways.into_iter().for_each(Line::close);
    let names = std::iter::once(("bare", 0.0)).chain(WAYS.map(|(name, _, bar)| (name, bar)));
    let mut bare = [0.0; SHARES.len()];
    for ((name, bar), figures) in names.zip(figures) {
        for ((place, (share, _)), figures) in SHARES.iter().enumerate().zip(figures) {
            let [low, median, high] = quartiles(figures);
            if name == "bare" {
                bare[place] = median;
            }
            let bar = if *share == "p99" && bar > 0.0 {
                2.0
            } else {
                0.0
            };
            println!(
                "latency at 1,000 events/s, {name}, {share} of {rounds} rounds: {median:.0} µs \
                 ({low:.0}-{high:.0}), ratio {:.2}{}",
                median / bare[place],
                wanted(bar, "at most")
            );
        }
    }
}

/// A way with its worker and its subscriber, open for all rounds.
struct Line {
    _folder: TempDir,
    middle: Middle,
    audience: Audience,
    worker: Box<dyn Worker>,
    epoch: Instant,
    sent: u64,
}

impl Line {
    /// All rows are sent once: it is the latency of changes.
    fn open(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let middle = middle(way, folder.path());
        let epoch = Instant::now();
        let audience = Audience::one(&middle.uri, Some(epoch));
        await_subscriptions(&middle, &audience);
        let worker = worker(way, &folder.path().join("s"));
        let mut line = Line {
            _folder: folder,
            middle,
            audience,
            worker,
            epoch,
            sent: 0,
        };
        for _ in 0..ROWS {
            line.send(0);
        }
        line.worker.finish();
        line.audience.wait_for(line.sent, 0);
        line
    }

    /// Without a time it is not noted.
    fn send(&mut self, nanos: u64) {
        self.worker.send(&Made::new(self.sent, nanos));
        self.sent += 1;
    }

    /// One round: how long each event was on its way, nanoseconds, sorted.
    fn trickle(&mut self, events: u64) -> Vec<u64> {
        let start = Instant::now();
        for number in 0..events {
            let due = start + Duration::from_millis(number);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let nanos = self.epoch.elapsed().as_nanos() as u64;
            self.send(nanos);
        }
        self.worker.finish();
        self.audience.wait_for(self.sent, 0);
        self.audience.take()
    }

    fn close(self) {
        drop(self.worker);
        (self.middle.stop)();
        self.audience.end();
    }
}
