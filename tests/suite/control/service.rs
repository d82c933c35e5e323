//! The publisher service as its operators see it.

use std::time::Duration;

use rustix::process::Signal;

use crate::rig::config::Folder;
use crate::rig::control::{get, metrics, publisher_report as report, tool, up};
use crate::rig::manager::Manager;
use crate::rig::peer::Subscriber;
use crate::rig::port::Port;
use crate::rig::{until, wait_for};

#[test]
fn who_listens_and_what_is_journalled() {
    let (port, http, folder) = (Port::free(), Port::free(), Folder::new());
    let config = format!(
        "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n\
         metrics_address = \"127.0.0.1:{}\"\n",
        port.number, http.number
    );
    let mut served = folder.serve(&config);
    up(&folder, "publisher");
    let subscriber = Subscriber::connect(&port.uri(), &["t1\0", "D"]);
    until("the subscriber hears the publisher", || {
        served.write(r#"{"table":"t","key":"k","value":"1","topic":"t1"}"#);
        std::thread::sleep(Duration::from_millis(5));
        (subscriber.count() > 0).then_some(())
    });
    let listed = until("the subscribers are counted", || {
        let report = report(&folder);
        let topics = report["subscribers"].as_array().unwrap();
        (topics.len() == 2).then_some(report)
    });
    assert_eq!(listed["ready"], true, "{listed:#}");
    assert_eq!(
        listed["subscribers"],
        serde_json::json!([["D", 1], ["t1", 1]])
    );
    assert!(listed["incarnation"].as_u64().unwrap() > 0);
    assert_eq!(listed["publisher_id"].as_str().unwrap().len(), 32);
    let service = &listed["parts"]["service"];
    assert!(service["head_seq"].as_u64().unwrap() > 0);
    assert!(service["journal_bytes"].as_u64().unwrap() > 0);

    let shown = tool(&folder, "publisher", &["publisher", "status"])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("publishing") && shown.contains("t1"),
        "{shown}"
    );

    assert_eq!(get(&http, "/readyz").unwrap(), (200, "ok\n".into()));
    let now = metrics(&http);
    assert_eq!(now["fanfare_publisher_topic_subscribers{topic=\"t1\"}"], 1);
    // Its own row in table publisher may be another.
    assert!(now["fanfare_publisher_rows"] >= 1);
    assert_eq!(now["fanfare_publisher_ready"], 1);

    // What only an agent has is refused, and so is the wrong daemon.
    let refused = tool(&folder, "publisher", &["get", "t"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(
        why.contains("is that of a fanfare publisher, not that of a fanfare agent"),
        "{why}"
    );

    subscriber.signal(Signal::KILL);
    wait_for("nobody listens", || {
        report(&folder)["subscribers"]
            .as_array()
            .unwrap()
            .is_empty()
    });
}

#[test]
fn its_life_is_told_to_the_service_manager() {
    let (port, folder, manager) = (Port::free(), Folder::new(), Manager::new());
    let config = |more: &str| {
        format!(
            "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n\
             publisher_multiproc_socket = {:?}\n{more}",
            port.number,
            folder.path("p.sock")
        )
    };
    let program = crate::rig::config::PUBLISHER;
    let command = folder.command(program, &config(""));
    let mut service = manager.start(command, Some(Duration::from_millis(600)));
    manager.hears("READY=1\nSTATUS=sends on tcp://127.0.0.1:", 1);
    manager.hears("WATCHDOG=1", 3);
    up(&folder, "publisher");
    let level = || report(&folder)["log_level"].clone();
    assert_eq!(level(), "info");
    let _written = folder.command(program, &config("log_level = \"debug\"\nsend_hwm = 7\n"));
    service.signal(Signal::HUP);
    manager.hears("RELOADING=1\nMONOTONIC_USEC=", 1);
    manager.hears("READY=1", 2);
    assert_eq!(level(), "debug");
    let named = |line: &str| {
        line.contains("take effect at the next start: send_hwm")
            .then_some(())
    };
    service.err.find("what cannot change is named", named);
    let _written = folder.command(program, &config("log_level = \"loud\"\n"));
    service.signal(Signal::HUP);
    manager.hears("READY=1", 3);
    assert_eq!(level(), "debug");
    let counted = report(&folder)["parts"]["publisher"].clone();
    assert_eq!(counted["config_reloads_failed_total"], 1, "{counted:#}");
    assert_eq!(counted["config_reloads_total"], 1, "{counted:#}");
    // Told until there is a good one; it publishes all the same.
    assert_eq!(counted["config_refused"], 1, "{counted:#}");
    let refused = |manager: &Manager| {
        let told = manager.told();
        let last = told.iter().rfind(|line| line.contains("STATUS="));
        last.is_some_and(|line| line.contains("; the new configuration is refused"))
    };
    assert!(refused(&manager), "{:#?}", manager.told());
    let shown = tool(&folder, "publisher", &["publisher", "status"])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("the new configuration is refused"),
        "{shown}"
    );
    // What waits is named again, and the status tells of what is in force.
    let others = format!(
        "publisher_port = {}\npublisher_multiproc_socket = {:?}\nlog_level = \"debug\"\nsend_hwm = 7\n",
        Port::free().number,
        folder.path("p.sock")
    );
    let _written = folder.command(program, &others);
    service.signal(Signal::HUP);
    let sends = format!("READY=1\nSTATUS=sends on tcp://127.0.0.1:{}", port.number);
    manager.hears("READY=1", 4);
    manager.hears(&sends, 4);
    assert!(!refused(&manager), "{:#?}", manager.told());
    let now = report(&folder);
    assert_eq!(now["parts"]["publisher"]["config_refused"], 0, "{now:#}");
    assert_eq!(now["notices"], serde_json::json!([]));
    service.err.find("it is named again", |line| {
        let named = ["publisher_port", "send_hwm"];
        let all = named.iter().all(|key| line.contains(key));
        (all && line.contains("take effect at the next start")).then_some(())
    });
    service.signal(Signal::TERM);
    manager.hears("STOPPING=1", 1);
    assert_eq!(service.ends_within(Duration::from_secs(5)).code(), Some(0));
}
