//! A secret key is in no log, whatever is logged.

use rustix::process::Signal;

use crate::rig::load::rows;
use crate::rig::site::Site;
use crate::rig::wait_for;

#[test]
fn secrets_are_not_logged_at_any_level() {
    let mut site = Site::with(&["n1", "n2"], "log_level = \"trace\"\n");
    site.cluster.publish("t1", 0..20, 100);
    let mut node = site.node("n1");
    node.has(&rows(20, 100));
    node.stop();
    node.configure(|config| format!("log_level = \"trace\"\n{config}"));
    node.start();
    node.has(&rows(20, 100));
    // What goes wrong is told too: a stranger, a key that goes, a reload, a key in the wrong place.
    site.keygen("n3");
    let mut stranger = site.idle("n3");
    stranger.configure(|config| format!("log_level = \"trace\"\n{config}"));
    stranger.start();
    stranger.says("handshake broke off");
    let stranger = stranger.stop().lines.join("\n");
    std::fs::remove_file(site.authorized().join("n2.key")).unwrap();
    site.cluster.host.process().signal(Signal::HUP);
    let secret = site.keys().join("n2.key_secret");
    std::fs::copy(&secret, site.authorized().join("n4.key")).unwrap();
    wait_for("the wrong file is told", || {
        let lines = site.cluster.host.process().err.all();
        lines.iter().any(|line| line.contains("n4.key"))
    });
    site.cluster.publish("t1", 20..40, 100);
    node.has(&rows(40, 100));
    let agent = node.stop().lines.join("\n");
    let publisher = site.stop().0;
    let logs = [
        ("agent", &agent),
        ("stranger", &stranger),
        ("publisher", &publisher),
    ];
    for (_, log) in logs {
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    }
    for name in ["publisher", "n1", "n2", "n3"] {
        let secret = site.secret(name);
        let text = String::from_utf8(secret.z85().to_vec()).unwrap();
        let hex = |upper: bool| -> String {
            let byte = |b: &u8| {
                if upper {
                    format!("{b:02X}")
                } else {
                    format!("{b:02x}")
                }
            };
            secret.as_bytes()[..8].iter().map(byte).collect()
        };
        // As Debug shows bytes.
        let listed = format!("{:?}", &secret.as_bytes()[..8]);
        let listed = listed.trim_matches(['[', ']']).to_owned();
        for form in [text[..16].to_owned(), hex(false), hex(true), listed] {
            for (what, log) in logs {
                assert!(
                    !log.contains(&form),
                    "{name}'s secret is in the log of the {what}"
                );
            }
        }
    }
}
