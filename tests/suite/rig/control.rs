//! The daemons asked as their operators ask them: control socket and HTTP.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::config::{Folder, TOOL};
use super::port::Port;
use super::until;

/// `fanfare` with these arguments, until it ends.
pub fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut tool = Command::new(TOOL);
    for argument in arguments {
        tool.arg(argument);
    }
    tool.output().unwrap()
}

/// `fanfare` with these arguments, on the control socket of a daemon whose run_dir is in `folder`.
pub fn tool(folder: &Folder, daemon: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command.args(arguments);
    command.arg("--socket").arg(socket(folder, daemon));
    command
}

pub fn socket(folder: &Folder, daemon: &str) -> PathBuf {
    folder.path("run").join(format!("{daemon}-control.sock"))
}

/// The same, until it ends.
pub fn told(folder: &Folder, arguments: &[&str]) -> Output {
    tool(folder, "agent", arguments).output().unwrap()
}

/// What it prints; fails unless its exit status is 0.
#[track_caller]
pub fn says(folder: &Folder, arguments: &[&str]) -> String {
    let output = told(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The agent's report.
#[track_caller]
pub fn report(folder: &Folder) -> Value {
    let output = told(folder, &["status", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The publisher service's report.
#[track_caller]
pub fn publisher_report(folder: &Folder) -> Value {
    let arguments = ["publisher", "status", "--json"];
    let output = tool(folder, "publisher", &arguments).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the control socket is there.
#[track_caller]
pub fn up(folder: &Folder, daemon: &str) {
    until("the control socket answers", || {
        let request: &[&str] = match daemon {
            "agent" => &["log-level"],
            _ => &["log-level", "--publisher"],
        };
        let output = tool(folder, daemon, request).output().unwrap();
        (output.status.code() == Some(0)).then_some(())
    });
}

/// Waits until the agent's report is as `holds` wants it.
#[track_caller]
pub fn reports(folder: &Folder, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let report = report(folder);
        holds(&report).then_some(report)
    })
}

/// Status and body of an answer; `None` while nothing listens.
pub fn get(port: &Port, path: &str) -> Option<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port.number));
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The metrics by name and labels; every line must be sound.
pub fn metrics(port: &Port) -> BTreeMap<String, u64> {
    let (status, text) = get(port, "/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    let mut metrics = BTreeMap::new();
    let mut declared = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            declared.push(rest.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            assert_eq!(declared.last().map(String::as_str), Some(bare), "{line}");
            let before = metrics.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{line} stands twice");
        }
    }
    metrics
}
