//! Stopping in order, and being the only one.

use std::time::{Duration, Instant};

use fanfare::publisher::client::{ClientOptions, PublisherClient};
use fanfare::publisher::history::{History, Moment, Options};

use crate::rig::host::{Host, counts, journal};
use crate::rig::listener::Listener;
use crate::rig::load::Load;
use crate::rig::process::Process;
use crate::rig::{at_most, wait_for};

/// As by default, unless the programs are slow.
fn stop_timeout() -> Duration {
    at_most(Duration::from_millis(1500))
}

const MARGIN: Duration = Duration::from_millis(500);

#[test]
fn stopped_under_load_it_goes_on_where_it_was() {
    // A power cut would be noticed with "os", unless the end was clean.
    let mut host = Host::new(&format!(
        "durability = \"os\"\nhello_interval = 0.1\nstop_timeout = {}\n",
        stop_timeout().as_secs_f64()
    ));
    let first = host.start();
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    let options = ClientOptions {
        spool_events: 2_000,
        ..host.options()
    };
    let load = Load::flat_out(PublisherClient::new(options));
    load.gets_on(2_000);

    let begun = Instant::now();
    let said = host.stop(stop_timeout() + MARGIN);
    assert!(begun.elapsed() < stop_timeout() + at_most(MARGIN));
    assert!(said.contains("journal closed in order"), "{said}");
    assert!(said.contains("stopped"), "{said}");
    let summary = load.client.summary();
    assert!(summary.pending > 0, "it was not stopped under load");
    // As if the machine had been started anew.
    let mut elsewhere = Options::new(host.state_dir.join("publisher.redb"));
    elsewhere.boot = Some([9; 16]);
    let history = History::open(elsewhere, Moment::now()).unwrap();
    assert_eq!(history.incarnation(), first.incarnation, "no clean end");
    assert!(history.head() >= summary.acknowledged);
    let head = history.head();
    history.close().unwrap();

    let second = host.start();
    assert_eq!((second.incarnation, second.head), (first.incarnation, head));
    load.gets_on(1_000);
    let published = load.stop();
    wait_for("the subscriber is back", || listener.head() > head);

    let history = host.stop_and_open();
    let entries = journal(&history);
    let after = entries.iter().find(|entry| entry.stamp.seq == head + 1);
    assert_eq!(after.unwrap().stamp.incarnation, first.incarnation);
    let counts = counts(&entries, "t");
    assert_eq!(counts.len() as u64, published);
    assert!(counts.values().all(|count| *count == 1));
    for n in 0..published {
        assert!(history.rows().get("t", &format!("k{n}")).is_some(), "k{n}");
    }
}

#[test]
fn a_second_one_is_refused_at_once() {
    let mut host = Host::running("");
    host.set("t1", "before", "1");
    let begun = Instant::now();
    let mut second = Process::start(host.command());
    let status = second.ends_within(Duration::from_secs(2));
    assert!(begun.elapsed() < at_most(Duration::from_secs(2)));
    assert_eq!(status.code(), Some(1));
    let pid = format!("process {}", host.process().id());
    assert!(second.errors().contains(&pid), "{}", second.errors());
    // The first is as it was.
    host.set("t1", "after", "1");
    let history = host.stop_and_open();
    assert!(history.rows().get("t", "before").is_some());
    assert!(history.rows().get("t", "after").is_some());
}
