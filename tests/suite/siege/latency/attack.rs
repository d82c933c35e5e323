//! An attack, and what the publisher notices of it.

use std::process::Command;

use crate::rig::cluster::Cluster;
use crate::rig::peer::python;
use crate::rig::process::Process;

/// An attack under way, which is to take the publisher's time, not the machine's: it has what time nobody
/// else wants, and gives way at once. With a low priority it would not: who wakes up beside such a process
/// waits for it up to a slice of the scheduler's, which alone doubles the p99.
pub struct Attack(Process);

impl Attack {
    pub fn begin(cluster: &Cluster, kind: &str, keys: &[String]) -> Attack {
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

    /// Ends it, which goes on until then; says how often it was cut off, as far as it knows.
    pub fn end(mut self) -> u64 {
        self.0.kill();
        let lines = self.0.out.all();
        let last = lines.last().unwrap();
        last.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// What of this kind the publisher has noticed so far.
pub fn noticed(cluster: &Cluster, kind: &str) -> u64 {
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
