//! How long honest agents wait for events while a publisher is attacked. A measurement, for `make
//! soak`: attackers, publisher and agent share the machine.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanfare::event::Event;
use fanfare::publisher::client::PublisherClient;
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::security::key::PublicKey;
use fanfare::security::party::{ANY, NodeKeys};

use crate::recovery::cluster::Cluster;
use crate::rig::agent::{options, start};
use crate::rig::peer::python;
use crate::rig::process::Process;
use crate::rig::tape::Tape;
use crate::rig::wait_for;
use crate::security::site::Site;

const KINDS: &[&str] = &[
    "garbage",
    "half_open",
    "slow_loris",
    "bombs",
    "flood",
    "endless",
    "oversize",
];

/// How long each is measured, and the time between two events.
const ROUND: Duration = Duration::from_secs(8);
const PACE: Duration = Duration::from_millis(2);

/// What a loaded machine adds to the slowest events now and then, whoever attacks.
const NOISE: Duration = Duration::from_millis(2);

struct Measured {
    p50: Duration,
    p99: Duration,
}

/// Publishes for a while, and waits until everything has come.
#[track_caller]
fn measure(client: &PublisherClient, tape: &Tape, round: usize) -> Measured {
    let (start, mut sent) = (Instant::now(), BTreeMap::new());
    for number in 0.. {
        let due = start + PACE * number;
        if due > start + ROUND {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let key = format!("{round}-{number}");
        let event = Event::set("t", &key, "1").on("t1");
        sent.insert(key.clone(), SystemTime::now());
        client.publish(&event, None).unwrap();
    }
    let before: usize = tape.count();
    let prefix = format!("{round}-");
    let mut took: Vec<Duration> = Vec::new();
    wait_for("everything has come", || {
        let rows = tape.timed_rows();
        let own = rows.iter().filter(|(row, _)| row.key.starts_with(&prefix));
        took = own
            .filter_map(|(row, at)| at.duration_since(*sent.get(&row.key)?).ok())
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        took.len() == sent.len()
    });
    assert!(before > 0);
    took.sort_unstable();
    let place = |part: usize| took[took.len() * part / 100];
    Measured {
        p50: place(50),
        p99: place(99),
    }
}

const CONFIG: &str = "durability = \"os\"\nmax_connections = 4000\n";

/// By anybody, where there are no keys.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_honest_agents() {
    let mut cluster = Cluster::running(CONFIG);
    attacked(&mut cluster, options(), &[]);
}

/// With keys, as it is by default: by strangers, and by a node that was taken over.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_agents_with_keys() {
    let mut site = Site::with(&["n1", "n3"], CONFIG);
    let publisher = PublicKey::parse(&site.public("publisher")).unwrap();
    let trusted = [(ANY.to_owned(), vec![publisher])];
    let honest = SubscriberOptions {
        keys: Some(Arc::new(NodeKeys::new(site.secret("n1"), trusted.into()))),
        ..options()
    };
    let keys = site.keys();
    attacked(
        &mut site.cluster,
        honest,
        &[&keys.display().to_string(), "n3"],
    );
}

/// Measures with the attacks of somebody who has these keys.
fn attacked(cluster: &mut Cluster, honest: SubscriberOptions, keys: &[&str]) {
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
    client
        .publish(&Event::set("t", "first", "1").on("t1"), None)
        .unwrap();
    wait_for("the agent hears", || {
        client
            .publish(&Event::set("t", "first", "1").on("t1"), None)
            .unwrap();
        tape.count() > 0
    });
    let (events, sync) = (cluster.host.port.number, cluster.sync.number);
    let harmed = |cluster: &Cluster| {
        let parts = cluster.host.report()["parts"].clone();
        let count = |part: &str, name: &str| parts[part][name].as_u64().unwrap_or(0);
        count("service", "handshakes_refused_total")
            + count("service", "connections_greedy_total")
            + count("service", "connections_unruly_total")
            + count("sync", "sync_handshakes_refused_total")
            + count("sync", "sync_connections_unruly_total")
    };
    let mut worse = Vec::new();
    let mut calm = measure(&client, &tape, 0);
    // `SIEGE=bombs` for that attack alone.
    let only = std::env::var("SIEGE").ok();
    let kinds = KINDS
        .iter()
        .filter(|kind| only.as_ref().is_none_or(|only| only == *kind));
    for (number, kind) in kinds.enumerate() {
        let before = harmed(cluster);
        // It is to take the publisher's time, not the machine's.
        let mut command = Command::new("nice");
        let script = python("attacker.py");
        command
            .args(["-n", "19"])
            .arg(script.get_program())
            .args(script.get_args());
        command.args([kind, &&*events.to_string(), &&*sync.to_string()]);
        command.args(keys);
        let attacker = Process::start(command);
        attacker.out.find("the attack has begun", |line| {
            line.contains("attacking").then_some(())
        });
        let attacked = measure(&client, &tape, 2 * number + 1);
        let reports = attacker.out.len();
        drop(attacker);
        // It tries on when it is kept out, too.
        assert!(reports > 3, "{kind}: the attack stood still");
        let after = measure(&client, &tape, 2 * number + 2);
        // Whatever it was ended for, or a handshake that came to nothing. Of what is too long in the midst of
        // a handshake libzmq says nothing.
        let refused = harmed(cluster) - before;
        assert!(
            refused > 0 || *kind == "oversize",
            "{kind}: the publisher has not noticed it"
        );
        let usual = calm.p99.max(after.p99);
        eprintln!(
            "{kind}: p50 {:?}, p99 {:?} under attack; {:?}, {:?} before and {:?}, {:?} after: {:.2} times; \
             publisher {} kB, {refused} times refused",
            attacked.p50,
            attacked.p99,
            calm.p50,
            calm.p99,
            after.p50,
            after.p99,
            attacked.p99.as_secs_f64() / usual.as_secs_f64(),
            cluster.host.process().peak_kb(),
        );
        if attacked.p99 > 2 * usual.max(NOISE) {
            worse.push(*kind);
        }
        calm = after;
    }
    assert_eq!(agent.stop(), 0);
    assert!(worse.is_empty(), "more than doubled by {worse:?}");
}
