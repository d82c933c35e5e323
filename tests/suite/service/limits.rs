//! What the service asks of the system for its agents' connections.

use std::net::TcpStream;
use std::process::Command;

use crate::rig::host::Host;
use crate::rig::process::Process;
use crate::rig::until;

const CONNECTIONS: u64 = 3_000;

/// Started with few descriptors it allows itself as many as it is told to be ready for, or as it may,
/// and says which.
#[test]
fn it_is_ready_for_as_many_connections_as_it_is_told() {
    for (most, allowed, warns) in [(8_192, 2 * CONNECTIONS + 256, false), (2_048, 2_048, true)] {
        let host = Host::new(&format!("max_connections = {CONNECTIONS}\n"));
        let process = Process::start(limited(&host.command(), most));
        process.err.find("the service is ready", |line| {
            line.contains("sends on").then_some(())
        });
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        assert_eq!(soft.parse::<u64>().unwrap(), allowed);
        let warned = format!("max_connections = {CONNECTIONS}: the system allows");
        let said = process.errors();
        assert_eq!(said.contains(&warned), warns, "{said}");
    }
}

/// The command with 1,024 descriptors, or fewer, and `most` if it asks for more, also where it is root's: that
/// could raise the upper limit too.
fn limited(command: &Command, most: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={}:{most}", most.min(1_024)));
    if rustix::process::geteuid().is_root() {
        limited.args(["setpriv", "--bounding-set", "-sys_resource"]);
    }
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// Where it may not allow itself as many, it takes no more connections than it has descriptors for, rather
/// than none at all once they are used up.
#[test]
fn with_few_descriptors_it_takes_few_connections() {
    let host = Host::new(&format!("max_connections = {CONNECTIONS}\n"));
    let process = Process::start(limited(&host.command(), 300));
    process.err.find("the service is ready", |line| {
        line.contains("sends on").then_some(())
    });
    let said = process.errors();
    assert!(
        said.contains("allows 300 open files, which is enough for 22 at each of 2 ports"),
        "{said}"
    );
    let many: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect((&*host.address(), host.port.number)).unwrap())
        .collect();
    until("those that are too many are ended", || {
        let service = host.report()["parts"]["service"].clone();
        let ended = service["connections_crowded_total"].as_u64();
        (ended >= Some(60 - 22) && service["connections"].as_u64() <= Some(22)).then_some(())
    });
    drop(many);
}
