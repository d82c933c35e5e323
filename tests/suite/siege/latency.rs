//! How long honest agents wait for events while a publisher is attacked. A measurement, for `make
//! soak`: attackers, publisher and agent share the machine, and what that machine's host takes of it is left out
//! ([`witness`]).

mod witness;

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanfare::event::Event;
use fanfare::publisher::client::PublisherClient;
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::security::party::{ANY, NodeKeys};

use crate::rig::agent::{options, start};
use crate::rig::cluster::Cluster;
use crate::rig::peer::python;
use crate::rig::process::Process;
use crate::rig::site::Site;
use crate::rig::tape::Tape;
use crate::rig::wait_for;

use witness::Witness;

const KINDS: &[&str] = &[
    "garbage",
    "half_open",
    "slow_loris",
    "bombs",
    "flood",
    "endless",
    "oversize",
];

/// How long calm is measured before an attack and after it, and how long each attack: as long as who does
/// harm is kept out, since what it does before that it does once in so long.
const CALM_ROUND: Duration = Duration::from_secs(15);
const ATTACK: Duration = Duration::from_secs(60);
/// The time between two events.
const PACE: Duration = Duration::from_millis(2);

/// A calm p99 below this is the host's luck.
const CALM: Duration = Duration::from_millis(1);

/// No event takes longer, whatever happens.
const LONGEST: Duration = Duration::from_millis(500);

/// How often an attack is measured at most: the host's own stalls make a round worse now and then, what
/// an attack does makes all of them worse.
const TRIES: usize = 3;

/// How long the events of a round took, sorted: all of them, and those that had all processors meanwhile.
#[derive(Clone)]
struct Waits {
    all: Vec<Duration>,
    kept: Vec<Duration>,
}

impl Waits {
    fn of(mut all: Vec<Duration>, mut kept: Vec<Duration>) -> Waits {
        all.sort_unstable();
        kept.sort_unstable();
        Waits { all, kept }
    }

    fn with(&self, other: &Waits) -> Waits {
        let both = |one: &[Duration], other: &[Duration]| [one, other].concat();
        Waits::of(both(&self.all, &other.all), both(&self.kept, &other.kept))
    }

    fn p99(&self) -> Duration {
        place(&self.kept, 99)
    }

    /// Of all: none is left out of this.
    fn longest(&self) -> Duration {
        place(&self.all, 100)
    }

    /// Whether a p99 of those that are left says anything.
    fn is_enough(&self) -> bool {
        self.kept.len() * 5 >= self.all.len() * 4
    }
}

fn place(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * percent / 100).min(last);
    sorted.get(place).copied().unwrap_or_default()
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, longest) = (place(&self.kept, 50), self.p99(), self.longest());
        let lost = (self.all.len() - self.kept.len()) as f64 / self.all.len() as f64;
        let all = place(&self.all, 99);
        write!(
            f,
            "p50 {p50:.1?}, p99 {p99:.1?} (with the {:.1} % left out {all:.1?}), ",
            100.0 * lost
        )?;
        write!(f, "longest {longest:.1?}")
    }
}

/// Rows that change again and again: with ever more rows publisher and agent would have more to do at the
/// end than at the beginning.
const ROWS: usize = 1_000;

/// The row by which the agent is seen to hear.
const FIRST: &str = "first";

/// Publishes for a while, and waits until everything has come.
#[track_caller]
fn measure(client: &PublisherClient, tape: &Tape, witness: &Witness, length: Duration) -> Waits {
    tape.clear();
    let mark = witness.mark();
    let (start, mut sent) = (Instant::now(), Vec::new());
    for number in 0.. {
        let due = start + PACE * number;
        if due > start + length {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (key, value) = ((sent.len() % ROWS).to_string(), sent.len().to_string());
        let event = Event::set("t", &key, &value).on("t1");
        sent.push(SystemTime::now());
        client.publish(&event, None).unwrap();
    }
    let mut rows = Vec::new();
    wait_for("everything has come", || {
        std::thread::sleep(Duration::from_millis(50));
        rows = tape.timed_rows();
        // Not the lease of the publisher.
        rows.retain(|(row, _)| row.table == "t" && row.key != FIRST);
        rows.len() == sent.len()
    });
    let pauses = witness.since(&mark);
    let (mut all, mut kept) = (Vec::new(), Vec::new());
    for (row, at) in &rows {
        let number: usize = row.value.as_ref().unwrap().parse().unwrap();
        let took = at.duration_since(sent[number]).unwrap_or_default();
        all.push(took);
        if !pauses.iter().any(|pause| pause.touches(sent[number], *at)) {
            kept.push(took);
        }
    }
    Waits::of(all, kept)
}

const CONFIG: &str = "durability = \"os\"\nmax_connections = 4000\n";

/// By anybody, where there are no keys.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_honest_agents() {
    let cluster = Cluster::running(CONFIG);
    attacked(&cluster, options(), &|_, _| Vec::new());
}

/// With keys, as it is by default: by strangers, and by nodes that were taken over; each only once, since
/// it is kept out then.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_agents_with_keys() {
    let taken = |kind: &str, number: usize| format!("{kind}-{number}");
    let each = KINDS
        .iter()
        .flat_map(|kind| (0..TRIES).map(move |number| taken(kind, number)));
    let names: Vec<String> = std::iter::once("n1".to_owned()).chain(each).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let site = Site::with(&names, CONFIG);
    let trusted = [(ANY.to_owned(), vec![site.publisher_key()])];
    let honest = SubscriberOptions {
        keys: Some(Arc::new(NodeKeys::new(site.secret("n1"), trusted.into()))),
        ..options()
    };
    let keys = site.keys().display().to_string();
    let whose = |kind: &str, number: usize| vec![keys.clone(), taken(kind, number)];
    attacked(&site.cluster, honest, &whose);
}

/// An attack under way, which is to take the publisher's time, not the machine's: it has what time nobody
/// else wants, and gives way at once. With a low priority it would not: who wakes up beside such a process
/// waits for it up to a slice of the scheduler's, which alone doubles the p99.
struct Attack(Process);

impl Attack {
    fn begin(cluster: &Cluster, kind: &str, keys: &[String]) -> Attack {
        let mut command = Command::new("chrt");
        let script = python("attacker.py");
        command
            .args(["--idle", "0"])
            .arg(script.get_program())
            .args(script.get_args())
            .args([kind, &cluster.host.port.number.to_string()])
            .arg(cluster.sync.number.to_string())
            .args(keys);
        let attack = Process::start(command);
        attack.out.find("the attack has begun", |line| {
            line.contains("attacking").then_some(())
        });
        Attack(attack)
    }

    /// Ends it; says how often it was cut off, as far as it knows.
    fn end(self) -> u64 {
        let lines = self.0.out.all();
        let last = lines.last().unwrap();
        last.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// What of this kind the publisher has noticed so far.
fn noticed(cluster: &Cluster, kind: &str) -> u64 {
    let names: &[&str] = match kind {
        "bombs" => &["connections_greedy_total"],
        "flood" => &["sync_connections_unruly_total"],
        "endless" => &[
            "connections_unruly_total",
            "sync_connections_unruly_total",
            // With keys.
            "handshakes_refused_total",
            "sync_handshakes_refused_total",
        ],
        // Of what is longer than it may be libzmq says nothing.
        "oversize" => &[],
        _ => &["handshakes_refused_total", "sync_handshakes_refused_total"],
    };
    let report = cluster.host.report();
    let count = |name: &&str| {
        let part = if name.starts_with("sync_") {
            "sync"
        } else {
            "service"
        };
        report["parts"][part][*name].as_u64().unwrap()
    };
    names.iter().map(count).sum()
}

/// Measures with the attacks of somebody who has the keys for the try with this number.
fn attacked(
    cluster: &Cluster,
    honest: SubscriberOptions,
    keys: &dyn Fn(&str, usize) -> Vec<String>,
) {
    let tape = Tape::default();
    let driver = Box::new(ZmqPubSub::new());
    let agent = start(
        driver,
        honest,
        &[&cluster.uri()],
        &["t1"],
        vec![tape.handler()],
    );
    let client = cluster.host.client();
    wait_for("the agent hears", || {
        client
            .publish(&Event::set("t", FIRST, "1").on("t1"), None)
            .unwrap();
        tape.count() > 0
    });
    let witness = Witness::begin();
    let next = |length| measure(&client, &tape, &witness, length);
    let first = next(CALM_ROUND);
    eprintln!("calm: {first}");
    let mut before = first.clone();
    // `SIEGE=bombs` for that attack alone.
    let only = std::env::var("SIEGE").ok();
    let kinds = KINDS
        .iter()
        .filter(|kind| only.as_ref().is_none_or(|only| only == *kind));
    let mut worse = Vec::new();
    for kind in kinds {
        let mut tries = (0..TRIES).map(|number| {
            let noticed_before = noticed(cluster, kind);
            let attack = Attack::begin(cluster, kind, &keys(kind, number));
            let during = next(ATTACK);
            let cut = attack.end();
            // What an attack leaves behind stays; what the host does passes.
            let is_calm =
                |waits: &Waits| waits.is_enough() && waits.p99() <= 2 * first.p99().max(CALM);
            let mut after = next(CALM_ROUND);
            let mut rounds = 1;
            while !is_calm(&after) && rounds < TRIES {
                eprintln!("{kind}: after it {after}");
                after = next(CALM_ROUND);
                rounds += 1;
            }
            let noticed = noticed(cluster, kind) - noticed_before;
            // The host itself is calmer at one time than at another: what is just before and just after
            // is what an attack is compared with, and what is after it with the beginning.
            let calm = before.with(&after).p99().max(CALM);
            eprintln!(
                "{kind}: {during}, {:.2} times; after it {after}; cut off {cut} times, {noticed} noticed; \
                 publisher {} kB",
                during.p99().as_secs_f64() / calm.as_secs_f64(),
                cluster.host.peak_kb(),
            );
            assert!(noticed > 0 || *kind == "oversize" && cut > 0, "{kind}: it did no harm");
            before = after.clone();
            let longest = during.longest().max(after.longest());
            during.is_enough() && during.p99() <= 2 * calm && is_calm(&after) && longest <= LONGEST
        });
        if !tries.any(|good| good) {
            worse.push(*kind);
        }
    }
    assert_eq!(agent.stop(), 0);
    assert!(worse.is_empty(), "more than doubled by {worse:?}");
}
