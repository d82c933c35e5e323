//! Messages that are no events: each is counted under its reason and costs nothing else.

use std::time::Duration;

use fanfare::event::codec::Malformed;
use fanfare::handler::SyncReason;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::{Source, SubscriberOptions};

use crate::rig::agent::{options, over_zmq, source, start};
use crate::rig::logs;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::tape::Tape;
use crate::rig::{at_most, wait_for};

/// A fixstr or str8.
fn text(text: &str) -> Vec<u8> {
    let mut out = match text.len() {
        len @ ..32 => vec![0xa0 | len as u8],
        len => vec![0xd9, len as u8],
    };
    out.extend_from_slice(text.as_bytes());
    out
}

/// A map of these pairs, each value as it stands.
fn map(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![0x80 | pairs.len() as u8];
    for (key, value) in pairs {
        out.extend(text(key));
        out.extend_from_slice(value);
    }
    out
}

const FIELDS: [(&str, &[u8]); 5] = [
    ("table", b"\xa1t"),
    ("key", b"\xa3bad"),
    ("action", b"\xa3set"),
    ("value", b"\xa1v"),
    ("topic", b"\xa2t1"),
];

/// A good event but for `name`, whose value is `value`.
fn with(name: &str, value: &[u8]) -> Vec<u8> {
    let mut fields = FIELDS.to_vec();
    match fields.iter_mut().find(|(key, _)| *key == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    map(&fields)
}

fn nested(levels: usize) -> Vec<u8> {
    let mut value = vec![0x91; levels];
    value.push(0xc0);
    value
}

/// Every kind of fault, each as the payload that shows it.
fn faults() -> Vec<(&'static str, Vec<u8>)> {
    let good = map(&FIELDS);
    let mut faults = vec![
        ("empty_frame", vec![]),
        ("not_a_map", vec![0x95, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0]),
        ("not_a_map", vec![0xc0]),
        ("not_a_map", b"{\"table\": \"t\"}".to_vec()),
        ("not_a_map", text("table")),
        ("trailing_bytes", [&good[..], &[0xc0]].concat()),
        ("trailing_bytes", [&good[..], &good[..]].concat()),
        ("truncated", vec![0xde, 0xff]),
        // A map of four thousand million pairs.
        ("truncated", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        // A text, a bin and containers that are longer than the message.
        ("truncated", with("value", &[0xdb, 0xff, 0xff, 0xff, 0xff])),
        ("truncated", with("value", &[0xc6, 0x7f, 0xff, 0xff, 0xff])),
        ("truncated", with("other", &[0xdd, 0xff, 0xff, 0xff, 0xff])),
        ("truncated", with("other", &[0xdf, 0xff, 0xff, 0xff, 0xff])),
        ("truncated", with("other", &[0xc9, 0xff, 0xff, 0xff, 0xff])),
        ("too_deep", with("other", &nested(8))),
        ("too_deep", with("other", &nested(5_000))),
        ("invalid_marker", with("other", &[0xc1])),
        ("wrong_type", with("stamp", b"\xa5stamp")),
        ("wrong_type", with("stamp", &[0xc4, 1, 0])),
        ("wrong_type", with("stamp", &[0xc0])),
    ];
    for cut in 1..good.len() {
        faults.push(("truncated", good[..cut].to_vec()));
    }
    for (place, (name, _)) in FIELDS.iter().enumerate() {
        let mut missing = FIELDS.to_vec();
        missing.remove(place);
        faults.push(("missing_key", map(&missing)));
        for value in [
            &[0x01][..],
            &[0x90],
            &[0x80],
            &[0xc3],
            &[0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            faults.push(("wrong_type", with(name, value)));
        }
        faults.push(("invalid_utf8", with(name, b"\xa2\xff\xfe")));
        faults.push(("invalid_utf8", with(name, b"\xc4\x01\x80")));
    }
    faults
}

fn count(source: &Source, reason: &str) -> u64 {
    let place = Malformed::REASONS.iter().position(|known| *known == reason);
    source.malformed[place.expect(reason)].get()
}

#[test]
fn each_is_counted_by_reason_and_costs_nothing_else() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let agent = over_zmq(&[&port.uri()], &["t1"], vec![tape.handler()]);
    publisher.has_agent(&["D", "t1"]);
    tape.synced(1);
    let source = source(&agent, &port.uri());

    let mut wanted = [0; Malformed::REASONS.len()];
    let mut expect = |reason: &str| {
        let place = Malformed::REASONS.iter().position(|known| *known == reason);
        wanted[place.unwrap()] += 1;
    };
    let mut good = 0;
    for (reason, payload) in faults() {
        publisher.raw(&[b"t1", &payload]);
        expect(reason);
        publisher.set("t1", &format!("good{good}"), "v");
        good += 1;
    }
    let payload = map(&FIELDS);
    for frames in [
        &[&b"t1"[..]][..],
        &[b"t1", &payload, b""],
        &[b"t1", &payload, &payload, &payload],
        // More than is thrown away at once.
        &[&b"t1"[..]; 3_000],
    ] {
        publisher.raw(frames);
        expect("frame_count");
        publisher.set("t1", &format!("good{good}"), "v");
        good += 1;
    }
    // What is as deep as is allowed is good.
    publisher.raw(&[b"t1", &with("other", &nested(7))]);
    tape.has("bad");
    tape.has(&format!("good{}", good - 1));

    let counted: Vec<u64> = source.malformed.iter().map(|metric| metric.get()).collect();
    assert_eq!(counted, wanted, "{:?}", Malformed::REASONS);
    let all: u64 = wanted.iter().sum();
    assert!(all > 80, "only {all} malformed messages");
    assert_eq!(source.metrics.messages_malformed_total.get(), all);
    let arrived: Vec<String> = tape.keys().into_iter().filter(|key| key != "bad").collect();
    let expected: Vec<String> = (0..good).map(|n| format!("good{n}")).collect();
    assert_eq!(arrived, expected);
    assert_eq!(source.metrics.connects_total.get(), 1);
    assert_eq!(source.metrics.disconnects_total.get(), 0);
    assert_eq!(tape.begins(), [SyncReason::Started]);
    let logged = logs::with(&port.uri());
    let complaints = logged
        .iter()
        .filter(|line| line.contains("malformed"))
        .count();
    assert!(
        (1..=20).contains(&complaints),
        "{complaints} lines for {all} messages"
    );
}

fn small(port: &Port, tape: &Tape) -> fanfare::agent::Agent {
    let options = SubscriberOptions {
        max_message_size: 10_000,
        ..options()
    };
    let driver = Box::new(ZmqPubSub::new());
    start(
        driver,
        options,
        &[&port.uri()],
        &["t1"],
        vec![tape.handler()],
    )
}

#[test]
fn a_message_over_the_limit_is_dropped_and_one_far_over_it_costs_the_connection() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let agent = small(&port, &tape);
    publisher.has_agent(&["D", "t1"]);
    tape.synced(1);
    let source = source(&agent, &port.uri());

    // Both frames count: topic 2, map 1, keys and values 44, this value's header 3.
    let fits = "x".repeat(9_900);
    publisher.set("t1", "fits", &fits);
    for size in [10_001, 20_000, 39_000] {
        publisher.set("t1", "large", &"x".repeat(size));
    }
    publisher.set("t1", "after", "v");
    tape.has("after");
    assert_eq!(count(&source, "too_large"), 3);
    assert_eq!(source.metrics.messages_malformed_total.get(), 3);
    assert_eq!(tape.keys(), ["fits", "after"]);
    assert_eq!(source.metrics.connects_total.get(), 1);
    assert_eq!(tape.begins(), [SyncReason::Started]);

    // Over four times the limit libzmq does not even take it in.
    publisher.set("t1", "huge", &"x".repeat(50_000));
    wait_for("the agent is back", || {
        source.metrics.connects_total.get() == 2
    });
    assert_eq!(source.metrics.disconnects_total.get(), 1);
    publisher.subscribed("t1", 2);
    tape.synced(2);
    publisher.set("t1", "again", "v");
    tape.has("again");
    assert_eq!(
        tape.begins(),
        [SyncReason::Started, SyncReason::Reconnected]
    );
    assert!(!tape.keys().contains(&"huge".to_owned()));
}

/// A flood of malformed messages keeps nobody from commands: the agent ends in time.
#[test]
fn a_flood_does_not_hold_up_the_end() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let agent = over_zmq(&[&port.uri()], &["t1"], vec![tape.handler()]);
    publisher.has_agent(&["D", "t1"]);
    for _ in 0..20_000 {
        publisher.raw(&[b"t1", b"\xc0"]);
    }
    let source = source(&agent, &port.uri());
    wait_for("the flood has begun", || count(&source, "not_a_map") > 100);
    let start = std::time::Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(
        start.elapsed() < at_most(Duration::from_secs(2)),
        "{:?}",
        start.elapsed()
    );
}
