//! The same over ipc, multicast and IPv6.

use std::net::Ipv6Addr;

use rustix::process::Signal;
use serde_json::json;

use crate::rig::agent::{live, over_zmq, source};
use crate::rig::config::Folder;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::tape::Tape;
use crate::rig::{left_out, until};

/// A publisher in Python, an agent in this process, a thousand events.
fn python_to_agent(uri: &str) {
    let mut publisher = Publisher::bind(uri);
    let tape = Tape::default();
    let agent = over_zmq(&[uri], &["t1"], vec![tape.handler()]);
    publisher.has_agent(&["D", "t1"]);
    live(&agent, uri);
    tape.synced(1);
    publisher.tell(json!({"op": "series", "topics": ["t1", "t10"], "count": 2_000}));
    tape.has_count(1_000);
    let wanted: Vec<String> = (0..1_000).map(|n| format!("k{}", 2 * n)).collect();
    assert_eq!(tape.keys(), wanted);
    publisher.kill();
    let mut publisher = Publisher::bind(uri);
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "again", "v");
    tape.has("again");
    assert_eq!(source(&agent, uri).metrics.connects_total.get(), 2);
    assert_eq!(agent.stop(), 0);
}

/// `fanfare-publisher` with this configuration, a real agent that follows `uri`. Multicast reports
/// no subscriptions, so events are sent until one arrives.
fn program_to_program(folder: &Folder, config: &str, uri: &str) {
    let mut publisher = folder.serve(config);
    let mut agent = folder.agent(&[uri], &["t1"], "");
    until("the agent hears the publisher", || {
        publisher.write(r#"{"table": "t", "key": "probe", "value": 1, "topic": "t1"}"#);
        std::thread::sleep(std::time::Duration::from_millis(20));
        folder.rows().filter(|rows| rows.contains_key("t"))
    });
    for n in 0..1_000 {
        let line = json!({"table": "series", "key": format!("k{n}"), "value": n, "topic": "t1"});
        publisher.write(&line.to_string());
    }
    until("all events arrive", || {
        (folder.rows()?.get("series")?.len() == 1_000).then_some(())
    });
    publisher.all_acknowledged();
    for process in [&mut agent, &mut publisher.service] {
        process.signal(Signal::TERM);
        let status = process.ends_within(std::time::Duration::from_secs(2));
        assert!(status.success(), "{status}");
    }
}

#[test]
fn ipc() {
    let folder = Folder::new();
    let path = folder.path("publisher.sock");
    python_to_agent(&format!("ipc://{}", path.display()));
}

#[test]
fn ipc_between_the_programs() {
    let folder = Folder::new();
    let path = folder.path("publisher.sock");
    let config = format!("publisher_transport = \"ipc\"\npublisher_bind_address = {path:?}\n");
    program_to_program(&folder, &config, &format!("ipc://{}", path.display()));
}

/// A group that no other test uses, as long as the port is nobody else's.
fn multicast(port: &Port) -> String {
    let [high, low] = port.number.to_be_bytes();
    format!("127.0.0.1;239.192.{high}.{low}")
}

#[test]
fn epgm() {
    let port = Port::free();
    let uri = format!("epgm://{}:{}", multicast(&port), port.number);
    let mut publisher = Publisher::start(&["--type", "pub", "--connect", &uri]);
    let tape = Tape::default();
    let agent = over_zmq(&[&uri], &["t1"], vec![tape.handler()]);
    live(&agent, &uri);
    tape.synced(1);
    until("the agent hears the publisher", || {
        publisher.set("t1", "probe", "v");
        publisher.set("t10", "foreign", "v");
        std::thread::sleep(std::time::Duration::from_millis(20));
        (tape.count() > 0).then_some(())
    });
    publisher.tell(json!({"op": "series", "topics": ["t1", "t10"], "count": 2_000}));
    tape.has("k1998");
    let keys = tape.keys();
    let series: Vec<_> = keys.iter().filter(|key| key.starts_with('k')).collect();
    let wanted: Vec<String> = (0..1_000).map(|n| format!("k{}", 2 * n)).collect();
    assert!(
        series.iter().copied().eq(&wanted),
        "{} of 1,000 in order",
        series.len()
    );
    assert!(!keys.iter().any(|key| key == "foreign"));
    let metrics = &source(&agent, &uri).metrics;
    assert!(metrics.events_foreign_total.get() >= 1_000);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn epgm_between_the_programs() {
    let (folder, port) = (Folder::new(), Port::free());
    let group = multicast(&port);
    let config = format!(
        "publisher_transport = \"epgm\"\npublisher_bind_address = {group:?}\npublisher_port = {}\n",
        port.number
    );
    program_to_program(&folder, &config, &format!("epgm://{group}:{}", port.number));
}

fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        left_out("this kernel has no IPv6");
    }
    has
}

#[test]
fn ipv6() {
    if has_ipv6() {
        let port = Port::free_at(Ipv6Addr::LOCALHOST.into());
        python_to_agent(&format!("tcp://[::1]:{}", port.number));
    }
}

#[test]
fn ipv6_between_the_programs() {
    if has_ipv6() {
        let (folder, port) = (Folder::new(), Port::free_at(Ipv6Addr::LOCALHOST.into()));
        let config = format!(
            "publisher_bind_address = \"::1\"\npublisher_port = {}\n",
            port.number
        );
        program_to_program(&folder, &config, &format!("[::1]:{}", port.number));
    }
}
