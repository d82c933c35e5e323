//! The daemons as their operators see them: control socket, HTTP, service manager, SIGHUP.

mod agent;
mod http;
mod manager;
mod reload;
mod service;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::config::{Folder, TOOL};
use crate::rig::until;

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
