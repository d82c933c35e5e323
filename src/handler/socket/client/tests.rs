use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::event::Event;

const WAIT: Duration = Duration::from_millis(200);

/// Rows and one client, which reads when the test says so.
struct Rig {
    rows: Rows,
    client: Client,
    said: Vec<Value>,
    now: Instant,
}

fn rig(filter: Option<&str>) -> Rig {
    let now = Instant::now();
    let mut rig = Rig {
        rows: Rows::default(),
        client: Client::new("s", now, WAIT),
        said: Vec::new(),
        now,
    };
    match filter {
        Some(filter) => rig.client.input(format!("{filter}\n").as_bytes()),
        None => rig.client.tick(now + WAIT),
    }
    rig
}

impl Rig {
    fn apply(&mut self, event: Event<'_>) {
        if let Some(change) = self.rows.apply(Row::of(&event).unwrap()) {
            self.client.offer(&change, self.rows.len());
        }
    }

    fn complete(&mut self) {
        self.rows.begin();
        self.end();
    }

    fn end(&mut self) {
        for change in self.rows.end() {
            self.client.offer(&change, self.rows.len());
        }
    }

    /// The client reads everything.
    fn read(&mut self) {
        loop {
            self.client.fill(&self.rows);
            let text = String::from_utf8(self.client.output().to_vec()).unwrap();
            if text.is_empty() {
                return;
            }
            self.client.wrote(text.len());
            let lines = text.lines();
            self.said
                .extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }

    fn kinds(&self) -> Vec<&str> {
        self.said
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect()
    }

    /// The rows as a client holds them that follows what it is told.
    fn state(&self) -> BTreeMap<(String, String), Value> {
        let mut state = BTreeMap::new();
        for line in &self.said {
            if line["type"] == "begin_sync" {
                state.clear();
            }
            if !line["table"].is_string() {
                continue;
            }
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let name = (text("table"), text("key"));
            match line["action"].as_str().unwrap() {
                "set" => drop(state.insert(name, line["value"].clone())),
                _ => drop(state.remove(&name)),
            }
        }
        state
    }
}

#[test]
fn a_client_is_told_all_rows_then_what_changes() {
    let mut rig = rig(None);
    rig.read();
    assert_eq!(rig.kinds(), ["hello"], "there is no complete state yet");
    rig.rows.begin();
    rig.apply(Event::set("t", "b", "1"));
    rig.apply(Event::set("t", "a", "1"));
    rig.end();
    rig.read();
    rig.apply(Event::set("t", "a", "2"));
    rig.apply(Event::set("t", "a", "3"));
    rig.apply(Event::delete("t", "b"));
    rig.read();
    assert_eq!(
        rig.kinds(),
        [
            "hello",
            "begin_sync",
            "row",
            "row",
            "end_sync",
            "event",
            "event",
            "event"
        ]
    );
    assert_eq!(
        rig.said[5]["value"], 2,
        "one that reads is given every step"
    );
    assert_eq!(rig.said[7]["action"], "delete");
    // A resync shows only as what differs.
    rig.rows.begin();
    rig.apply(Event::set("t", "a", "3"));
    rig.apply(Event::set("t", "c", "1"));
    rig.end();
    rig.complete();
    rig.read();
    let last: Vec<_> = rig.said[8..]
        .iter()
        .map(|line| (&line["key"], &line["action"]))
        .collect();
    let expected = ["c", "a", "c"].map(Value::from);
    let actions = ["set", "delete", "delete"].map(Value::from);
    assert_eq!(last, expected.iter().zip(&actions).collect::<Vec<_>>());
}

#[test]
fn one_that_does_not_read_keeps_to_the_rows_that_changed() {
    let mut rig = rig(None);
    rig.complete();
    rig.client.fill(&rig.rows);
    let value = "\"".to_owned() + &"x".repeat(1000) + "\"";
    for n in 0..10_000u32 {
        let value = if n >= 9_990 {
            n.to_string()
        } else {
            value.replacen('x', &n.to_string(), 1)
        };
        rig.apply(Event::set("t", &format!("k{}", n % 10), &value));
    }
    assert!(rig.client.unread() < MAX_OUT + 2_000);
    assert_eq!((rig.client.pending.len(), rig.client.order.len()), (10, 10));
    rig.read();
    let last = &rig.said[rig.said.len() - 10..];
    let skipped: u64 = last
        .iter()
        .map(|line| line["skipped"].as_u64().unwrap())
        .sum();
    assert_eq!(
        rig.said.len() as u64 - 3 + skipped,
        10_000,
        "none is unaccounted for"
    );
    assert_eq!(rig.client.skipped(), skipped);
    let state = rig.state();
    for n in 9_990..10_000u32 {
        assert_eq!(state[&("t".to_owned(), format!("k{}", n % 10))], n);
    }
    assert_eq!(
        rig.client.pending.capacity() + rig.client.order.capacity(),
        0
    );
}

/// Rows come and go, and it never reads: their names would add up.
#[test]
fn one_that_never_reads_is_given_all_rows_anew() {
    let mut rig = rig(None);
    rig.complete();
    rig.client.fill(&rig.rows);
    rig.apply(Event::set(
        "t",
        "stays",
        &format!("\"{}\"", "x".repeat(MAX_OUT)),
    ));
    rig.client.fill(&rig.rows);
    let mut most = 0;
    for n in 0..3 * SPARE {
        let key = format!("k{n}");
        rig.apply(Event::set("t", &key, "1"));
        rig.apply(Event::delete("t", &key));
        most = most.max(rig.client.pending.len());
        rig.client.fill(&rig.rows);
    }
    assert!(most <= rig.rows.len() + SPARE + 1, "{most}");
    assert_eq!(rig.client.pending.len(), rig.client.order.len());
    rig.apply(Event::set("t", "last", "1"));
    rig.read();
    let begun = rig.said.iter().filter(|line| line["type"] == "begin_sync");
    let reasons: Vec<_> = begun.map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["attached", "overflow"]);
    let keys: Vec<_> = rig.state().into_keys().map(|(_, key)| key).collect();
    assert_eq!(keys, ["last", "stays"]);
    assert!(rig.client.skipped() >= SPARE as u64);
}

#[test]
fn a_filter_chooses() {
    let mut rig = rig(Some(
        r#"{"tables":["t"],"topics":["a"],"actions":["delete"]}"#,
    ));
    rig.complete();
    rig.read();
    for (table, topic) in [("t", "a"), ("t", "b"), ("u", "a")] {
        rig.apply(Event::set(table, topic, "1").on(topic));
    }
    rig.apply(Event::set("t", "moved", "1").on("a"));
    rig.apply(Event::set("t", "moved", "2").on("b"));
    for (table, topic) in [("t", "a"), ("t", "b"), ("u", "a")] {
        rig.apply(Event::delete(table, topic).on(topic));
    }
    rig.read();
    let keys: Vec<_> = rig.said[3..]
        .iter()
        .map(|line| line["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["moved", "a"]);
}

#[test]
fn a_faulty_filter_is_refused_with_the_reason() {
    let long = "x".repeat(MAX_FILTER + 1);
    for (line, why) in [
        ("{\"tabels\":[]}\n", "tabels"),
        ("{\"actions\":[\"drop\"]}\n", "drop"),
        ("GET / HTTP/1.1\n", "the filter"),
        (&long, "too long"),
    ] {
        let mut rig = rig(None);
        rig.client = Client::new("s", rig.now, WAIT);
        rig.client.input(line.as_bytes());
        rig.read();
        assert!(rig.client.is_refused(), "{line}");
        let reason = rig.said[1]["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{reason}");
    }
    let mut rig = rig(None);
    rig.client = Client::new("s", rig.now, WAIT);
    rig.client.input(b"{\"tables\":");
    rig.client.tick(rig.now + WAIT);
    assert!(rig.client.is_refused(), "half a filter is none");
    rig.client = Client::new("s", rig.now, WAIT);
    rig.client.input(b"{}");
    rig.client.input_ended();
    assert!(!rig.client.is_refused() && rig.client.deadline().is_none());
}

#[test]
fn one_that_never_reads_everything_keeps_nothing_it_has_read() {
    let mut rig = rig(None);
    rig.complete();
    rig.read();
    let value = format!("\"{}\"", "x".repeat(1_000));
    for n in 0..2_000u32 {
        let value = value.replacen('x', &n.to_string(), 1);
        rig.apply(Event::set("t", &n.to_string(), &value));
        let unread = rig.client.output().len();
        rig.client.wrote(unread.saturating_sub(5));
        rig.client.fill(&rig.rows);
    }
    assert!(
        rig.client.out.len() <= 2 * MAX_OUT + 2_000,
        "{}",
        rig.client.out.len()
    );
    assert!(rig.client.skipped() == 0 && rig.client.pending.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever a client attaches and however slowly it reads, it ends with the rows, and it never
    /// holds more than one output and the names of the rows.
    #[test]
    fn it_ends_with_the_rows(
        steps in prop::collection::vec((0u8..8, 0u8..6, 0u32..9), 0..120),
        width in prop::sample::select(vec![1usize, 20_000]),
    ) {
        let mut rig = rig(None);
        rig.complete();
        for (step, key, value) in steps {
            let key = key.to_string();
            match step {
                0 | 1 => rig.apply(Event::delete("t", &key)),
                2..=5 => rig.apply(Event::set("t", &key, &format!("\"{value}{}\"", "x".repeat(width)))),
                6 => rig.read(),
                _ => rig.client.fill(&rig.rows),
            }
            prop_assert!(rig.client.unread() < MAX_OUT + 2 * width + 400);
            prop_assert!(rig.client.order.len() <= 6 && rig.client.pending.len() <= 6);
        }
        rig.read();
        let mut state = BTreeMap::new();
        let mut last = None;
        while let Some(row) = rig.rows.after(last.as_ref()) {
            let (table, key) = &*row.name;
            let line: Value = serde_json::from_str(&format!("{{{}}}", row.body)).unwrap();
            state.insert((table.to_string(), key.to_string()), line["value"].clone());
            last = Some(row.name.clone());
        }
        prop_assert_eq!(rig.state(), state);
    }
}
