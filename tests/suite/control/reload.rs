//! SIGHUP: what changes without a restart.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::rig::config::{AGENT, Folder};
use crate::rig::control::{report, reports, up};
use crate::rig::manager::Manager;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::wait_for;

/// Writes the agent's configuration anew and tells the agent.
fn reload(folder: &Folder, agent: &Process, config: &str) {
    // The command writes the file; it is not started.
    let _command = folder.command(AGENT, config);
    agent.signal(Signal::HUP);
}

fn reloads(report: &Value) -> (u64, u64) {
    let count = |name: &str| report["agent"][name].as_u64().unwrap();
    (
        count("config_reloads_total"),
        count("config_reloads_failed_total"),
    )
}

fn names(report: &Value, kind: &str, name: &str) -> Vec<String> {
    let parts = report[kind].as_array().unwrap();
    let names = parts.iter().map(|part| part[name].as_str().unwrap().into());
    names.collect()
}

#[test]
fn publishers_topics_handlers_and_log_level_change() {
    let (a, b, folder) = (Port::free(), Port::free(), Folder::new());
    let mut first = Publisher::bind(&a.uri());
    let mut second = Publisher::bind(&b.uri());
    let out = folder.path("out");
    let exec = |text: &str| {
        format!(
            "[[handler]]\nmodule = \"exec\"\ncommand = [\"sh\", \"-c\", {:?}]\n",
            format!("echo {text} >> {}", out.display())
        )
    };
    let has = |text: &str| {
        crate::rig::wait_for(&format!("the handler says {text}"), || {
            let said = std::fs::read_to_string(&out).unwrap_or_default();
            said.lines().any(|line| line == text)
        });
    };
    let config = folder.agent_config(&[&a.uri()], &["t1", "t2"], &exec("one"));
    let mut agent = Process::start(folder.command(AGENT, &config));
    first.has_agent(&["D", "t1", "t2"]);
    first.set("t1", "k1", "1");
    folder.has_key("t", "k1");
    has("one");

    // Another publisher, another topic, another command, another level.
    let more = format!("log_level = \"debug\"\n{}", exec("two"));
    let config = folder.agent_config(&[&b.uri()], &["t1", "t3"], &more);
    reload(&folder, &agent, &config);
    let now = reports(&folder, "the new configuration is in force", |report| {
        reloads(report) == (1, 0)
    });
    assert_eq!(names(&now, "publishers", "uri"), [b.uri()]);
    assert_eq!(names(&now, "topics", "topic")[..2], ["D", "t1"]);
    assert_eq!(now["log_level"], "debug");
    first.unsubscribed("t1\0");
    second.subscribed("t3\0", 1);
    second.subscribed("t1\0", 1);
    second.set("t3", "k3", "3");
    folder.has_key("t", "k3");
    // The changed handler began with what there was; the other was not disturbed.
    has("two");
    let handlers = now["handlers"].as_array().unwrap();
    assert_eq!(handlers.len(), 2);
    let file = handlers.iter().find(|h| h["name"] == "file").unwrap();
    assert_eq!(file["counters"]["resyncs_total"], 1, "{now:#}");

    // A bad file is refused as a whole.
    let bad = config.replace(&b.uri(), &a.uri());
    let bad = format!("queue_lenght = 7\nqueue_bytes = \"soon\"\n{bad}");
    reload(&folder, &agent, &bad);
    let after = reports(&folder, "the bad file is refused", |report| {
        reloads(report) == (1, 1)
    });
    assert_eq!(names(&after, "publishers", "uri"), [b.uri()]);
    for why in ["queue_lenght", "queue_bytes", "the old one stays in force"] {
        agent.err.find(&format!("{why} is told"), |line| {
            line.contains(why).then_some(())
        });
    }
    second.set("t3", "k4", "4");
    folder.has_key("t", "k4");

    // What cannot change while it runs is named.
    let later = format!("connect_timeout = 7.0\n{config}");
    reload(&folder, &agent, &later);
    agent.err.find("the key is named", |line| {
        line.contains("take effect at the next start: connect_timeout")
            .then_some(())
    });
    assert_eq!(reloads(&report(&folder)), (2, 1));
    // So it is as long as it waits, whatever else changes meanwhile.
    let more = format!("queue_length = 7\n{later}");
    reload(&folder, &agent, &more);
    agent.err.find("both keys are named", |line| {
        line.contains("take effect at the next start: connect_timeout, queue_length")
            .then_some(())
    });
    agent.signal(Signal::TERM);
    assert_eq!(agent.ends_within(Duration::from_secs(3)).code(), Some(0));
}

/// A handler that does not end holds a reload up for no longer than stop_timeout.
#[test]
fn a_handler_that_hangs_is_replaced() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let hang = "[[handler]]\nmodule = \"exec\"\ncommand = [\"sleep\", \"60\"]\ntimeout = 100\n";
    let config = folder.agent_config(&[&port.uri()], &["t1"], hang);
    let agent = Process::start(folder.command(AGENT, &config));
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "1");
    folder.has_key("t", "k");
    up(&folder, "agent");
    let config = folder.agent_config(&[&port.uri()], &["t1"], "");
    reload(&folder, &agent, &config);
    let now = reports(&folder, "the handler is gone", |report| {
        reloads(report) == (1, 0)
    });
    assert_eq!(names(&now, "handlers", "name"), ["file"]);
    agent.err.find("the handler was interrupted", |line| {
        line.contains("handler exec is still busy").then_some(())
    });
    publisher.set("t1", "k2", "1");
    folder.has_key("t", "k2");
}

/// What could not be done shows, and is done by the next reload of the same files.
#[test]
fn what_a_reload_could_not_do_is_done_by_the_next() {
    let (a, b, folder) = (Port::free(), Port::free(), Folder::new());
    let mut first = Publisher::bind(&a.uri());
    let mut second = Publisher::bind(&b.uri());
    let (agent_options, manager) = ("legacy_detect = 0.2\n", Manager::new());
    let config = folder.agent_config(&[&a.uri()], &["t1"], agent_options);
    let agent = manager.start(folder.command(AGENT, &config), None);
    first.has_agent(&["D", "t1"]);
    first.set("t1", "k", "1");
    folder.has_key("t", "k");
    agent.err.find("nothing else is under way", |line| {
        line.contains("treated as legacy").then_some(())
    });

    // No memory for the stack of one more reader.
    let with_second = folder.agent_config(&[&a.uri(), &b.uri()], &["t1"], agent_options);
    agent.limit_memory(Some(1 << 20));
    reload(&folder, &agent, &with_second);
    agent.err.find("it cannot be followed", |line| {
        line.contains(&format!("{}: cannot start a reader", b.uri()))
            .then_some(())
    });
    agent.limit_memory(None);
    let now = reports(&folder, "it is told", |report| reloads(report) == (0, 1));
    let why = names_why(&now);
    assert_eq!(now["ready"], false, "{now:#}");
    assert!(why.contains("not done by the last reload") && why.contains(&b.uri()));
    assert_eq!(names(&now, "publishers", "uri"), [a.uri()]);
    // To the manager it is not what a faulty file is, of which nothing is taken.
    let told = |what: &str| {
        let told = manager.told();
        told.iter().filter(|line| line.contains(what)).count()
    };
    wait_for("the manager is told so", || {
        told("; the new configuration is not wholly in force") >= 1
    });
    assert_eq!(told("refused"), 0, "{:#?}", manager.told());
    reload(&folder, &agent, &with_second);
    let now = reports(&folder, "it is followed", |report| {
        reloads(report) == (1, 1) && report["ready"] == true
    });
    assert_eq!(now["publishers"].as_array().unwrap().len(), 2);
    second.has_agent(&["D", "t1"]);

    // Nor for that of a handler.
    let more = format!("{agent_options}[[handler]]\nmodule = \"log\"\n");
    let with_handler = folder.agent_config(&[&a.uri(), &b.uri()], &["t1"], &more);
    agent.limit_memory(Some(1 << 20));
    reload(&folder, &agent, &with_handler);
    agent.err.find("it cannot be started", |line| {
        line.contains("cannot start handler log").then_some(())
    });
    agent.limit_memory(None);
    let now = reports(&folder, "that is told", |report| reloads(report) == (1, 2));
    assert_eq!(now["ready"], false, "{now:#}");
    assert!(names_why(&now).contains("cannot start handler log"));
    assert_eq!(names(&now, "handlers", "name"), ["file"]);
    reload(&folder, &agent, &with_handler);
    let now = reports(&folder, "it is started", |report| {
        reloads(report) == (2, 2) && report["ready"] == true
    });
    assert_eq!(now["handlers"].as_array().unwrap().len(), 2);
    second.set("t1", "k2", "1");
    folder.has_key("t", "k2");
}

/// What is not mounted yet, or made by another program, is no fault of the configuration.
#[test]
fn a_handler_whose_folder_is_not_there_waits_for_it() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let more = |name: &str| {
        let path = folder.path(name).join("rows.json");
        format!("[[handler]]\nname = {name:?}\nmodule = \"file\"\npath = {path:?}\n")
    };
    let config = |more: &str| folder.agent_config(&[&port.uri()], &["t1"], more);
    let first = config(&more("first"));
    let agent = Process::start(folder.command(AGENT, &first));
    up(&folder, "agent");
    let handler = |what: &str, name: &str, state: &str| {
        reports(&folder, what, |report| {
            let handlers = report["handlers"].as_array().unwrap();
            let mut named = handlers.iter().filter(|handler| handler["name"] == name);
            named.any(|handler| handler["state"] == state)
        })
    };
    let why = names_why(&handler("it is told", "first", "stopped"));
    assert!(why.contains("handler first does not run"), "{why}");
    agent.err.find("it is said why", |line| {
        let said = line.contains("handler first: cannot start: path: ");
        (said && line.contains("No such file")).then_some(())
    });
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "1");
    folder.has_key("t", "k");
    std::fs::create_dir(folder.path("first")).unwrap();
    handler("it runs", "first", "ok");
    wait_for("its file is there", || {
        folder.path("first/rows.json").exists()
    });

    // By a reload too, and one that changes something else is taken while such a folder is gone.
    std::fs::remove_dir_all(folder.path("first")).unwrap();
    reload(&folder, &agent, &config(&(more("first") + &more("second"))));
    let report = handler("it is told", "second", "stopped");
    assert_eq!(reloads(&report), (1, 0), "{report:#}");
    std::fs::create_dir(folder.path("second")).unwrap();
    handler("it runs", "second", "ok");
}

/// A faulty one is refused, and the manager told so.
#[test]
fn a_faulty_configuration_is_said_to_be_refused() {
    let (port, folder, manager) = (Port::free(), Folder::new(), Manager::new());
    let config = folder.agent_config(&[&port.uri()], &["t1"], "");
    let agent = manager.start(folder.command(AGENT, &config), None);
    manager.hears("READY=1", 1);
    let publisher = Publisher::bind(&port.uri());
    reports(&folder, "it is in step", |report| report["ready"] == true);
    reload(&folder, &agent, &format!("no_such_key = 1\n{config}"));
    let last = || {
        manager
            .told()
            .into_iter()
            .rfind(|line| line.contains("STATUS="))
    };
    let refused = || last().is_some_and(|line| line.contains("; the new configuration is refused"));
    wait_for("the manager is told so", refused);
    let told = |report: &Value| {
        let notices = report["notices"].to_string();
        let told = notices.contains("refused") && notices.contains("no_such_key");
        assert_eq!(told, notices != "[]", "{notices}");
        assert_eq!(report["agent"]["config_refused"], u64::from(told));
        told
    };
    // It does all that it did.
    let now = reports(&folder, "it is told", told);
    assert_eq!(now["ready"], true, "{now:#}");
    // What else there is to tell does not displace it.
    drop(publisher);
    reports(&folder, "it is not in step", |report| {
        report["ready"] == false
    });
    wait_for("the manager is told", || {
        last().is_some_and(|line| line.contains("not in step"))
    });
    assert!(refused(), "{:?}", last());
    assert!(told(&report(&folder)));
    reload(&folder, &agent, &config);
    reports(&folder, "it is taken", |report| !told(report));
    wait_for("the manager is told", || !refused());
}

fn names_why(report: &Value) -> String {
    let reasons = report["reasons"].as_array().unwrap();
    let reasons = reasons.iter().map(|reason| reason.as_str().unwrap());
    reasons.collect::<Vec<_>>().join("\n")
}
