//! The service manager, played by the test.

use std::time::Duration;

use rustix::process::Signal;

use crate::rig::config::{AGENT, Folder};
use crate::rig::control::reports;
use crate::rig::manager::Manager;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;

#[test]
fn the_life_of_an_agent_is_told() {
    let (port, folder, manager) = (Port::free(), Folder::new(), Manager::new());
    let config = folder.agent_config(&[&port.uri()], &["t1"], "");
    let mut agent = manager.start(folder.command(AGENT, &config), None);
    // Nobody is connected, and it is up all the same.
    manager.hears("READY=1\nSTATUS=0 of 1 publishers connected", 1);
    let _publisher = Publisher::bind(&port.uri());
    manager.hears("STATUS=1 of 1 publishers connected, 1 handlers, in step", 1);
    agent.signal(Signal::HUP);
    manager.hears("RELOADING=1\nMONOTONIC_USEC=", 1);
    manager.hears("READY=1", 2);
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    agent.signal(Signal::TERM);
    manager.hears("STOPPING=1", 1);
    let ended = agent.ends_within(Duration::from_secs(3));
    assert!(ended.success(), "{ended:?}");
}

#[test]
fn ready_may_mean_in_sync() {
    let (port, folder, manager) = (Port::free(), Folder::new(), Manager::new());
    let config = folder.agent_config(&[&port.uri()], &["t1"], "ready = \"in-sync\"");
    let _agent = manager.start(
        folder.command(AGENT, &config),
        Some(Duration::from_millis(600)),
    );
    // It runs, and lives on.
    manager.hears("WATCHDOG=1", 5);
    manager.hears("STATUS=0 of 1 publishers connected", 1);
    assert_eq!(manager.count("READY=1"), 0);
    let _publisher = Publisher::bind(&port.uri());
    manager.hears("READY=1\nSTATUS=1 of 1 publishers connected", 1);
}

#[test]
fn a_stuck_handler_stops_the_feeding() {
    let (port, folder, manager) = (Port::free(), Folder::new(), Manager::new());
    let more = "stuck_timeout = 1.0\n[[handler]]\nmodule = \"exec\"\n\
                command = [\"sleep\", \"60\"]\ntimeout = 100\n";
    let config = folder.agent_config(&[&port.uri()], &["t1"], more);
    let mut publisher = Publisher::bind(&port.uri());
    let _agent = manager.start(
        folder.command(AGENT, &config),
        Some(Duration::from_millis(300)),
    );
    publisher.has_agent(&["D", "t1"]);
    // Fed all the time while nothing is to be done, for longer than stuck_timeout.
    manager.hears("WATCHDOG=1", 20);
    publisher.set("t1", "k", "1");
    folder.has_key("t", "k");
    let report = reports(&folder, "the handler is stuck", |report| {
        report["agent"]["stuck_threads"] == 1
    });
    assert!(
        report["reasons"]
            .to_string()
            .contains("handler exec is stuck"),
        "{report:#}"
    );
    assert_eq!(report["ready"], false);
    let fed = manager.count("WATCHDOG=1");
    // Five times as long as the watchdog waits.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(manager.count("WATCHDOG=1") <= fed + 1);
}
