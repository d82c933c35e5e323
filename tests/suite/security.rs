//! Strangers: real processes, bare sockets.

mod bounds;
mod gate;
mod grants;
mod keys;
mod replay;
mod rotation;
mod secrets;
mod spoofed;
mod strangers;
mod users;

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::rig::config::TOOL;
use crate::rig::load::rows;
use crate::rig::site::Site;
use crate::rig::stranger::{Stranger, refusals};
use crate::rig::{PATIENCE, until, wait_for};

/// Events, rows from before, and what was missed reach whoever has the right keys.
#[test]
fn the_right_keys_open_both_ports() {
    let mut site = Site::new(&["n1"]);
    site.cluster.publish("t1", 0..200, 100);
    let mut node = site.node("n1");
    node.has(&rows(200, 100));
    site.cluster.publish("t1", 200..300, 100);
    node.has(&rows(300, 100));
    let counted = node.stop();
    assert!(counted.recovery("snapshots_total") > 0);
    site.cluster.publish("t1", 300..350, 100);
    node.start();
    node.has(&rows(350, 100));
    let counted = node.stop();
    assert!(
        counted.recovery("replayed_events_total") >= 50,
        "{:#?}",
        counted.lines
    );
    let said = site.stop();
    assert!(said.count("gate_admitted_total") >= 4, "{}", said.0);
    assert_eq!(said.count("gate_refused_total"), 0, "{}", said.0);
}

/// A node is authorised while everything runs, cut off, and let in again. Sockets that hold on to what they
/// have are cut off at both ports: an agent ends its line to the one when it has lost the other.
#[test]
fn nodes_come_and_go_without_a_restart() {
    let mut site = Site::new(&["n1"]);
    let key = site.keygen("n2");
    site.cluster.publish("t1", 0..50, 100);
    let mut first = site.node("n1");
    let mut second = site.node("n2");
    first.has(&rows(50, 100));
    second.says("handshake broke off");
    let short = &key["public:".len()..][..12];
    let mut lines = String::new();
    wait_for("the key is listed", || {
        lines = site.tool(&["pending", "--pending"], &[&site.pending()]);
        lines.contains(&key)
    });
    assert!(
        second
            .folder
            .rows()
            .is_none_or(|rows| !rows.contains_key("t"))
    );
    site.authorise("n2", short);
    second.has(&rows(50, 100));
    let server = site.publisher_key();
    let keys = (&server.as_bytes()[..], &site.secret("n1"));
    let held = [
        (zmq::SUB, site.cluster.uri()),
        (zmq::DEALER, site.sync_uri.clone()),
    ]
    .map(|(kind, uri)| Stranger::connect(kind, &uri, Some(keys)));
    held.iter().for_each(Stranger::hears);
    let before = refusals(&site);

    std::fs::remove_file(site.authorized().join("n1.key")).unwrap();
    first.says("handshake broke off");
    held.iter().for_each(Stranger::is_refused);
    // They come again, and are not let in: what they were sent before has come by then.
    wait_for("they are refused at both ports", || {
        let [_, events, sync] = refusals(&site);
        events > before[1] && sync > before[2]
    });
    for stranger in &held {
        stranger.forgets();
        stranger.asks();
    }
    site.cluster.publish("t1", 50..80, 100);
    second.has(&rows(80, 100));
    held.iter().for_each(Stranger::heard_nothing);
    let table = first.rows().remove("t").unwrap();
    assert_eq!(table, rows(50, 100));

    let key = site.public("n1");
    site.authorise("n1", &key);
    site.cluster.host.process().signal(Signal::HUP);
    first.has(&rows(80, 100));
    for stranger in &held {
        stranger.hears();
    }
    drop(held);
    site.cluster.publish("t1", 80..90, 100);
    first.has(&rows(90, 100));
    second.has(&rows(90, 100));
    // All connections were made anew for the one that went; nobody lost anything that is to be loaded.
    for node in [&mut first, &mut second] {
        let counted = node.stop();
        assert!(counted.of(" publisher tcp", "connects_total") >= 2);
        assert_eq!(counted.resyncs(), 1);
        assert_eq!(counted.recovery("snapshots_total"), 2);
    }
    let said = site.stop();
    assert_eq!(said.count("gate_cuts_total"), 1, "{}", said.0);
    assert!(said.count("gate_refused_total") >= 2, "{}", said.0);
}

/// How often the service looks at the directory by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Two looks that follow each other faster than that: only a signal does it.
#[test]
fn at_a_signal_the_keys_are_read_at_once() {
    let mut site = Site::new(&["n1"]);
    let reads = |site: &Site| {
        let report = site.report();
        report["parts"]["gate"]["gate_reads_total"]
            .as_u64()
            .unwrap()
    };
    let (mut files, authorized) = (0, site.authorized());
    // Whatever is in it.
    let mut change = || {
        files += 1;
        let file = authorized.join(format!("other{files}.key"));
        std::fs::write(file, "no key").unwrap();
    };
    // On a machine that is busy the test itself may be too slow to see it.
    until("two looks within less than it is looked by itself", || {
        let before = reads(&site);
        change();
        let mut unread = Instant::now();
        wait_for("the directory is looked at", || {
            let asked = Instant::now();
            let read = reads(&site) > before;
            if !read {
                unread = asked;
            }
            read
        });
        let before = reads(&site);
        change();
        site.cluster.host.process().signal(Signal::HUP);
        wait_for("it is looked at again", || reads(&site) > before);
        (unread.elapsed() < LOOK).then_some(())
    });
    site.stop();
}

/// What a key file must be is said, with the exit status of a configuration that must be mended.
#[test]
fn a_key_that_others_can_read_starts_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new(&["n1"]);
    let secret = site.keys().join("n1.key_secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut node = site.node("n1");
    let status = node.process().ends_within(PATIENCE);
    assert_eq!(status.code(), Some(2));
    let said = node.process().errors();
    assert!(
        said.contains(&format!("chmod 0600 {}", secret.display())),
        "{said}"
    );
}

/// Whoever can write there admits whom it likes.
#[test]
fn a_directory_of_nodes_that_everybody_can_write_into_starts_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let mut site = Site::new(&["n1"]);
    site.cluster.host.stop(PATIENCE);
    let authorized = site.authorized();
    std::fs::set_permissions(&authorized, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let output = site.cluster.host.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mends = format!("chmod o-w {}", authorized.display());
    assert!(said.contains(&mends), "{said}");
    let key = site.keygen("n2");
    let refused = Command::new(TOOL)
        .args(["authorise", "n2", &key, "--dir"])
        .arg(&authorized)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&mends), "{said}");
    assert!(!authorized.join("n2.key").exists());

    std::fs::set_permissions(&authorized, std::fs::Permissions::from_mode(0o755)).unwrap();
    site.cluster.host.start();
    site.cluster.publish("t1", 0..5, 100);
    site.node("n1").has(&rows(5, 100));
}
