//! Publishers that die, hang and come back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfare::handler::SyncReason;
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::agent::{live, options, over_zmq, source, start};
use crate::rig::config::{Folder, summary};
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::tape::{Row, Tape};
use crate::rig::{at_most, until, wait_for};

fn load(name: &str, topic: &str, rate: u64) -> Value {
    json!({"op": "load", "name": name, "topic": topic, "rate": rate})
}

#[test]
fn killed_under_load_and_started_again_at_the_same_address() {
    let port = Port::free();
    let mut first = Publisher::bind(&port.uri());
    let (tape, other) = (Tape::default(), Tape::default());
    let agent = over_zmq(
        &[&port.uri()],
        &["t1"],
        vec![tape.handler(), other.handler()],
    );
    first.has_agent(&["D", "t1"]);
    tape.synced(1);
    first.tell(load("first", "t1", 2_000));
    tape.has_count(1_000);
    first.kill();
    let before = tape.keys().len();

    let mut second = Publisher::bind(&port.uri());
    second.tell(load("second", "t1", 2_000));
    let back = second.subscribed("t1", 1);
    tape.has(&format!("second-{}", back + 1_000));
    let sent = second.ask(json!({"op": "halt"}), "halted");
    second.set("t1", "last", "x");
    for tape in [&tape, &other] {
        tape.has("last");
        tape.synced(2);
        assert_eq!(
            tape.begins(),
            [SyncReason::Started, SyncReason::Reconnected]
        );
        let state = tape.state();
        let missing: Vec<u64> = (back..sent)
            .filter(|n| !state.contains_key(&("load".into(), format!("second-{n}"))))
            .collect();
        assert!(
            missing.is_empty(),
            "of {back}..{sent} {missing:?} are missing"
        );
    }
    assert!(
        sent - back >= 1_000 && before >= 1_000,
        "the load was too small"
    );
    let counts = &source(&agent, &port.uri()).metrics;
    assert_eq!(counts.connects_total.get(), 2);
    assert_eq!(counts.disconnects_total.get(), 1);
    assert_eq!(agent.hub().metrics.resyncs_asked_total.get(), 1);
}

#[test]
fn a_real_agent_reconnects_by_itself() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
    for life in 0..3 {
        publisher.has_agent(&["D", "t1"]);
        publisher.set("t1", &format!("life{life}"), "1");
        folder.has_key("t", &format!("life{life}"));
        publisher.kill();
        publisher = Publisher::bind(&port.uri());
    }
    publisher.has_agent(&["D", "t1"]);
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(Duration::from_secs(2)).success());
    assert_eq!(
        folder.rows().unwrap()["t"].len(),
        3,
        "what was missed is not taken away"
    );
    let of = |what: &str, name| summary(&agent, what, name);
    let publisher = format!("publisher {}:", port.uri());
    assert_eq!(of(&publisher, "connects_total"), 4);
    assert_eq!(of("handler file:", "resyncs_total"), 4);
}

/// When an event of a load was sent.
fn sent_at(row: &Row) -> SystemTime {
    let value: Value = serde_json::from_str(row.value.as_deref().unwrap()).unwrap();
    UNIX_EPOCH + Duration::from_secs_f64(value["at"].as_f64().unwrap())
}

/// Longest time an event may take while another publisher is in trouble. The trouble itself lasts
/// for seconds: whoever waits for it is far later.
const DELAY: Duration = Duration::from_millis(800);

#[test]
fn one_that_dies_does_not_delay_another() {
    let (bad, good) = (Port::free(), Port::free());
    let mut dying = Publisher::bind(&bad.uri());
    let mut living = Publisher::bind(&good.uri());
    let tape = Tape::default();
    // Long, so that whoever waits for the bad one is noticed.
    let options = SubscriberOptions {
        connect_timeout: Duration::from_secs(3),
        ..options()
    };
    let driver = Box::new(ZmqPubSub::new());
    let agent = start(
        driver,
        options,
        &[&bad.uri(), &good.uri()],
        &["t1"],
        vec![tape.handler()],
    );
    dying.has_agent(&["D", "t1"]);
    living.has_agent(&["D", "t1"]);
    tape.synced(1);
    dying.tell(load("dying", "t1", 500));
    living.tell(load("living", "t1", 500));
    tape.has("dying-100");
    tape.has("living-100");
    dying.kill();
    // Then something is there that takes connections and says nothing.
    let silent = until("the port is free", || {
        std::net::TcpListener::bind(("127.0.0.1", bad.number)).ok()
    });
    let source = source(&agent, &bad.uri());
    wait_for("attempts to connect fail", || {
        source.metrics.connects_failed_total.get() >= 1 && silent.accept().is_ok()
    });
    let failed = source.metrics.connects_failed_total.get();
    wait_for("an attempt is given up", || {
        source.metrics.connects_failed_total.get() > failed
    });
    living.ask(json!({"op": "halt"}), "halted");
    living.set("t1", "last", "x");
    tape.has("last");

    let rows = tape.timed_rows();
    let living: Vec<_> = rows
        .iter()
        .filter(|(row, _)| row.key.starts_with("living"))
        .collect();
    assert!(living.len() > 1_000, "only {} events", living.len());
    let late =
        |(row, at): &&&(Row, SystemTime)| at.duration_since(sent_at(row)).unwrap_or_default();
    let latest = living.iter().map(|timed| late(&timed)).max().unwrap();
    assert!(latest < at_most(DELAY), "an event took {latest:?}");
    assert_eq!(source.metrics.disconnects_total.get(), 1);
}

#[test]
fn one_that_hangs_delays_neither_another_nor_the_end() {
    let (bad, good) = (Port::free(), Port::free());
    let hanging = Publisher::bind(&bad.uri());
    let mut living = Publisher::bind(&good.uri());
    let tape = Tape::default();
    let agent = over_zmq(&[&bad.uri(), &good.uri()], &["t1"], vec![tape.handler()]);
    hanging.has_agent(&["D", "t1"]);
    living.has_agent(&["D", "t1"]);
    tape.synced(1);
    hanging.signal(Signal::STOP);
    living.tell(load("living", "t1", 500));
    tape.has_count(500);
    let rows = tape.timed_rows();
    let late = |(row, at): &(Row, SystemTime)| at.duration_since(sent_at(row)).unwrap_or_default();
    let latest = rows.iter().map(late).max().unwrap();
    assert!(latest < at_most(DELAY), "an event took {latest:?}");
    let begun = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(
        begun.elapsed() < at_most(Duration::from_secs(1)),
        "{:?}",
        begun.elapsed()
    );
    hanging.signal(Signal::CONT);
}

#[test]
fn nobody_there_at_first() {
    let port = Port::free();
    let tape = Tape::default();
    let agent = over_zmq(&[&port.uri()], &["t1"], vec![tape.handler()]);
    let source = source(&agent, &port.uri());
    wait_for("attempts fail", || {
        source.metrics.connects_failed_total.get() >= 3
    });
    let mut publisher = Publisher::bind(&port.uri());
    live(&agent, &port.uri());
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "first", "x");
    tape.has("first");
    // Nothing can have been missed: the first connection is no reason to start over.
    assert_eq!(tape.begins(), [SyncReason::Started]);
}

/// The attempts become rarer.
#[test]
fn attempts_back_off() {
    let port = Port::free();
    let options = SubscriberOptions {
        reconnect_min: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(60),
        ..options()
    };
    let agent = start(
        Box::new(ZmqPubSub::new()),
        options,
        &[&port.uri()],
        &[],
        vec![],
    );
    let source = source(&agent, &port.uri());
    let begun = Instant::now();
    wait_for("attempts fail", || {
        source.metrics.connects_failed_total.get() >= 6
    });
    // Each takes a wait of at least half of 50, 100, 200, … ms before it.
    let least = Duration::from_millis((50 + 100 + 200 + 400 + 800) / 2);
    assert!(
        begun.elapsed() >= least,
        "six attempts in {:?}",
        begun.elapsed()
    );
}
