//! Publishers that are named by host name.

use std::process::Command;
use std::time::{Duration, Instant};

use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use rustix::process::Signal;

use crate::rig::agent::{options, source, start};
use crate::rig::config::{AGENT, Folder, summary};
use crate::rig::logs;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::tape::Tape;
use crate::rig::{PATIENCE, at_most, has_root, wait_for};

/// The publisher moves to another address, and its name with it, as the agent's file of hosts says.
#[test]
fn a_name_is_resolved_again_for_every_connection() {
    if !has_root() {
        return;
    }
    let (port, folder) = (Port::free(), Folder::new());
    let hosts = folder.write("hosts", "127.0.0.1 moving.test\n");
    let name = format!("tcp://moving.test:{}", port.number);
    let config = folder.agent_config(&[&name], &["t1"], "");
    let agent = folder.command(AGENT, &config);
    let mut own = Command::new("unshare");
    own.args(["--mount", "sh", "-c"]);
    own.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
    own.arg(&hosts)
        .arg(agent.get_program())
        .args(agent.get_args());
    let mut agent = Process::start(own);
    for address in ["127.0.0.1", "127.0.0.2"] {
        // The same file, as it is there.
        std::fs::write(&hosts, format!("{address} moving.test\n")).unwrap();
        let mut publisher = Publisher::bind(&format!("tcp://{address}:{}", port.number));
        publisher.has_agent(&["D", "t1"]);
        publisher.set("t1", address, "1");
        folder.has_key("t", address);
    }
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(PATIENCE).success());
    let connects = summary(&agent, &format!("publisher {name}:"), "connects_total");
    assert_eq!(connects, 2);
}

#[test]
fn a_name_that_does_not_resolve_backs_off_and_holds_up_nothing() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let uri = format!("tcp://no-such-host-{}.invalid:{}", port.number, port.number);
    let tape = Tape::default();
    let options = SubscriberOptions {
        connect_timeout: Duration::from_millis(500),
        ..options()
    };
    let driver = Box::new(ZmqPubSub::new());
    let begun = Instant::now();
    let agent = start(
        driver,
        options,
        &[&uri, &port.uri()],
        &["t1"],
        vec![tape.handler()],
    );
    // The other publisher is heard at once.
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "v");
    tape.has("k");
    let source = source(&agent, &uri);
    wait_for("look-ups fail", || {
        source.metrics.connects_failed_total.get() >= 4
    });
    // Half of 20, 40 and 80 ms at least.
    assert!(
        begun.elapsed() >= Duration::from_millis(70),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(source.metrics.connects_total.get(), 0);
    let said = logs::with(&uri);
    let why =
        |line: &String| line.contains("not resolved") || line.contains("not connected within");
    assert!(said.iter().any(why), "{said:?}");
    let stop = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(
        stop.elapsed() < at_most(Duration::from_millis(900)),
        "{:?}",
        stop.elapsed()
    );
}
