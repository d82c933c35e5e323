//! A snapshot of many rows: time, bytes on the wire, and the memory of the agent that has them.

use std::process::Command;
use std::time::Instant;

use super::rig::{Follower, Publisher, TABLE, TOPIC, counted, key, value};
use super::{AS_AGENT, etcd};

pub fn run(rows: u64) {
    let publisher = Publisher::start("");
    publisher.publish(0..rows, rows.max(10_001));
    let own = (key(0).len() + value(0).len()) as f64;
    let raw = own * rows as f64;

    // In a process of its own: this one has held all the rows already.
    let program = std::env::current_exe().unwrap();
    let mut agent = Command::new(program);
    agent.args([AS_AGENT, &publisher.uri(), &rows.to_string()]);
    let output = agent.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let number = |name| counted(&said, name) as f64;
    let wire = counted(&publisher.stop(), "sync_sent_bytes_total") as f64;
    let grown = (number("after_kib") - number("before_kib")) * 1024.0 / rows as f64;
    let most = (number("most_kib") - number("before_kib")) * 1024.0 / rows as f64;
    println!(
        "snapshot of {rows} rows of {own:.0} bytes (key and value): {:.0} ms from the start of the agent \
         on, {:.1} MB on the wire ({:.2} of the rows' own)",
        number("took_ms"),
        wire / 1e6,
        wire / raw
    );
    println!(
        "snapshot, the agent's memory: {grown:.0} bytes per row, {:.2} times the row's own (wanted: at \
         most 2.5); at most {most:.0} while it was loaded",
        grown / own
    );
    etcd::run(rows);
}

/// What the agent's process does.
pub fn agent(uri: &str, rows: u64) {
    let before = memory("VmRSS");
    let begun = Instant::now();
    let agent = Follower::start(uri, 100_000, None);
    agent.has(rows, rows);
    let took = begun.elapsed().as_millis();
    println!(
        "table={TABLE} topic={TOPIC} took_ms={took} before_kib={before} after_kib={} most_kib={}",
        memory("VmRSS"),
        memory("VmHWM")
    );
    agent.stop();
}

/// A line of this process's status, KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
    digits.parse().unwrap()
}
