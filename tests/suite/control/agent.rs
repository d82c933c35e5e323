//! The operator's commands against a running agent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::config::{AGENT, Folder, TOOL};
use crate::rig::control::{self, reports, says, socket, told, tool, up};
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::{at_most, has_root, until, wait_for};

#[test]
fn a_node_is_looked_at_and_changed() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k1", "{\"a\": 1}");
    publisher.set("D", "k2", "two");
    folder.has_key("t", "k2");
    let mode = std::fs::metadata(socket(&folder, "agent")).unwrap();
    // 0660 where the group exists.
    assert_eq!(mode.permissions().mode() & 0o117, 0);

    let report = reports(&folder, "the agent is in step", |report| {
        report["ready"] == true
    });
    assert_eq!(report["publishers"][0]["uri"], port.uri());
    let counters = &report["publishers"][0]["counters"];
    assert_eq!(counters["events_received_total"], 2, "{report:#}");
    assert_eq!(report["handlers"][0]["name"], "file");
    assert_eq!(report["handlers"][0]["state"], "ok");
    assert_eq!(
        report["topics"],
        json!([
            {"topic": "D", "wanted_by": ["(operator)"], "rows": 1},
            {"topic": "t1", "wanted_by": ["(operator)"], "rows": 1},
        ])
    );
    // Not a terminal: no colours.
    let shown = says(&folder, &["status"]);
    assert!(shown.contains("in step") && shown.contains(&port.uri()));
    assert!(!shown.contains('\u{1b}'), "{shown:?}");

    assert_eq!(says(&folder, &["get", "t", "k1"]), "{\"a\": 1}\n");
    let rows = says(&folder, &["get", "t", "--json"]);
    let rows: Vec<Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let keys: Vec<&Value> = rows.iter().map(|row| &row["key"]).collect();
    assert_eq!(keys, ["k1", "k2"]);
    let missing = told(&folder, &["get", "t", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    let why = String::from_utf8(missing.stderr).unwrap();
    assert!(why.contains("there is no row nobody in table t"), "{why}");

    // Topics.
    assert!(says(&folder, &["topics", "add", "t2"]).contains("subscribed to t2"));
    assert!(says(&folder, &["topics", "add", "t2"]).contains("already"));
    publisher.subscribed("t2\0", 1);
    publisher.set("t2", "k3", "3");
    folder.has_key("t", "k3");
    let listed = says(&folder, &["topics", "list"]);
    assert!(listed.contains("t2"), "{listed}");
    says(&folder, &["topics", "remove", "t2"]);
    publisher.unsubscribed("t2\0");
    for (topic, why) in [("D", "goes to all"), ("", "topic")] {
        let refused = told(&folder, &["topics", "remove", topic]);
        assert_eq!(refused.status.code(), Some(1), "{topic:?}: {refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(why), "{topic:?}: {said}");
    }

    // Resync.
    let resyncs = |report: &Value| report["handlers"][0]["counters"]["resyncs_total"].as_u64();
    let before = resyncs(&control::report(&folder)).unwrap();
    says(&folder, &["resync", "file"]);
    reports(&folder, "the handler started over", |report| {
        resyncs(report) == Some(before + 1)
    });
    says(&folder, &["resync"]);
    reports(&folder, "every handler started over", |report| {
        resyncs(report) == Some(before + 2)
    });
    let nobody = told(&folder, &["resync", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no handler nobody"));

    // The log.
    assert_eq!(says(&folder, &["log-level"]), "info\n");
    assert_eq!(says(&folder, &["log-level", "debug"]), "debug\n");
    says(&folder, &["resync", "file"]);
    agent.err.find("what is logged at debug is logged", |line| {
        line.contains("starts over (requested)").then_some(())
    });
    let bad = told(&folder, &["log-level", "loud"]);
    assert_eq!(bad.status.code(), Some(1));

    let top = says(&folder, &["top", "--count", "2", "--interval", "0.1"]);
    assert!(top.contains("PER SECOND"), "{top}");

    agent.signal(Signal::TERM);
    let status = agent.ends_within(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0), "{}", agent.errors());
    assert!(!socket(&folder, "agent").exists());
}

#[test]
fn changes_are_watched_as_they_come() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let agent = folder.agent(&[&port.uri()], &["t1", "t2"], "");
    publisher.has_agent(&["D", "t1", "t2"]);
    up(&folder, "agent");
    let mut watch = Process::start(tool(
        &folder,
        "agent",
        &["watch", "--topic", "t1", "--json"],
    ));
    // Until the watch is known to be on.
    until("the watch sees something", || {
        publisher.set("t1", "probe", &fastrand::u64(..).to_string());
        std::thread::sleep(Duration::from_millis(5));
        (watch.out.len() > 0).then_some(())
    });
    publisher.set("t2", "other", "1");
    publisher.set("t1", "mine", "{\"x\":[1]}");
    publisher.delete("t1", "mine");
    let events = || {
        let lines = watch.out.all();
        let parsed = lines.iter().map(|l| serde_json::from_str(l).unwrap());
        parsed.collect::<Vec<Value>>()
    };
    wait_for("the delete is seen", || {
        events().iter().any(|event| event["action"] == "delete")
    });
    let events = events();
    assert!(events.iter().all(|event| event["topic"] == "t1"));
    let set = events.iter().find(|event| event["key"] == "mine").unwrap();
    assert_eq!(set["value"], json!({"x": [1]}));
    // The agent's end ends it in order.
    agent.signal(Signal::TERM);
    let status = watch.ends_within(Duration::from_secs(5));
    let told = watch.errors();
    assert!(matches!(status.code(), Some(0 | 3)), "{status:?} {told}");
}

/// A watch that reads nothing is told what it missed, and neither the agent nor another client
/// waits for it.
#[test]
fn a_watch_that_does_not_read_delays_nobody() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let _agent = folder.agent(&[&port.uri()], &["t1"], "");
    publisher.has_agent(&["D", "t1"]);
    up(&folder, "agent");
    let mut slow = UnixStream::connect(socket(&folder, "agent")).unwrap();
    slow.write_all(b"{\"v\":1,\"do\":\"watch\"}\n").unwrap();
    publisher.tell(json!({"op": "load", "topic": "t1", "name": "l", "rate": 20_000}));
    reports(&folder, "the watch loses events", |report| {
        report["replica"]["watch_events_lost_total"]
            .as_u64()
            .unwrap()
            > 1_000
    });
    let begun = Instant::now();
    control::report(&folder);
    assert!(begun.elapsed() < at_most(Duration::from_secs(5)));
    publisher.ask(json!({"op": "halt"}), "halted");
    // Now it reads.
    slow.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (mut events, mut lost) = (0, 0);
    for line in BufReader::new(slow).lines().skip(1) {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match line["item"]["lost"].as_u64() {
            Some(n) => {
                lost = n;
                break;
            }
            None => events += 1,
        }
    }
    assert!(events > 0 && lost > 0, "{events} events, {lost} lost");
}

#[test]
fn an_agent_that_is_not_there_is_told_of() {
    let folder = Folder::new();
    let output = told(&folder, &["status"]);
    assert_eq!(output.status.code(), Some(3));
    let why = String::from_utf8(output.stderr).unwrap();
    let path = socket(&folder, "agent").display().to_string();
    assert!(why.contains(&format!("nothing listens on {path}")), "{why}");
    assert!(why.contains("systemctl start fanfare-agent"), "{why}");
}

/// Nor is one that belongs to others: here it is asked by a user of no group, who may not look into the
/// folder either.
#[test]
fn an_agent_of_others_says_whom_to_be() {
    if !has_root() {
        return;
    }
    // A group that is on every system, and one that nobody should join.
    for (group, advice) in [
        ("daemon", "join: usermod -aG daemon USER"),
        ("root", "sudo"),
    ] {
        let (port, folder) = (Port::free(), Folder::new());
        let _publisher = Publisher::bind(&port.uri());
        let option = format!("socket_group = {group:?}");
        let _agent = folder.agent(&[&port.uri()], &[], &option);
        up(&folder, "agent");
        // The folder itself is the test's.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(""), open).unwrap();
        let tool_there = folder.path("fanfare");
        std::fs::copy(TOOL, &tool_there).unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&tool_there)
            .args(["status", "--socket"])
            .arg(socket(&folder, "agent"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(why.contains("no permission to use"), "{why}");
        assert!(why.contains(advice), "{why}");
        assert_eq!(why.contains("usermod"), group != "root", "{why}");
    }
}

#[test]
fn two_agents_do_not_share_a_folder() {
    let (port, folder) = (Port::free(), Folder::new());
    let _publisher = Publisher::bind(&port.uri());
    let config = folder.agent_config(&[&port.uri()], &[], "");
    let first = Process::start(folder.command(AGENT, &config));
    up(&folder, "agent");
    let mut second = Process::start(folder.command(AGENT, &config));
    let status = second.ends_within(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let why = second.errors();
    assert!(why.contains(&format!("process {}", first.id())), "{why}");
    assert!(why.contains("run_dir"), "{why}");
    // The first is not disturbed, and what it leaves when it is killed is in nobody's way.
    up(&folder, "agent");
    let mut first = first;
    first.kill();
    assert!(socket(&folder, "agent").exists());
    let _third = Process::start(folder.command(AGENT, &config));
    up(&folder, "agent");
}

#[test]
fn what_a_handler_gave_up_on_is_listed_and_released() {
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let more = "[[handler]]\nmodule = \"exec\"\ncommand = [\"true\"]\n";
    let _agent = folder.agent(&[&port.uri()], &["t1"], more);
    publisher.has_agent(&["D", "t1"]);
    // No command can be given a NUL in its environment, however often.
    publisher.set("t1", "a\0b", "1");
    let held = |count: u64| {
        reports(&folder, &format!("{count} rows are held"), |report| {
            let handlers = report["handlers"].as_array().unwrap();
            let exec = handlers.iter().find(|h| h["name"] == "exec").unwrap();
            exec["counters"]["quarantined"] == count
        })
    };
    let report = held(1);
    let handlers = report["handlers"].as_array().unwrap();
    let exec = handlers.iter().find(|h| h["name"] == "exec").unwrap();
    let error = exec["last_error"].as_str().unwrap();
    assert!(error.contains("it contains NUL"), "{report:#}");
    let rows = says(&folder, &["quarantine", "list", "--json"]);
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["handler"], &row["table"]),
        (&json!("exec"), &json!("t"))
    );
    assert_eq!(row["key"], "a\0b");
    let shown = says(&folder, &["quarantine", "list", "exec"]);
    assert!(
        shown.contains("\"a\\0b\"") && !shown.contains('\0'),
        "{shown:?}"
    );
    assert_eq!(says(&folder, &["quarantine", "list", "file"]), "");

    let releases =
        |arguments: &[&str]| says(&folder, &[&["quarantine", "release"], arguments].concat());
    assert!(releases(&["file"]).starts_with("0 rows"));
    assert!(releases(&["--table", "other"]).starts_with("0 rows"));
    // It is tried again, and fails again.
    let failed = || {
        let report = control::report(&folder);
        let handlers = report["handlers"].as_array().unwrap().clone();
        let exec = handlers.into_iter().find(|h| h["name"] == "exec").unwrap();
        exec["counters"]["events_failed_total"].as_u64().unwrap()
    };
    let before = failed();
    assert!(releases(&["exec", "--table", "t"]).starts_with("1 rows"));
    wait_for("the row is tried again", || failed() > before);
    held(1);
    let nobody = told(&folder, &["quarantine", "list", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
}
