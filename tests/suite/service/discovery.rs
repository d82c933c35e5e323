//! Agents that learn of publishers by events.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::config::AGENT;
use crate::rig::control::{reports, told, up};
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::wait_for;

#[test]
fn an_agent_follows_a_publisher_that_another_names() {
    let id = |digit: &str| digit.repeat(32);
    let host = |digit: &str| {
        Host::running(&format!(
            "publisher_id = \"{}\"\nhello_interval = 0.1\nmax_idle_time = 0.5\n",
            id(digit)
        ))
    };
    let (first, second) = (host("a"), host("b"));
    let folder = &first.folder;
    let mut agent = folder.agent(&[&first.port.uri()], &["t1"], "max_idle_time = 0.5\n");
    // Sent again until the agent's subscription is in force.
    wait_for("the agent follows the first", || {
        first.set("t1", "first", "1");
        let rows = folder.rows().unwrap_or_default();
        rows.get("t").is_some_and(|rows| rows.contains_key("first"))
    });

    let key = id("b");
    let row = json!({"id": key, "uri": second.port.uri(), "last_activity_timestamp": 1.0});
    let row = row.to_string();
    let named = ["--table", "publisher", "--key", &key];
    let publish = |more: &[&str]| {
        let arguments = [&named[..], more].concat();
        assert!(first.published(&arguments).status.success());
    };
    publish(&["--value", &row]);
    agent.err.find("the second is discovered", |line| {
        let wanted = format!("publisher {} is discovered", second.port.uri());
        line.contains(&wanted).then_some(())
    });
    wait_for("the agent follows the second", || {
        second.set("t1", "second", "1");
        let rows = folder.rows().unwrap_or_default();
        rows.get("t")
            .is_some_and(|rows| rows.contains_key("second"))
    });

    publish(&["--delete"]);
    agent.err.find("the second is dropped", |line| {
        line.contains("is gone from table publisher: removed")
            .then_some(())
    });
    second.set("t1", "unheard", "1");
    first.set("t1", "heard", "1");
    folder.has_key("t", "heard");
    let rows = folder.rows().unwrap();
    assert!(!rows["t"].contains_key("unheard"));
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(Duration::from_secs(3)).success());
}

/// The row of a publisher that is taken away stays, and with it those who follow it, until an operator
/// ends it by the steps of docs/operations.md.
#[test]
fn a_publisher_is_taken_away_with_its_row() {
    let id = |digit: &str| digit.repeat(32);
    let (sync_a, sync_b) = (Port::free(), Port::free());
    let host = |digit: &str, sync: &Port| {
        Host::running(&format!(
            "publisher_id = \"{}\"\nsync_port = {}\nhello_interval = 0.1\nmax_idle_time = 0.5\n\
             monitor_table_poll_time = 0.1\npublisher_timeout = 0.6\n",
            id(digit),
            sync.number
        ))
    };
    let (first, mut second) = (host("a", &sync_a), host("b", &sync_b));
    let (folder, uris) = (&first.folder, [first.port.uri(), second.port.uri()]);
    let config = |uris: &[String]| {
        folder.agent_config(
            &uris.iter().map(|uri| &**uri).collect::<Vec<_>>(),
            &["t1"],
            "",
        )
    };
    let mut agent = Process::start(folder.command(AGENT, &config(&uris)));
    up(folder, "agent");
    reports(folder, "in step with both", |report| {
        report["ready"] == true && report["publishers"].as_array().unwrap().len() == 2
    });
    wait_for("the node has the second's row", || {
        let told = told(folder, &["get", "publisher"]);
        String::from_utf8_lossy(&told.stdout).contains(&id("b"))
    });

    // Out of the list, and stopped.
    let _written = folder.command(AGENT, &config(&uris[..1]));
    agent.signal(Signal::HUP);
    let discovered = format!("publisher {} is discovered", uris[1]);
    agent.err.find("it is found again by its row", |line| {
        line.contains(&discovered).then_some(())
    });
    second.stop(Duration::from_secs(3));
    reports(folder, "not in step", |report| report["ready"] == false);
    // Nobody else's monitor takes it away.
    let looks = || {
        let counted = first.report()["parts"]["monitors"].clone();
        counted["lease_renewals_total"].as_u64().unwrap()
    };
    let before = looks();
    wait_for("the first has looked often enough", || looks() > before + 8);
    let report = reports(folder, "it is still followed", |_| true);
    assert_eq!(report["publishers"].as_array().unwrap().len(), 2);

    let key = id("b");
    let delete = ["--table", "publisher", "--key", &key, "--delete"];
    assert!(first.published(&delete).status.success());
    let alone = |report: &Value| {
        report["ready"] == true && report["publishers"].as_array().unwrap().len() == 1
    };
    reports(folder, "in step without it", alone);
    // And so it stays.
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(Duration::from_secs(5)).success());
    let agent = Process::start(folder.command(AGENT, &config(&uris[..1])));
    up(folder, "agent");
    reports(folder, "in step without it", alone);
    assert!(!agent.errors().contains(&discovered));
}

/// What events said of other publishers is not taken back by a restart.
#[test]
fn a_restart_does_not_drop_other_publishers() {
    // The publisher's own row changes again and again, which shows that the table is looked at.
    let mut host = Host::running("monitor_table_poll_time = 0.1\npublisher_timeout = 0.6\n");
    let row = json!({"uri": "tcp://127.0.0.1:1", "last_activity_timestamp": 1.0}).to_string();
    let key = "b".repeat(32);
    let arguments = ["--table", "publisher", "--key", &key, "--value", &row];
    assert!(host.published(&arguments).status.success());
    host.stop(Duration::from_secs(3));
    host.start();
    let listener = Listener::joined(&host.port.uri(), &[b"D\0"]);
    wait_for("the table was looked at", || {
        let heard = listener.heard();
        heard.iter().filter(|heard| heard.frame == b"D\0").count() >= 2
    });
    let history = host.stop_and_open();
    assert!(history.rows().get("publisher", &key).is_some());
}
