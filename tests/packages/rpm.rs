//! The rpms, unpacked into a folder: this host runs its own distribution.

use std::process::Command;

use crate::packages::{self, output};

#[test]
fn the_programs_of_the_rpms_run() {
    let Some(folder) = packages::folder() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let rpm = || {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(root.path());
        command.args(["--dbpath", "/var/lib/rpm"]);
        command
    };
    let rpms =
        ["fanfare-agent", "fanfare-publisher"].map(|name| packages::find(&folder, name, ".rpm"));
    // Both at once: no file of one is in the other.
    output(rpm().args(["-i", "--nodeps", "--noscripts"]).args(&rpms));
    let version = env!("CARGO_PKG_VERSION");
    for program in [
        "usr/bin/fanfare-agent",
        "usr/bin/fanfare-publisher",
        "usr/libexec/fanfare-agent/fanfare",
        "usr/libexec/fanfare-publisher/fanfare",
    ] {
        let told = output(Command::new(root.path().join(program)).arg("--version"));
        let name = program.rsplit('/').next().unwrap();
        assert_eq!(told.trim(), format!("{name} {version}"));
    }
    for name in ["agent", "publisher"] {
        let package = format!("fanfare-{name}");
        let list = output(rpm().args(["-q", "--configfiles", &package]));
        assert_eq!(list.trim(), format!("/etc/fanfare/{name}.toml"));
        let needs = output(rpm().args(["-q", "--requires", &package]));
        assert!(needs.contains("libzmq.so.5"), "{needs}");
        let scripts = output(rpm().args(["-q", "--scripts", &package]));
        assert!(scripts.contains("systemd-sysusers"), "{scripts}");
        for file in [
            format!("usr/lib/systemd/system/{package}.service"),
            format!("usr/lib/sysusers.d/{package}.conf"),
            format!("usr/lib/tmpfiles.d/{package}.conf"),
            format!("usr/share/man/man8/{package}.8.gz"),
            format!("usr/share/man/man5/{package}.toml.5.gz"),
            format!("usr/share/{package}/fanfare.1.gz"),
        ] {
            assert!(root.path().join(&file).is_file(), "{file}");
        }
    }
}
