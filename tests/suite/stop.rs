//! The end of the programs: in time, with status 0 and the last state written.

use std::time::{Duration, Instant};

use fanfare::dispatch::LaneOptions;
use fanfare::event::Event;
use fanfare::handler::{Handler, HandlerError, SyncReason};
use rustix::process::Signal;
use serde_json::json;

use crate::rig::agent::over_zmq;
use crate::rig::config::{AGENT, Folder, summary};
use crate::rig::peer::{Publisher, Subscriber};
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::tape::{Tape, wide};
use crate::rig::{at_most, slowness, until, wait_for};

const LIMIT: Duration = Duration::from_secs(2);

/// Sends the signal; the end must come in time and in order.
#[track_caller]
fn stop(process: &mut Process, signal: Signal) {
    process.signal(signal);
    let status = process.ends_within(LIMIT);
    assert!(status.success(), "{status}");
}

/// The rows in the file are those of the replica.
#[track_caller]
fn file_is_complete(folder: &Folder, agent: &Process) -> u64 {
    let rows: usize = folder
        .rows()
        .unwrap()
        .values()
        .map(|table| table.len())
        .sum();
    assert_eq!(rows as u64, summary(agent, "replica:", "rows"));
    rows as u64
}

#[test]
fn idle() {
    for signal in [Signal::TERM, Signal::INT] {
        let (port, folder) = (Port::free(), Folder::new());
        let mut publisher = Publisher::bind(&port.uri());
        // An interval so long that only the end writes the second row; the log tells of them.
        let config = folder.agent_config(&[&port.uri()], &["t1"], "");
        let config = config.replace("interval = 0.05", "interval = 3600");
        let config = format!("{config}[[handler]]\nmodule = \"log\"\n");
        let mut agent = Process::start(folder.command(AGENT, &config));
        publisher.has_agent(&["D", "t1"]);
        until("the first state is written", || folder.rows());
        publisher.set("t1", "k", "1");
        publisher.set("t1", "last", "2");
        let logged = |line: &str| line.contains("last").then_some(());
        agent.err.find("the last event is logged", logged);
        assert!(
            folder.rows().unwrap().is_empty(),
            "nothing is written before the interval"
        );
        stop(&mut agent, signal);
        assert_eq!(file_is_complete(&folder, &agent), 2);
        assert_eq!(
            folder.rows().unwrap()["t"],
            [("k".to_owned(), json!(1)), ("last".to_owned(), json!(2)),].into()
        );
    }
}

#[test]
fn under_load() {
    for signal in [Signal::TERM, Signal::INT] {
        let (port, folder) = (Port::free(), Folder::new());
        let mut publisher = Publisher::bind(&port.uri());
        let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
        publisher.has_agent(&["D", "t1"]);
        publisher
            .tell(json!({"op": "load", "topic": "t1", "name": "l", "rate": 10_000 / slowness()}));
        folder.has_key("load", "l-2000");
        stop(&mut agent, signal);
        let rows = file_is_complete(&folder, &agent);
        let keys = &folder.rows().unwrap()["load"];
        // All up to one, none beyond it: the state of one moment.
        let first = (0..)
            .find(|n| !keys.contains_key(&format!("l-{n}")))
            .unwrap();
        assert_eq!(rows, first);
        let sent = publisher.ask(json!({"op": "halt"}), "halted");
        assert!(
            sent > 2_000 && rows > 2_000,
            "the load was too small: {rows} of {sent}"
        );
    }
}

#[test]
fn with_publishers_that_hang() {
    let ports = [Port::free(), Port::free(), Port::free()];
    let folder = Folder::new();
    // The first hangs while it is connected, the second before, the third is not there.
    let mut connected = Publisher::bind(&ports[0].uri());
    let hanging = Publisher::bind(&ports[1].uri());
    hanging.signal(Signal::STOP);
    let uris: Vec<String> = ports.iter().map(Port::uri).collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut agent = folder.agent(&uris, &["t1"], "");
    connected.has_agent(&["D", "t1"]);
    connected.set("t1", "k", "1");
    folder.has_key("t", "k");
    connected.signal(Signal::STOP);
    stop(&mut agent, Signal::TERM);
    assert_eq!(file_is_complete(&folder, &agent), 1);
    assert_eq!(
        summary(&agent, &format!("publisher {}:", uris[1]), "connects_total"),
        0
    );
}

#[test]
fn a_hang_up_ends_nothing() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
    publisher.has_agent(&["D", "t1"]);
    agent.signal(Signal::HUP);
    let told = |line: &str| line.contains("SIGHUP").then_some(());
    agent.err.find("the signal is heard", told);
    publisher.set("t1", "k", "1");
    folder.has_key("t", "k");
    stop(&mut agent, Signal::TERM);
    assert_eq!(file_is_complete(&folder, &agent), 1);
}

/// Whether a process with this argument runs.
fn runs(argument: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}

#[test]
fn with_a_command_that_hangs() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let sleep = format!("60.{}{}", std::process::id(), port.number);
    let more = format!(
        "[[handler]]\nmodule = \"exec\"\ncommand = [\"sleep\", {sleep:?}]\ntimeout = 100\n"
    );
    let mut agent = folder.agent(&[&port.uri()], &["t1"], &more);
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "1");
    wait_for("the command runs", || runs(&sleep));
    // The other handler goes on.
    publisher.set("t1", "k2", "2");
    folder.has_key("t", "k2");
    stop(&mut agent, Signal::TERM);
    assert_eq!(file_is_complete(&folder, &agent), 2);
    assert!(!runs(&sleep), "the command is left running");
    assert!(
        agent.errors().contains("handler exec is still busy"),
        "{}",
        agent.errors()
    );
    assert!(
        agent.errors().contains("0 handlers left behind"),
        "{}",
        agent.errors()
    );
}

/// Never comes back from its first event.
struct Stuck;

impl Handler for Stuck {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }

    fn apply(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
        loop {
            std::thread::park();
        }
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[test]
fn a_handler_that_never_returns_is_left_behind() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let tape = Tape::default();
    let stuck = LaneOptions::new("stuck", wide(), Box::new(|_| Ok(Box::new(Stuck))));
    let agent = over_zmq(&[&port.uri()], &["t1"], vec![stuck, tape.handler()]);
    publisher.has_agent(&["D", "t1"]);
    tape.synced(1);
    for n in 0..1_000 {
        publisher.set("t1", &format!("k{n}"), "v");
    }
    tape.has("k999");
    assert_eq!(tape.count(), 1_000);
    let begun = Instant::now();
    assert_eq!(agent.stop(), 1);
    let took = begun.elapsed();
    let least = Duration::from_millis(1400);
    assert!(
        (least..at_most(Duration::from_millis(1900))).contains(&took),
        "{took:?}"
    );
}

#[test]
fn the_publisher_with_subscribers_that_hang() {
    let (port, folder) = (Port::free(), Folder::new());
    let config = format!(
        "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n",
        port.number
    );
    let mut publisher = folder.serve(&config);
    let subscriber = Subscriber::connect(&port.uri(), &["t1"]);
    let value = "x".repeat(10_000);
    let line = json!({"table": "t", "key": "k", "value": value, "topic": "t1"}).to_string();
    until("the subscriber hears the publisher", || {
        publisher.write(&line);
        std::thread::sleep(Duration::from_millis(5));
        (subscriber.count() > 0).then_some(())
    });
    subscriber.signal(Signal::STOP);
    // Far more than the sockets' buffers hold.
    for _ in 0..3_000 {
        publisher.write(&line);
    }
    publisher.all_acknowledged();
    let mut service = publisher.service;
    stop(&mut service, Signal::TERM);
    assert!(service.errors().contains("stopped"), "{}", service.errors());
}
