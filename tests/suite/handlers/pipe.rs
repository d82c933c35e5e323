//! The worked examples of `pipe`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Stage, file, lane};
use crate::rig::config::Folder;
use crate::rig::{until, wait_for};

/// A lane with an example as its child, which is given `argument`.
fn example(
    program: &str,
    script: &str,
    argument: &std::path::Path,
) -> fanfare::dispatch::LaneOptions {
    let script = file(script);
    lane(
        "pipe",
        &format!("command = [{program:?}, {script:?}, {argument:?}]"),
    )
}

#[test]
fn the_python_example_mirrors_the_rows() {
    let folder = Folder::new();
    let path = folder.path("rows.json");
    let handler = example("/usr/bin/python3", "examples/pipe/handler.py", &path);
    let mut stage = Stage::new(vec![handler]);
    stage.set("lport", "p1", r#"{"ip":"10.0.0.5"}"#);
    stage.set("lport", "p\n2", "plain");
    stage.set("lport", "gone", "1");
    stage.delete("lport", "gone");
    stage.set("lport", "bad", "refuse");
    stage.set("net", "last", "1");
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).ok()?).ok();
    let rows = until("the last row is there", || {
        read().filter(|rows| rows["net"]["last"] == 1)
    });
    assert_eq!(
        rows,
        json!({"lport": {"p1": {"ip": "10.0.0.5"}, "p\n2": "plain"}, "net": {"last": 1}})
    );
    let metrics = &stage.agent.lanes()[0].metrics;
    wait_for("the refusal is counted", || {
        metrics.events_failed_total.get() >= 1
    });
    assert_eq!(metrics.losses_total.get(), 0);
    assert_eq!(stage.agent.stop(), 0);
}

#[test]
fn the_shell_example_keeps_a_journal() {
    let folder = Folder::new();
    let path = folder.path("journal.jsonl");
    let mut stage = Stage::new(vec![example("/bin/sh", "examples/pipe/handler.sh", &path)]);
    let hostile = "$(touch x)`touch y`\\n%s\"'\n";
    stage.set("lport", hostile, hostile);
    stage.set("lport", "p1", r#"{"ip":"10.0.0.5"}"#);
    stage.delete("lport", "p1");
    stage.set("net", "last", "1");
    let rows = until("the last row is there", || {
        let journal = std::fs::read_to_string(&path).ok()?;
        let mut rows = BTreeMap::new();
        for line in journal.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let key = line["key"].as_str()?.to_owned();
            match line["action"].as_str()? {
                "delete" => rows.remove(&key),
                _ => rows.insert(key, line["value"].clone()),
            };
        }
        rows.contains_key("last").then_some(rows)
    });
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[hostile], hostile);
    assert_eq!(stage.agent.lanes()[0].metrics.losses_total.get(), 0);
    assert_eq!(stage.agent.stop(), 0);
}
