use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::pubsub::endpoint::Transport;

mod integration;

const DEFAULTS: Defaults = Defaults {
    transport: Transport::Tcp,
    port: 8866,
};

fn endpoint(uri: &str) -> Endpoint {
    Endpoint::parse(uri, &DEFAULTS).unwrap()
}

fn row(uri: &str) -> String {
    serde_json::json!({"id": "x", "uri": uri, "last_activity_timestamp": 1}).to_string()
}

fn add(uri: &str) -> Step {
    Step::Add(endpoint(uri))
}

fn remove(uri: &str) -> Step {
    Step::Remove(endpoint(uri))
}

fn discovery(configured: &[&str], max: usize) -> Discovery {
    let configured: Vec<Endpoint> = configured.iter().map(|uri| endpoint(uri)).collect();
    Discovery::new(DEFAULTS, &configured, max)
}

#[test]
fn rows_mean_what_new_defaults_make_of_them() {
    let (mut it, now) = (discovery(&[], 8), Instant::now());
    let (short, whole) = (row("h"), row("tcp://h2:1"));
    let rows = [("a", short.as_str()), ("b", whole.as_str())];
    let steps = it.replace(rows, now);
    assert_eq!(steps, [add("tcp://h:8866"), add("tcp://h2:1")]);
    let defaults = Defaults {
        port: 9000,
        ..DEFAULTS
    };
    it.set_configured(&[], &defaults);
    let steps = it.replace(rows, now);
    assert_eq!(steps, [remove("tcp://h:8866"), add("tcp://h:9000")]);
}

#[test]
fn rows_add_change_and_remove_publishers() {
    let (mut it, now) = (discovery(&[], 8), Instant::now());
    assert_eq!(it.set("a", &row("tcp://h:1"), now), [add("tcp://h:1")]);
    assert!(it.set("a", &row("tcp://h:1"), now).is_empty(), "a renewal");
    let moved = it.set("a", &row("h2"), now);
    assert_eq!(moved, [remove("tcp://h:1"), add("tcp://h2:8866")]);
    assert_eq!(it.delete("a"), [remove("tcp://h2:8866")]);
    assert!(it.delete("a").is_empty());
    assert_eq!(it.metrics.publishers_added_total.get(), 2);
    assert_eq!(it.metrics.publishers_dropped_total.get(), 2);
}

#[test]
fn configured_publishers_are_neither_added_nor_removed() {
    let (mut it, now) = (discovery(&["tcp://h:1"], 8), Instant::now());
    assert!(it.set("a", &row("tcp://h:1"), now).is_empty());
    assert!(it.delete("a").is_empty());
    assert!(it.set("a", &row("tcp://h:1"), now).is_empty());
    assert_eq!(it.set("a", &row("tcp://h:2"), now), [add("tcp://h:2")]);
    assert_eq!(it.set("a", &row("tcp://h:1"), now), [remove("tcp://h:2")]);
}

#[test]
fn two_rows_of_one_address_are_one_publisher() {
    let (mut it, now) = (discovery(&[], 8), Instant::now());
    assert_eq!(it.set("a", &row("tcp://h:1"), now), [add("tcp://h:1")]);
    assert!(it.set("b", &row("tcp://h:1"), now).is_empty());
    assert!(it.delete("a").is_empty());
    assert_eq!(it.delete("b"), [remove("tcp://h:1")]);
}

#[test]
fn addresses_that_cannot_be_used_are_refused_and_what_is_known_stays() {
    let (mut it, now) = (discovery(&[], 8), Instant::now());
    it.set("a", &row("tcp://h:1"), now);
    let bad = [
        row("*"),
        row("tcp://*:1"),
        row("tcp://0.0.0.0:1"),
        row("tcp://[::]:1"),
        row("tcp://h:99999"),
        row("ipc:///run/other.sock"),
        row("epgm://10.0.0.1;239.192.1.1:1"),
        row(""),
        "{}".into(),
        String::new(),
    ];
    for value in &bad {
        assert!(it.set("a", value, now).is_empty(), "{value}");
    }
    assert!(it.set("", &row("tcp://h:2"), now).is_empty());
    let long = "k".repeat(MAX_KEY + 1);
    assert!(it.set(&long, &row("tcp://h:2"), now).is_empty());
    assert_eq!(it.metrics.rows_refused_total.get(), bad.len() as u64 + 2);
    assert_eq!(it.delete("a"), [remove("tcp://h:1")]);
}

#[test]
fn there_is_a_limit_and_room_is_noticed() {
    let (mut it, now) = (discovery(&[], 1), Instant::now());
    it.set("a", &row("tcp://h:1"), now);
    assert!(it.set("b", &row("tcp://h:2"), now).is_empty());
    assert_eq!(it.metrics.publishers_over_limit_total.get(), 1);
    assert_eq!(it.set("a", &row("tcp://h:3"), now).len(), 2, "it may move");
    assert!(!it.has_room_again());
    it.delete("a");
    assert!(it.has_room_again());
    let rows = row("tcp://h:2");
    assert_eq!(it.replace([("b", rows.as_str())], now), [add("tcp://h:2")]);
    assert!(!it.has_room_again());
}

proptest! {
    /// After any events: who is followed is whom the newest usable rows name, each step was needed,
    /// and no configured publisher was touched.
    #[test]
    fn steps_lead_to_what_the_rows_say(
        events in vec(("[a-d]", proptest::option::of(0u16..5)), 0..40),
        reread in proptest::bool::ANY,
    ) {
        let now = Instant::now();
        let mut it = discovery(&["tcp://h:1"], 64);
        let mut rows: BTreeMap<String, String> = BTreeMap::new();
        let mut named: BTreeMap<String, u16> = BTreeMap::new();
        let mut followed: BTreeSet<String> = BTreeSet::new();
        for (key, port) in events {
            let steps = match port {
                // Port 0 is no port: the row is ignored.
                Some(port) => {
                    let value = row(&format!("tcp://h:{port}"));
                    if port > 0 {
                        named.insert(key.clone(), port);
                    }
                    rows.insert(key.clone(), value.clone());
                    if reread {
                        it.replace(rows.iter().map(|(k, v)| (k.as_str(), v.as_str())), now)
                    } else {
                        it.set(&key, &value, now)
                    }
                }
                None => {
                    named.remove(&key);
                    rows.remove(&key);
                    it.delete(&key)
                }
            };
            for step in steps {
                match step {
                    Step::Add(endpoint) => prop_assert!(followed.insert(endpoint.to_string())),
                    Step::Remove(endpoint) => prop_assert!(followed.remove(&endpoint.to_string())),
                }
            }
            let ports = named.values().filter(|port| **port != 1);
            let expected: BTreeSet<String> = ports.map(|port| format!("tcp://h:{port}")).collect();
            prop_assert_eq!(&followed, &expected);
        }
    }

    /// Whatever peers write, memory is bounded.
    #[test]
    fn no_more_than_the_limit_is_kept(rows in vec((".{0,5}", ".{0,20}", 1u16..200), 0..60)) {
        let mut it = discovery(&[], 3);
        for (key, junk, port) in rows {
            it.set(&key, &row(&format!("tcp://h:{port}")), Instant::now());
            it.set(&key, &junk, Instant::now());
            prop_assert!(it.found.len() <= 3);
        }
    }
}
