//! A disk that answers with EIO: system calls of the real process fail, by strace.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fanfare::publisher::client::{ClientOptions, PublisherClient};
use rustix::process::Signal;

use crate::rig::counted::of_publisher;
use crate::rig::host::{Host, counts, journal};
use crate::rig::listener::Listener;
use crate::rig::load::Load;
use crate::rig::process::Process;
use crate::rig::{left_out, wait_for};

/// The disk under a service, which fails as long as this lives.
struct Faulty {
    strace: Process,
    report: PathBuf,
}

impl Faulty {
    /// From now on system calls fail as strace's `inject` says. `None`, and a line that says so, where there is
    /// no strace, or it may not do that.
    #[track_caller]
    fn make(host: &mut Host, inject: &str) -> Option<Faulty> {
        if let Err(error) = Command::new("strace").arg("-V").output() {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            left_out("needs strace");
            return None;
        }
        let report = host.folder.path("strace.out");
        let mut command = Command::new("strace");
        let (calls, _) = inject.split_once(':').unwrap();
        command.args(["-f", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={inject}"), "-o"]);
        command.arg(&report).arg("-p");
        command.arg(host.process().id().to_string());
        let strace = Process::start(command);
        let attached = strace.err.find("strace is attached", |line| {
            let refused = line.contains("Operation not permitted");
            (refused || line.contains(" attached")).then_some(!refused)
        });
        if !attached {
            left_out("strace may not attach to the service");
            return None;
        }
        Some(Faulty { strace, report })
    }

    /// How many system calls were made to fail.
    fn hits(&self) -> usize {
        let report = std::fs::read_to_string(&self.report).unwrap_or_default();
        report.matches("(INJECTED)").count()
    }

    #[track_caller]
    fn hits_again(&self) {
        let before = self.hits();
        wait_for("the disk fails again", || self.hits() > before);
    }

    /// The disk works again. Gives how often it had failed.
    #[track_caller]
    fn heal(mut self) -> usize {
        self.strace.signal(Signal::INT);
        // Its status tells the signal.
        self.strace.ends_within(Duration::from_secs(5));
        self.hits()
    }
}

/// Publishes with a small spool and without much patience.
fn load(host: &Host) -> Load {
    Load::flat_out(PublisherClient::new(ClientOptions {
        spool_events: 200,
        batch_events: 20,
        send_timeout: Duration::from_millis(50),
        ..host.options()
    }))
}

fn count(host: &mut Host, text: &str) -> usize {
    let said = host.process().err.all();
    said.iter().filter(|line| line.contains(text)).count()
}

const STALLED: &str = "nothing is accepted until the journal can be written";

/// Every event was journalled and sent exactly once, in order.
#[track_caller]
fn complete(host: &Host, published: u64) {
    let history = host.history();
    let entries = journal(&history);
    let of_load = entries.iter().filter(|entry| entry.table == "t");
    let keys = of_load.map(|entry| entry.key.clone());
    assert!(keys.eq((0..published).map(|n| format!("k{n}"))));
    for n in 0..published {
        assert!(history.rows().get("t", &format!("k{n}")).is_some(), "k{n}");
    }
    assert!(counts(&entries, "t").values().all(|count| *count == 1));
}

/// Nothing is acknowledged while `inject` is at work, and it goes on by itself afterwards.
fn it_waits_for_the_disk(inject: &str) {
    let more = "durability = \"sync\"\nhello_interval = 0.1\npublisher_timeout = 0.6\n";
    let mut host = Host::running(more);
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    let load = load(&host);
    load.gets_on(300);

    let Some(faulty) = Faulty::make(&mut host, inject) else {
        return;
    };
    let lines = host.process().err.clone();
    lines.find("it says that it accepts nothing", |line| {
        (line.contains(STALLED) && line.contains("Input/output error")).then_some(())
    });
    // Answers come in order: those from before the fault are there when the first refusal is.
    wait_for("the client is told", || {
        load.client
            .trouble()
            .is_some_and(|why| why.contains("journal"))
    });
    let acknowledged = load.acknowledged();
    for _ in 0..3 {
        faulty.hits_again();
    }
    assert_eq!(load.acknowledged(), acknowledged);
    // Whoever publishes now is told.
    let arguments = ["--table", "t", "--key", "x", "--delete", "--timeout", "0.5"];
    let output = host.published(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the journal cannot be written"), "{said}");
    assert_eq!(load.acknowledged(), acknowledged);
    assert!(faulty.heal() > 3);

    load.gets_on(300);
    let published = load.stop();
    listener.has(&format!("k{}", published - 1));
    let said = host.stop(Duration::from_secs(3));
    assert!(of_publisher(&said, "commits_failed_total") >= 3, "{said}");
    assert!(of_publisher(&said, "reopened_total") >= 1, "{said}");
    assert_eq!(of_publisher(&said, "stalled"), 0, "{said}");
    assert!(said.contains("journal closed in order"), "{said}");
    complete(&host, published);
    let told = listener.told().into_iter().map(|told| told.key);
    assert!(told.eq((0..published).map(|n| format!("k{n}"))));
}

#[test]
fn an_fsync_that_fails_stops_the_acknowledgements() {
    it_waits_for_the_disk("fdatasync,fsync:error=EIO");
}

#[test]
fn a_write_that_fails_stops_the_acknowledgements() {
    it_waits_for_the_disk("pwrite64,ftruncate:error=EIO");
}

/// What it had acknowledged before the disk failed is there, whatever ends it meanwhile.
#[test]
fn killed_while_the_disk_fails_it_has_all_that_it_acknowledged() {
    let mut host = Host::running("durability = \"sync\"\n");
    let load = load(&host);
    load.gets_on(300);
    let Some(faulty) = Faulty::make(&mut host, "fdatasync,fsync:error=EIO") else {
        return;
    };
    let lines = host.process().err.clone();
    lines.find("it stalls", |line| line.contains(STALLED).then_some(()));
    let acknowledged = load.acknowledged();
    assert!(faulty.hits() > 0);
    host.kill();
    drop(faulty);
    let start = host.start();
    assert!(start.head >= acknowledged, "{start:?}, {acknowledged}");
    load.gets_on(300);
    let published = load.stop();
    host.stop(Duration::from_secs(3));
    complete(&host, published);
}

/// One that fails now and then: it stalls and goes on each time, and does not fill the log.
#[test]
fn a_disk_that_fails_again_and_again_does_not_fill_the_log() {
    let mut host = Host::running("durability = \"sync\"\nhello_interval = 0.1\n");
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    let load = load(&host);
    load.gets_on(300);
    let begun = Instant::now();
    let Some(faulty) = Faulty::make(&mut host, "fdatasync:error=EIO:when=9+9") else {
        return;
    };
    wait_for("it fails a dozen times", || faulty.hits() >= 12);
    let hits = faulty.heal();
    load.gets_on(300);
    let published = load.stop();
    // At most five in ten seconds.
    let limit = 5 * (1 + begun.elapsed().as_secs() as usize / 10);
    assert!((1..=limit).contains(&count(&mut host, STALLED)));
    assert!((1..=limit).contains(&count(&mut host, "events are accepted")));
    let said = host.stop(Duration::from_secs(3));
    let (stalls, failed) = (
        of_publisher(&said, "stalls_total"),
        of_publisher(&said, "commits_failed_total"),
    );
    assert!(failed > limit as u64, "{said}");
    assert!(
        stalls >= 2 && stalls <= failed && failed <= hits as u64,
        "{said}"
    );
    complete(&host, published);
    let told = listener.told().into_iter().map(|told| told.key);
    assert!(told.eq((0..published).map(|n| format!("k{n}"))));
}
