//! Both directions with peers written from the wire facts alone.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::agent::{over_zmq, source};
use crate::rig::config::{Folder, Rows, summary};
use crate::rig::peer::{Publisher, Subscriber};
use crate::rig::port::Port;
use crate::rig::tape::Tape;
use crate::rig::{slowness, until, wait_for};

/// Per topic, fewer where the programs are slower.
fn events() -> u64 {
    10_000 / u64::from(slowness())
}

/// `t10` shares a prefix with `t1`, which a legacy publisher cannot tell apart.
const TOPICS: [&str; 3] = ["t1", "t10", "t2"];

fn series(spec: &str) -> Value {
    json!({"op": "series", "topics": TOPICS, "count": 3 * events(), "spec": spec})
}

/// The numbers of the events on `topic`.
fn numbers(topic: &str) -> impl Iterator<Item = u64> {
    let place = TOPICS.iter().position(|known| *known == topic).unwrap();
    (0..events()).map(move |n| 3 * n + place as u64)
}

#[test]
fn python_to_agent_in_order_and_of_the_right_topics() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let agent = over_zmq(&[&port.uri()], &["t1", "t2"], vec![tape.handler()]);
    publisher.has_agent(&["D", "t1", "t2"]);
    tape.synced(1);
    for spec in ["new", "old"] {
        publisher.tell(series(spec));
    }
    publisher.set("D", "last", "x");
    tape.has("last");

    let rows = tape.rows();
    assert!(rows.iter().all(|row| row.topic != "t10"));
    for topic in ["t1", "t2"] {
        let of_topic = rows.iter().filter(|row| row.topic == topic);
        let keys: Vec<&str> = of_topic.map(|row| row.key.as_str()).collect();
        let wanted = numbers(topic).chain(numbers(topic));
        let wanted: Vec<String> = wanted.map(|n| format!("k{n}")).collect();
        assert!(keys == wanted, "topic {topic}: {} events", keys.len());
    }
    let source = source(&agent, &port.uri());
    let counts = &source.metrics;
    assert_eq!(counts.events_foreign_total.get(), 2 * events(), "t10 came");
    assert_eq!(counts.events_received_total.get(), 4 * events() + 1);
    assert_eq!(counts.messages_malformed_total.get(), 0);
    assert_eq!(counts.connects_total.get(), 1);
    assert_eq!(tape.begins().len(), 1);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn every_form_of_event_that_a_python_publisher_sends() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let agent = over_zmq(&[&port.uri()], &["t1"], vec![tape.handler()]);
    publisher.has_agent(&["D", "t1"]);
    tape.synced(1);

    let sizes = [0, 31, 32, 255, 256, 65_535, 65_536, 300_000];
    let event = |key: &str, more: Value| {
        let mut event = json!({
            "op": "event", "table": "t", "key": key, "action": "set", "value": "v", "topic": "t1",
        });
        let more = more.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(more);
        event
    };
    for spec in ["old", "new"] {
        for size in sizes {
            let value = "ä".repeat(size / 2) + &"x".repeat(size % 2);
            publisher.tell(event(
                &format!("{spec}{size}"),
                json!({"value": value, "spec": spec}),
            ));
            let key = format!("bin-{spec}{size}");
            publisher.tell(event(
                &key,
                json!({"value": value, "bin": true, "spec": spec}),
            ));
        }
    }
    // The topic in the map counts; without one it is an event for all.
    publisher.tell(event("nil topic", json!({"topic": null, "envelope": "t1"})));
    publisher.tell(event(
        "other topic",
        json!({"topic": "t7", "envelope": "t1"}),
    ));
    publisher.tell(event("fanfare frame", json!({"envelope": "t1\0"})));
    publisher.tell(event(
        "unknown keys",
        json!({"extra": {
            "priority": 7, "nested": {"a": [1, 2.5, null, {"b": []}]}, "table2": "x",
        }}),
    ));
    publisher.tell(event("nil value", json!({"value": null})));
    publisher.tell(event("created", json!({"action": "create"})));
    publisher.tell(event("created", json!({"action": "delete", "value": null})));
    for control in ["sync", "dbrestart", "log"] {
        publisher.tell(event("control", json!({"action": control})));
    }
    publisher.tell(event("", json!({})));
    publisher.tell(event("x", json!({"table": null})));
    publisher.set("t1", "last", "x");
    tape.has("last");

    let rows = tape.rows();
    let row = |key: &str| rows.iter().find(|row| row.key == key).expect(key);
    for size in sizes {
        let value = "ä".repeat(size / 2) + &"x".repeat(size % 2);
        for kind in ["old", "new", "bin-old", "bin-new"] {
            let row = row(&format!("{kind}{size}"));
            assert!(row.value.as_ref() == Some(&value), "{kind}{size}");
            assert_eq!(row.topic, "t1");
        }
    }
    assert_eq!(row("nil topic").topic, "D");
    assert_eq!(row("other topic").topic, "t7");
    assert_eq!(row("fanfare frame").topic, "t1");
    assert_eq!(row("unknown keys").value.as_deref(), Some("v"));
    assert_eq!(row("nil value").value, None);
    let states: Vec<_> = rows.iter().filter(|row| row.key == "created").collect();
    assert_eq!(states.len(), 2);
    assert_eq!(states[1].value, None);
    let counts = &source(&agent, &port.uri()).metrics;
    assert_eq!(counts.events_not_a_row_total.get(), 5);
    assert!(!rows.iter().any(|row| row.key == "control"));
    assert_eq!(counts.messages_malformed_total.get(), 0);
}

#[test]
fn python_to_a_real_agent_whose_file_is_as_expected() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let mut agent = folder.agent(&[&port.uri()], &["t1", "t2"], "");
    publisher.has_agent(&["D", "t1", "t2"]);
    publisher.tell(series("old"));
    for n in 0..100 {
        publisher.set("t2", &format!("k{n}"), &format!("{{\"n\": {n}}}"));
        if n % 2 == 0 {
            publisher.delete("t2", &format!("k{n}"));
        }
    }
    let mut rows = Rows::new();
    for topic in ["t1", "t2"] {
        for n in numbers(topic) {
            let row = json!({"n": n, "topic": topic});
            rows.entry("series".into())
                .or_default()
                .insert(format!("k{n}"), row);
        }
    }
    for n in (1..100).step_by(2) {
        let table = rows.entry("t".into()).or_default();
        table.insert(format!("k{n}"), json!({"n": n}));
    }
    folder.has_rows(&rows);
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(Duration::from_secs(2)).success());
    assert_eq!(folder.rows(), Some(rows));
    let of = |name| summary(&agent, &format!("publisher {}:", port.uri()), name);
    assert_eq!(of("events_foreign_total"), events());
    assert_eq!(of("connects_total"), 1);
    assert_eq!(of("messages_malformed_total"), 0);
}

#[test]
fn fanfare_publisher_to_python_in_order_with_exact_topics() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = folder.serve(&format!(
        "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n",
        port.number
    ));
    let mut write = |line: Value| publisher.write(&line.to_string());
    // The one subscribes as Dragonflow does, to a bare prefix, the other as Fanfare does.
    let bare = Subscriber::connect(&port.uri(), &["t1", "t2"]);
    let exact = Subscriber::connect(&port.uri(), &["t1\0", "t2\0"]);
    let mut probes = 0;
    until("both subscribers hear the publisher", || {
        write(json!({"table": "probe", "key": "p", "value": probes, "topic": "t2"}));
        probes += 1;
        std::thread::sleep(Duration::from_millis(10));
        (bare.count() > 0 && exact.count() > 0).then_some(())
    });
    for n in 0..3 * events() {
        let topic = TOPICS[(n % 3) as usize];
        write(json!({"table": "lport", "key": format!("k{n}"), "value": {"n": n}, "topic": topic}));
    }
    write(json!({"table": "lport", "key": "gone", "action": "delete", "topic": "t1"}));

    for (subscriber, topics) in [(bare, &TOPICS[..]), (exact, &["t1", "t2"][..])] {
        let last = |event: &Value| event["event"]["key"] == "gone";
        wait_for("all events arrive", || {
            subscriber.received().last().is_some_and(last)
        });
        let received = subscriber.received();
        let heard: Vec<&Value> = received
            .iter()
            .filter(|message| message["event"]["table"] == "lport")
            .collect();
        assert_eq!(heard.len() as u64, topics.len() as u64 * events() + 1);
        for topic in topics {
            let of_topic = heard
                .iter()
                .filter(|message| message["event"]["topic"] == *topic);
            let of_topic: Vec<_> = of_topic.collect();
            for (message, n) in of_topic.iter().zip(numbers(topic)) {
                let value = format!("{{\"n\":{n}}}");
                let wanted = json!({"topic": format!("{topic}\0"), "frames": 2, "event": {
                    "table": "lport", "key": format!("k{n}"), "action": "set",
                    "value": value, "topic": topic,
                }});
                let mut message = (**message).clone();
                // What a Fanfare publisher adds, and Dragonflow's subscribers pass over.
                assert!(
                    message["event"]
                        .as_object_mut()
                        .unwrap()
                        .remove("stamp")
                        .is_some()
                );
                assert_eq!(message, wanted);
            }
        }
        let mut last = heard.last().unwrap()["event"].clone();
        last.as_object_mut().unwrap().remove("stamp");
        assert_eq!(
            last,
            json!({
                "table": "lport", "key": "gone", "action": "delete", "value": null, "topic": "t1",
            })
        );
    }
    publisher.all_acknowledged();
    publisher.service.signal(Signal::TERM);
    assert!(
        publisher
            .service
            .ends_within(Duration::from_secs(2))
            .success()
    );
}
