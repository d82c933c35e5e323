//! Programs that know nothing of Fanfare attach to a socket.

use std::process::Command;

use serde_json::Value;

use super::{Stage, lane};
use crate::rig::config::Folder;
use crate::rig::process::Process;
use crate::rig::until;

/// A client in a dozen lines, as an operator would write it: prints what it is told, and sends
/// `filter` first unless it is empty.
const CLIENT: &str = r#"
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
if sys.argv[2]:
    s.sendall(sys.argv[2].encode() + b"\n")
    s.shutdown(socket.SHUT_WR)
for line in s.makefile():
    print(line, end="", flush=True)
"#;

fn client(path: &std::path::Path, filter: &str) -> Process {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", CLIENT]).arg(path).arg(filter);
    Process::start(command)
}

fn keys(client: &Process) -> Vec<String> {
    let lines = client.out.all();
    let lines = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter_map(|line| Some(line["key"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn programs_attach_choose_and_leave() {
    let folder = Folder::new();
    let path = folder.path("events.sock");
    let mut stage = Stage::new(vec![lane("socket", &format!("path = {path:?}"))]);
    stage.set("lport", "p1", "1");
    stage.set("net", "n1", "1");
    until("the socket is there", || path.exists().then_some(()));
    let all = client(&path, "");
    let some = client(&path, r#"{"tables": ["net"]}"#);
    for client in [&all, &some] {
        client.out.find("the snapshot ends", |line| {
            line.contains("end_sync").then_some(())
        });
    }
    drop(client(&path, ""));
    stage.set("lport", "p2", "1");
    stage.delete("net", "n1");
    stage.set("net", "last", "1");
    for client in [&all, &some] {
        client.out.find("the last event comes", |line| {
            line.contains(r#""key":"last""#).then_some(())
        });
    }
    assert_eq!(keys(&some), ["n1", "n1", "last"]);
    let mut seen = keys(&all);
    seen.sort();
    assert_eq!(seen, ["last", "n1", "n1", "p1", "p2"]);
    let hello: Value = serde_json::from_str(&all.out.all()[0]).unwrap();
    assert_eq!(
        (&hello["type"], &hello["protocol"]),
        (&"hello".into(), &1.into())
    );
    assert_eq!(stage.agent.stop(), 0);
    for mut client in [all, some] {
        assert!(
            client.ends_within(crate::rig::PATIENCE).success(),
            "it sees the end"
        );
    }
}
