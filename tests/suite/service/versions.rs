//! Versions that the writers give.

use std::time::Duration;

use crate::rig::counted::of_publisher;
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::peer::Publisher;

#[test]
fn an_older_one_is_refused_to_who_awaits_an_answer() {
    let mut host = Host::running("");
    let publish = |version: &str, value: &str| {
        host.published(&[
            "--table",
            "t",
            "--key",
            "k",
            "--value",
            value,
            "--event-version",
            version,
        ])
    };
    assert_eq!(publish("7", "seven").status.code(), Some(0));
    let output = publish("5", "five");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("refused: version 7 is known"), "{said}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "acknowledged 0, refused 1");
    // There are higher numbers than a writer may give: above those there would be no room.
    let output = publish("9223372036854775808", "far");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // The same again is no fault, and a higher one is the new state.
    assert_eq!(publish("7", "seven").status.code(), Some(0));
    assert_eq!(publish("8", "eight").status.code(), Some(0));
    let history = host.stop_and_open();
    let row = history.rows().get("t", "k").unwrap();
    assert_eq!(row.value.as_deref(), Some("eight"));
    assert_eq!(row.stamp.unwrap().version, 8);
}

#[test]
fn an_older_one_of_a_worker_that_pushes_is_counted() {
    let mut host = Host::running("version_field = \"revision\"\n");
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    let uri = format!("ipc://{}", host.socket().display());
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker.set("t1", "k", r#"{"revision": 9}"#);
    worker.set("t1", "k", r#"{"revision": 4}"#);
    worker.set("t1", "k", r#"{"revision": 8}"#);
    worker.set("t1", "last", "no JSON");
    assert_eq!(listener.has("k").stamp.version, 9);
    listener.has("last");
    let keys: Vec<String> = listener.told().into_iter().map(|told| told.key).collect();
    assert_eq!(keys, ["k", "last"]);
    let said = host.stop(Duration::from_secs(3));
    assert_eq!(of_publisher(&said, "events_older_total"), 2, "{said}");
    let history = host.history();
    let row = history.rows().get("t", "k").unwrap();
    assert_eq!(row.stamp.unwrap().version, 9);
}

/// The lines of `--from` may name versions, each its own.
#[test]
fn lines_carry_versions() {
    let mut host = Host::running("");
    let lines = [
        r#"{"table":"t","key":"k","value":"seven","version":7}"#,
        r#"{"table":"t","key":"k","value":"five","version":5}"#,
        r#"{"table":"t","key":"other","value":"given"}"#,
    ];
    let path = host.folder.write("lines.jsonl", &lines.join("\n"));
    let output = host.published(&["--from", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("line 2: refused: version 7 is known"),
        "{said}"
    );
    let history = host.stop_and_open();
    let row = |key: &str| history.rows().get("t", key).unwrap();
    assert_eq!(row("k").value.as_deref(), Some("seven"));
    assert_eq!(row("k").stamp.unwrap().version, 7);
    assert!(row("other").stamp.unwrap().version > 1_600_000_000_000_000);
}
