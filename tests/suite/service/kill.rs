//! kill -9 at random points: nothing that was acknowledged is lost, and no number is given twice (I5).

mod push;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare::event::Event;
use fanfare::publisher::client::{ClientOptions, PublisherClient, Summary};
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::cluster::Cluster;
use crate::rig::host::{Entry, Host, counts, journal};
use crate::rig::listener::{Listener, Told};
use crate::rig::load::send;
use crate::rig::node::Node;
use crate::rig::process::Process;
use crate::rig::{at_most, slowness, within};

/// Events of each worker, fewer where the programs are slower; `KILL_EVENTS` in the environment sets another
/// number, fewer for a slow machine and more for a soak.
const EVENTS: u64 = 50_000;
const WORKERS: usize = 4;
const KILLS: u64 = 6;

/// For all that is published to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(180);

fn events() -> u64 {
    let given = std::env::var("KILL_EVENTS").ok();
    given.map_or(EVENTS / u64::from(slowness()), |given| {
        given.parse().expect("KILL_EVENTS is a number")
    })
}

fn total() -> u64 {
    WORKERS as u64 * events()
}

/// Half of the events have a key of their own, half change a few keys again and again.
fn key(number: u64) -> String {
    match number % 2 {
        0 => format!("once-{number}"),
        _ => format!("often-{}", number % 20),
    }
}

fn value(number: u64) -> String {
    format!("{{\"n\": {number}}}")
}

fn number(value: Option<&str>) -> u64 {
    let value: Value = serde_json::from_str(value.unwrap()).unwrap();
    value["n"].as_u64().unwrap()
}

/// Where to kill: once in each of so many parts of the work.
fn places(kills: u64) -> impl Iterator<Item = u64> {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // The last part is left for the end.
    let part = total() / (kills + 1);
    (0..kills).map(move |place| place * part + random.u64(part / 10..part))
}

#[test]
fn nothing_acknowledged_is_lost_and_the_incarnation_goes_on() {
    let Cluster {
        mut host,
        sync: _sync,
    } = Cluster::new("durability = \"sync\"\n");
    let first = host.start();
    let mut node = follower(&host);
    let listener = Listener::joined(&host.port.uri(), &[b"t0\0", b"t1\0", b"t2\0", b"t3\0"]);
    let clients: Vec<Arc<PublisherClient>> = (0..WORKERS)
        .map(|_| {
            // Small, so that there is much on its way at any time and acknowledged often.
            Arc::new(PublisherClient::new(ClientOptions {
                batch_events: 32,
                window: 4,
                spool_events: 500,
                resend: Duration::from_secs(2),
                ..host.options()
            }))
        })
        .collect();
    let publishing: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(worker, client)| {
            let client = Arc::clone(client);
            std::thread::spawn(move || publish(&client, worker))
        })
        .collect();
    let sum = |count: fn(Summary) -> u64| -> u64 {
        clients.iter().map(|client| count(client.summary())).sum()
    };

    let mut in_flight = 0;
    for place in places(KILLS) {
        within(PATIENCE, "the workers get on", || {
            (sum(|summary| summary.acknowledged) >= place).then_some(())
        });
        host.kill();
        let acknowledged = sum(|summary| summary.acknowledged);
        in_flight += u64::from(sum(|summary| summary.pending) > 0);
        let start = host.start();
        assert_eq!(start.incarnation, first.incarnation);
        assert!(start.head >= acknowledged, "{start:?}, {acknowledged}");
    }
    for thread in publishing {
        let summary = thread.join().unwrap();
        assert_eq!((summary.acknowledged, summary.refused), (events(), 0));
    }
    assert!(
        in_flight >= 5,
        "only {in_flight} kills met events in flight"
    );
    in_order(&listener.told(), first.incarnation);
    reached(&mut node, &newest());
    complete(&mut host, first.incarnation);
}

/// An agent that follows all workers.
fn follower(host: &Host) -> Node {
    let topics = ["t0", "t1", "t2", "t3"];
    let mut node = Node::new(&[&host.port.uri()], &topics, "legacy_detect = 5.0\n");
    // The file is large, and a service with so much to write down may be silent for seconds on a busy machine.
    node.configure(|config| {
        let config = config.replace("interval = 0.05", "interval = 1.0");
        config.replace("max_idle_time = 1.0", "max_idle_time = 5.0")
    });
    node.start();
    node
}

/// The last number of each row of each worker's table.
fn newest() -> BTreeMap<String, BTreeMap<String, u64>> {
    let rows: BTreeMap<String, u64> = (0..events()).map(|n| (key(n), n)).collect();
    (0..WORKERS)
        .map(|worker| (format!("w{worker}"), rows.clone()))
        .collect()
}

/// All of it has reached the agent, by replay: nothing was loaded again and no handler started over.
#[track_caller]
fn reached(node: &mut Node, newest: &BTreeMap<String, BTreeMap<String, u64>>) {
    let (file, mut read) = (node.folder.path("rows.json"), None);
    within(PATIENCE, "everything has reached the agent", || {
        // To read it takes long, also from those who are to write it: only what is new is looked at.
        let written = std::fs::metadata(&file)
            .and_then(|file| file.modified())
            .ok();
        if read == written {
            return None;
        }
        read = written;
        let rows = node.rows();
        let there = newest.iter().all(|(table, newest)| {
            let rows = rows.get(table);
            rows.is_some_and(|rows| {
                let there =
                    |(key, n): (&String, &u64)| rows.get(key)?["n"].as_u64().filter(|m| m == n);
                newest.iter().all(|row| there(row).is_some())
            })
        });
        there.then_some(())
    });
    let counted = node.stop();
    // Kills may follow each other faster than the agent comes back.
    assert!(counted.of(" publisher tcp", "connects_total") >= 2);
    assert!(
        counted.recovery("replayed_events_total") > 0,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.recovery("new_incarnations_total"), 0);
    // One for each topic, at the beginning.
    assert_eq!(
        counted.recovery("snapshots_total"),
        5,
        "{:#?}",
        counted.lines
    );
    assert_eq!(counted.resyncs(), 1);
}

fn publish(client: &PublisherClient, worker: usize) -> Summary {
    let (table, topic) = (format!("w{worker}"), format!("t{worker}"));
    for n in 0..events() {
        let (key, value) = (key(n), value(n));
        let event = Event::set(&table, &key, &value).on(&topic);
        send(client, &event);
    }
    client.flush(at_most(PATIENCE)).unwrap()
}

/// The same with processes, and with the other durability.
#[test]
fn worker_processes_do_not_notice() {
    let Cluster {
        mut host,
        sync: _sync,
    } = Cluster::new("durability = \"os\"\n");
    let first = host.start();
    let mut node = follower(&host);
    let topics: [&[u8]; 4] = [b"t0\0", b"t1\0", b"t2\0", b"t3\0"];
    let listener = Listener::joined(&host.port.uri(), &topics);
    let mut workers: Vec<Process> = (0..WORKERS)
        .map(|worker| {
            let line = |n: u64| {
                let (key, value) = (key(n), value(n));
                format!(
                    "{{\"table\":\"w{worker}\",\"key\":\"{key}\",\"value\":{value},\
                     \"topic\":\"t{worker}\"}}\n"
                )
            };
            let lines: String = (0..events()).map(line).collect();
            let path = host.folder.write(&format!("w{worker}.jsonl"), &lines);
            let path = path.to_str().unwrap();
            Process::start(host.publish(&["--from", path, "--timeout", "60"]))
        })
        .collect();

    let mut in_flight = Vec::new();
    for (kill, place) in places(KILLS).enumerate() {
        within(PATIENCE, "the workers get on", || {
            (listener.head() >= place).then_some(())
        });
        let requests = host.report()["parts"]["requests"].clone();
        // Once the agent comes back late: else it may be there before the first new event, and miss none.
        let late = kill == 2;
        if late {
            node.process().signal(Signal::STOP);
        }
        host.kill();
        let count = |name: &str| requests[name].as_u64().unwrap();
        in_flight.push(count("requests_total").saturating_sub(count("replies_total")));
        let start = host.start();
        assert_eq!(start.incarnation, first.incarnation);
        assert!(start.head >= place, "{start:?}");
        if late {
            within(PATIENCE, "the workers get on without the agent", || {
                (listener.head() > start.head).then_some(())
            });
            node.process().signal(Signal::CONT);
        }
    }
    for worker in &mut workers {
        let status = worker.ends_within(PATIENCE);
        let said = worker.out.all().join("\n");
        assert!(status.success(), "{said}\n{}", worker.errors());
        assert_eq!(said, format!("acknowledged {}, refused 0", events()));
    }
    // Requests that were not answered just before.
    let met = in_flight.iter().filter(|count| **count > 0).count();
    assert!(met >= 5, "kills met requests in flight: {in_flight:?}");
    in_order(&listener.told(), first.incarnation);
    reached(&mut node, &newest());
    complete(&mut host, first.incarnation);
}

/// Every event is in the rows, and was journalled once, in its worker's order.
#[track_caller]
fn complete(host: &mut Host, incarnation: u64) {
    let history = host.stop_and_open();
    assert_eq!(history.incarnation(), incarnation);
    let entries = journal(&history);
    assert_eq!(
        entries.last().map(|last| last.stamp.seq),
        Some(history.head())
    );
    for worker in 0..WORKERS {
        let table = format!("w{worker}");
        let mut newest = BTreeMap::new();
        for n in 0..events() {
            newest.insert(key(n), n);
        }
        for (key, n) in &newest {
            let row = history.rows().get(&table, key);
            let row = row.unwrap_or_else(|| panic!("{table} {key} is not in the rows"));
            assert_eq!(number(row.value.as_deref()), *n, "{table} {key}");
        }
        let of_worker = |entry: &&Entry| entry.table == table;
        let numbers = entries.iter().filter(of_worker);
        let numbers = numbers.map(|entry| number(entry.value.as_deref()));
        assert!(
            numbers.eq(0..events()),
            "{table} is not journalled in order"
        );
        assert_eq!(counts(&entries, &table).len(), newest.len());
    }
    history.close().unwrap();
}

/// No state went backwards and no number came twice.
#[track_caller]
fn in_order(told: &[Told], incarnation: u64) {
    assert!(
        told.len() as u64 > total() / 4,
        "only {} events",
        told.len()
    );
    let mut last = 0;
    let mut states = BTreeMap::new();
    for told in told {
        assert_eq!(told.stamp.incarnation, incarnation);
        assert!(told.stamp.seq > last, "{} after {last}", told.stamp.seq);
        last = told.stamp.seq;
        let state = (told.stamp.version, number(told.value.as_deref()));
        let name = (told.table.clone(), told.key.clone());
        if let Some((version, n)) = states.insert(name, state) {
            assert!(state.0 > version && state.1 > n, "{told:?} after {n}");
        }
    }
}
