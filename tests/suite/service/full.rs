//! A disk that is full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fanfare::event::Event;
use fanfare::publisher::client::{ClientError, ClientOptions, PublisherClient};
use serde_json::json;

use crate::rig::counted::of_publisher;
use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::peer::Publisher;
use crate::rig::{has_root, wait_for};

/// A small file system, gone with its test.
struct Small(PathBuf);

impl Small {
    /// `None` where it may not be mounted.
    #[track_caller]
    fn mount(path: &Path, size: &str) -> Option<Small> {
        if !has_root() {
            return None;
        }
        std::fs::create_dir_all(path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        let status = command.arg(path).status().unwrap();
        assert!(status.success(), "cannot mount a tmpfs");
        Some(Small(path.to_owned()))
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        let block = [1; 4096];
        let full = loop {
            if let Err(error) = file.write_all(&block) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: on failure the service may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Values so large that what the file has left over is soon used up.
const VALUE: usize = 4_000;

/// Events of a worker that pushes while there is no space.
const PUSHED: usize = 3_000;

#[test]
fn nothing_is_acknowledged_until_there_is_space() {
    let mut host = Host::new("hello_interval = 0.1\nstop_timeout = 3.0\n");
    let Some(small) = Small::mount(&host.state_dir, "24m") else {
        return;
    };
    host.start();
    host.set("t1", "before", "1");
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    small.fill();

    let client = PublisherClient::new(ClientOptions {
        // Little at a time, so that in the end not even that fits.
        spool_events: 4,
        send_timeout: Duration::from_millis(200),
        ..host.options()
    });
    let value = "v".repeat(VALUE);
    let mut published = 0;
    // Until nothing is taken any more, which cannot be before the file has used up its rest.
    let why = loop {
        let key = format!("k{published}");
        match client.publish(&Event::set("t", &key, &value).on("t1"), None) {
            Ok(_) => published += 1,
            Err(ClientError::SpoolFull { why, .. }) if why.contains("journal") => break why,
            Err(ClientError::SpoolFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(published < 24_000, "the disk does not get full");
    };
    assert!(
        why.ends_with("the journal cannot be written just now"),
        "{why}"
    );
    let stalled = client.summary();
    assert!(stalled.pending > 0);
    let lines = &host.process().err;
    lines.find("it says that it accepts nothing", |line| {
        line.contains("nothing is accepted until the journal can be written")
            .then_some(())
    });

    // Whoever publishes now is told so. This fits even less.
    let accepted = |host: &mut Host| {
        let said = host.process().err.all();
        let again = said
            .iter()
            .filter(|line| line.contains("events are accepted"));
        again.count()
    };
    let before = accepted(&mut host);
    let value = "v".repeat(25 * VALUE);
    let arguments = [
        "--table",
        "t",
        "--key",
        "late",
        "--value",
        &value,
        "--timeout",
        "1.5",
    ];
    let output = host.published(&arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(
        out.contains("acknowledged 0, refused 0, unknown 1"),
        "{out}"
    );
    assert!(err.contains("the journal cannot be written"), "{err}");
    // It lives, and while it accepts nothing it does not say that it does.
    assert_eq!(accepted(&mut host), before);
    assert_eq!(client.summary().acknowledged, stalled.acknowledged);

    // What is pushed now waits.
    let uri = format!("ipc://{}", host.socket().display());
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker.tell(json!({"op": "series", "topics": ["t1"], "count": PUSHED}));
    worker.set("t1", "pushed-last", "1");

    small.free();
    wait_for("everything is acknowledged", || {
        client.summary().acknowledged == published
    });
    host.set("t1", "after", "1");
    listener.has("pushed-last");
    assert!(accepted(&mut host) > before);
    let history = host.stop_and_open();
    for n in 0..published {
        let row = history.rows().get("t", &format!("k{n}"));
        assert!(row.is_some(), "k{n} was acknowledged and is not there");
    }
    assert!(history.rows().get("t", "before").is_some());
    assert!(history.rows().get("t", "after").is_some());
    for n in 0..PUSHED {
        let row = history.rows().get("series", &format!("k{n}"));
        assert!(row.is_some(), "k{n} was pushed and is not there");
    }
    drop(history);
}

/// Stopping does not wait for a disk that is full.
#[test]
fn it_stops_in_time_all_the_same() {
    let mut host = Host::new("");
    let Some(small) = Small::mount(&host.state_dir, "24m") else {
        return;
    };
    host.start();
    small.fill();
    let client = host.client();
    let value = "v".repeat(VALUE);
    let mut count = 0;
    wait_for("nothing is accepted", || {
        for _ in 0..50 {
            let key = format!("k{count}");
            if client.summary().pending < 1_000 {
                let event = Event::set("t", &key, &value);
                client.publish(&event, None).unwrap();
                count += 1;
            }
        }
        client.trouble().is_some_and(|why| why.contains("journal"))
    });
    let said = host.stop(Duration::from_millis(2_000));
    assert_eq!(of_publisher(&said, "stalled"), 1, "{said}");
    small.free();
    let history = host.history();
    assert!(history.head() >= client.summary().acknowledged);
}
