//! `pub_sub_use_multiproc = false`: the process that publishes is the publisher.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use fanfare::app::publisher::PublisherHandle;
use fanfare::config::{Known, PublisherConfig, Sources, load_publisher};
use fanfare::event::Event;
use fanfare::handler::registry::Registry;
use fanfare::publisher::client::PublisherClient;
use rustix::process::Signal;

use crate::rig::at_most;
use crate::rig::config::{TOOL, configured};
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::process::Process;

const OWN: &str = "pub_sub_use_multiproc = false\nhello_interval = 0.1\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// What `fanfare publish` is told to read.
fn file(host: &Host) -> std::path::PathBuf {
    // It writes the configuration.
    host.command();
    host.folder.path("fanfare-publisher.toml")
}

fn config(host: &Host) -> PublisherConfig {
    let modules = Registry::builtin();
    let sources = Sources {
        files: vec![file(host)],
        ..Sources::default()
    };
    load_publisher(&sources, &Known::new(&modules)).unwrap()
}

/// `fanfare publish` by the configuration.
fn publish(host: &Host, arguments: &[&str]) -> Command {
    let mut command = configured(TOOL);
    command.arg("publish").arg("--config").arg(file(host));
    command.args(arguments);
    command
}

/// Publishes so many events on two topics, numbered from `first`.
#[track_caller]
fn series(client: &PublisherClient, first: u64, count: u64) {
    for n in first..first + count {
        let (key, topic) = (format!("k{n}"), format!("t{}", n % 2));
        let event = Event::set("t", &key, "v").on(&topic);
        client.publish(&event, None).unwrap();
    }
    let summary = client.flush(at_most(PATIENCE)).unwrap();
    assert_eq!((summary.pending, summary.refused), (0, 0));
}

#[test]
fn it_stamps_journals_and_sends_as_the_service_does() {
    let mut host = Host::new(OWN);
    let handle = PublisherHandle::open(&config(&host)).unwrap();
    assert!(handle.is_own());
    let listener = Listener::joined(&host.port.uri(), &[b"t0\0", b"t1\0"]);
    series(&handle, 0, 2_000);
    listener.has("k1999");

    // Nobody else has the address or the journal meanwhile.
    let us = format!("process {}", std::process::id());
    let error = PublisherHandle::open(&config(&host)).err().unwrap();
    assert!(error.to_string().contains(&us), "{error}");
    let event = ["--table", "t", "--key", "x", "--delete"];
    let output = publish(&host, &event).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("nothing was published") && said.contains(&us),
        "{said}"
    );
    let summary = handle.close();
    assert_eq!((summary.acknowledged, summary.pending), (2_000, 0));

    let mut heads = BTreeMap::new();
    for (n, told) in listener.told().iter().enumerate() {
        assert_eq!(told.key, format!("k{n}"));
        let prev = heads.insert(told.frame.clone(), told.stamp.seq);
        assert_eq!(told.stamp.prev, prev.unwrap_or(0));
    }
    let history = host.history();
    assert!(history.rows().get("t", "k1999").is_some());
    let (incarnation, head) = (history.incarnation(), history.head());
    history.close().unwrap();

    // From here the host has a service, and agents notice nothing.
    host.more = "hello_interval = 0.1\n".into();
    let start = host.start();
    assert_eq!((start.incarnation, start.head), (incarnation, head));
    let handle = PublisherHandle::open(&config(&host)).unwrap();
    assert!(!handle.is_own());
    series(&handle, 2_000, 500);
    let summary = handle.close();
    assert_eq!((summary.acknowledged, summary.pending), (500, 0));
    listener.has("k2499");
    let told = listener.told();
    assert!(
        told.iter()
            .all(|told| told.stamp.incarnation == incarnation)
    );
    assert!(told.is_sorted_by(|a, b| a.stamp.seq < b.stamp.seq));
    let history = host.stop_and_open();
    assert!(history.rows().get("t", "k2499").is_some());
}

#[test]
fn fanfare_publish_is_the_publisher_for_as_long_as_it_reads() {
    let host = Host::new(OWN);
    let mut worker = Process::start(publish(&host, &["--from", "-"]));
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    for n in 0..100 {
        worker.write(&format!(
            r#"{{"table":"t","key":"k{n}","value":{n},"topic":"t1"}}"#
        ));
    }
    listener.has("k99");
    worker.stdin = None;
    assert!(worker.ends_within(Duration::from_secs(5)).success());
    assert_eq!(worker.out.all(), ["acknowledged 100, refused 0"]);
    assert_eq!(listener.told().len(), 100);

    // The next one goes on, and the end was clean.
    let arguments = ["--table", "t", "--key", "after", "--value", "1"];
    let output = publish(&host, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let history = host.history();
    let first = listener.told()[0].stamp;
    let last = history.rows().get("t", "after").unwrap().stamp.unwrap();
    assert_eq!(last.incarnation, first.incarnation);
    assert!(last.seq > first.seq + 99);
}

/// What it had sent was journalled, whatever ends it.
#[test]
fn killed_it_has_all_that_it_sent() {
    let host = Host::new(&format!("{OWN}durability = \"os\"\n"));
    let mut worker = Process::start(publish(&host, &["--from", "-"]));
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    for n in 0..2_000 {
        worker.write(&format!(
            r#"{{"table":"t","key":"k{n}","value":{n},"topic":"t1"}}"#
        ));
    }
    listener.has("k500");
    worker.signal(Signal::KILL);
    worker.ends_within(Duration::from_secs(5));
    let told = listener.told();
    let history = host.history();
    assert_eq!(history.incarnation(), told[0].stamp.incarnation);
    for told in told {
        let row = history.rows().get("t", &told.key).unwrap();
        assert_eq!(row.stamp, Some(told.stamp));
    }
}

#[test]
fn the_service_says_that_it_has_nothing_to_do() {
    let host = Host::new(OWN);
    let mut service = Process::start(host.command());
    assert_eq!(
        service.ends_within(Duration::from_secs(5)).code(),
        Some(2),
        "{}",
        service.errors()
    );
    let said = service.errors();
    assert!(
        said.contains("pub_sub_use_multiproc = false") && said.contains("does not start"),
        "{said}"
    );
    assert!(!host.state_dir.exists(), "it left the state alone");
}
