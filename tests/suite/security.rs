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

use rustix::process::Signal;

use crate::rig::config::TOOL;
use crate::rig::load::rows;
use crate::rig::site::Site;
use crate::rig::{PATIENCE, wait_for};

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

/// A node is authorised while everything runs, cut off, and let in again.
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

    std::fs::remove_file(site.authorized().join("n1.key")).unwrap();
    first.says("handshake broke off");
    site.cluster.publish("t1", 50..80, 100);
    second.has(&rows(80, 100));
    let table = first.rows().remove("t").unwrap();
    assert_eq!(table, rows(50, 100));

    let key = site.public("n1");
    site.authorise("n1", &key);
    site.cluster.host.process().signal(Signal::HUP);
    first.has(&rows(80, 100));
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
        said.contains(&format!("chmod 600 {}", secret.display())),
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
