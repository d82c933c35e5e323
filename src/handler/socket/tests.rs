use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::*;
use crate::handler::registry::settings;
use crate::util::testing::{self, patience, within};

struct Rig {
    folder: tempfile::TempDir,
    socket: Socket,
}

fn rig(more: &str) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("path = {:?}\n{more}", folder.path().join("s"));
    let socket = Socket::new("s", &settings(&toml)).unwrap_or_else(|error| panic!("{error}"));
    Rig { folder, socket }
}

struct Peer(BufReader<UnixStream>);

impl Rig {
    fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn sync(&mut self, rows: &[(&str, &str)]) {
        self.socket.begin_sync(SyncReason::Started).unwrap();
        for (key, value) in rows {
            self.set(key, value);
        }
        self.socket.end_sync().unwrap();
    }

    fn set(&mut self, key: &str, value: &str) {
        self.socket.apply(&Event::set("t", key, value)).unwrap();
    }

    fn attach(&self, filter: &str) -> Peer {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.write_all(filter.as_bytes()).unwrap();
        Peer(BufReader::new(stream))
    }
}

impl Peer {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Reads until a line of this type.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.line();
            if line["type"] == kind {
                return line;
            }
        }
    }
}

#[test]
fn a_stuck_client_disturbs_nobody_and_catches_up() {
    let mut rig = rig("");
    rig.sync(&[("a", "1")]);
    let mut stuck = rig.attach("{}\n");
    let mut quick = rig.attach("");
    stuck.until("end_sync");
    quick.until("end_sync");
    let value = format!("\"{}\"", "x".repeat(2_000));
    for round in 0..1_000 {
        rig.set(
            &format!("k{}", round % 5),
            &value.replacen('x', &round.to_string(), 1),
        );
        let line = quick.line();
        assert!(
            line["value"]
                .as_str()
                .unwrap()
                .starts_with(&round.to_string())
        );
        assert!(line.get("skipped").is_none());
    }
    rig.set("last", "1");
    assert_eq!(quick.line()["key"], "last");
    let (mut seen, mut skipped) = (0, 0);
    loop {
        let line = stuck.line();
        if line["key"] == "last" {
            break;
        }
        seen += 1;
        skipped += line["skipped"].as_u64().unwrap_or(0);
    }
    assert!(skipped > 0, "it was never slow");
    assert_eq!(seen + skipped, 1_000);
    rig.socket
        .close(Closing {
            deadline: testing::deadline(),
        })
        .unwrap();
    let mut rest = String::new();
    assert_eq!(quick.0.read_line(&mut rest).unwrap(), 0, "{rest}");
    assert!(!rig.path().exists());
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let mut rig = rig("max_clients = 2\nmode = \"0600\"");
    rig.sync(&[]);
    let mode = fs::metadata(rig.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut one = rig.attach("{}\n");
    let mut two = rig.attach("{}\n");
    one.until("end_sync");
    two.until("end_sync");
    let refused = rig.attach("").line();
    assert_eq!(refused["type"], "error");
    assert_eq!(refused["reason"], "2 clients are attached already");
    drop(one);
    // The place is free once the thread has seen it.
    within("a place is free", || {
        rig.attach("").line()["type"] != "error"
    });
    rig.set("k", "1");
    assert_eq!(two.line()["key"], "k");
}

#[test]
fn its_place_is_taken_from_a_dead_one_only() {
    let mut first = rig("");
    first.sync(&[]);
    let toml = format!("path = {:?}", first.path());
    let mut second = Socket::new("s", &settings(&toml)).unwrap_or_else(|error| panic!("{error}"));
    let refused = second.begin_sync(SyncReason::Started);
    assert!(
        matches!(&refused, Err(HandlerError::Lost(why)) if why.contains("locked")),
        "{refused:?}"
    );
    let mut peer = first.attach("{}\n");
    peer.until("end_sync");

    let stale = rig("");
    drop(std::os::unix::net::UnixListener::bind(stale.path()).unwrap());
    let mut stale = stale;
    stale.sync(&[("k", "1")]);
    assert_eq!(stale.attach("{}\n").until("row")["key"], "k");
    let plain = rig("");
    fs::write(plain.path(), "mine").unwrap();
    let mut plain = plain;
    let refused = plain.socket.begin_sync(SyncReason::Started);
    assert!(
        matches!(&refused, Err(HandlerError::Lost(why)) if why.contains("no socket")),
        "{refused:?}"
    );
    assert_eq!(fs::read(plain.path()).unwrap(), b"mine");
}

#[test]
fn settings_are_checked_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for (toml, expected) in [
        ("", "path: must be set"),
        ("path = 's'", "path: \"s\" is no absolute path"),
        (&format!("path = '{root}'"), "path: "),
        (&format!("path = '/{}'", "x".repeat(107)), "path: "),
        (
            &format!("path = '{root}/s'\nmax_clients = 0"),
            "max_clients: 0 is not",
        ),
        (
            &format!("path = '{root}/s'\nmode = 660"),
            "mode: must be octal",
        ),
        (
            &format!("path = '{root}/s'\nfilter_wait = 11"),
            "filter_wait: 11 is not",
        ),
    ] {
        let fault = Socket::new("s", &settings(toml)).err();
        let fault = fault.map_or_else(String::new, |fault| fault.to_string());
        assert!(fault.starts_with(expected), "{toml}: {fault}");
    }
    let none = Socket::new("s", &settings(&format!("path = '{root}/none/s'"))).err();
    assert!(
        matches!(&none, Some(BuildError::Environment(why)) if why.contains("/none: No such file")),
        "{none:?}"
    );
    let toml = format!("path = '{root}/s'\ngroup = 'no-such-group'");
    let mut socket = Socket::new("s", &settings(&toml)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let refused = socket.begin_sync(SyncReason::Started);
    assert!(matches!(&refused, Err(HandlerError::Lost(why)) if why.contains("no-such-group")));
}
