//! What the service asks of the system for its agents' connections.

use std::process::Command;

use crate::rig::host::Host;
use crate::rig::process::Process;

/// Started with few descriptors it allows itself as many as it is told to be ready for, or as it may,
/// and says which.
#[test]
fn it_is_ready_for_as_many_connections_as_it_is_told() {
    for (connections, hard) in [(3_000, 8_192), (3_000, 2_048)] {
        let host = Host::new(&format!("max_connections = {connections}\n"));
        let command = host.command();
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile=1024:{hard}"));
        limited.arg(command.get_program()).args(command.get_args());
        let process = Process::start(limited);
        process.err.find("the service is ready", |line| {
            line.contains("sends on").then_some(())
        });
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        let warned = process
            .errors()
            .contains("max_connections = 3000: the system allows");
        match soft.parse::<u64>().unwrap() {
            2_048 => assert!(hard == 2_048 && warned, "{}", process.errors()),
            // A privileged process may raise the upper limit as well.
            soft => assert!(soft == 2 * connections + 256 && !warned, "{soft}"),
        }
    }
}
