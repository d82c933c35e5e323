//! The rpms: unpacked into a folder, and installed with their scripts into a machine that has another
//! kind of packages otherwise.

use std::process::Command;

use crate::container::Container;
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

/// An agent that is up only when it is in step would hold up the whole transaction, without an end.
#[test]
fn an_upgrade_does_not_wait_for_the_daemon() {
    for name in ["agent", "publisher"] {
        let path = format!(
            "{}/packaging/rpm/{name}-postun.sh",
            env!("CARGO_MANIFEST_DIR")
        );
        let script = std::fs::read_to_string(path).unwrap();
        // As with systemd, of which nothing is asked.
        let script = script.replace("/run/systemd/system", "/");
        let script = format!("systemctl() {{ echo \"$*\"; }}\n{script}");
        let told = output(Command::new("sh").args(["-euc", &script, "postun", "1"]));
        let asked: Vec<_> = told.lines().collect();
        let restart = format!("--no-block try-restart fanfare-{name}.service");
        assert_eq!(asked, ["daemon-reload", &restart]);
    }
}

#[test]
fn the_rpms_run_when_installed_and_leave_when_removed() {
    let Some(folder) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&folder);
    machine.write(
        "/etc/fanfare/conf.d/50-test.toml",
        "security = \"none\"\ntopics = [\"t1\"]",
    );
    // Libraries are another package manager's here.
    for name in ["fanfare-agent", "fanfare-publisher"] {
        machine.ok(&format!("rpm --force-debian --nodeps -i {name}-*.rpm"));
    }
    machine.ok("systemctl start fanfare-publisher fanfare-agent");
    machine.until(
        "both are in step",
        "fanfare publisher status && fanfare status",
    );
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        assert_eq!(machine.property(unit, "UnitFileState"), "enabled");
        let user = machine.property(unit, "MainPID");
        let user = machine.ok(&format!("ps -o user= -p {user}"));
        assert_eq!(user.trim(), "fanfare");
    }
    machine.ok("fanfare publish --table t --key k --value 1 --topic t1");
    machine.until("the row arrives", "test \"$(fanfare get t k)\" = 1");

    // The first leaves: the tool is the other's then.
    machine.ok("readlink -f /usr/bin/fanfare | grep fanfare-agent");
    machine.ok("rpm --force-debian -e fanfare-agent");
    machine.ok("! systemctl is-active fanfare-agent && fanfare publisher status");
    machine.ok(
        "readlink -f /usr/bin/fanfare | grep fanfare-publisher; test -s \"$(man -w 1 fanfare)\"",
    );
    machine.ok("rpm --force-debian -e fanfare-publisher");
    machine.ok("! systemctl is-active fanfare-publisher; test -s /var/lib/fanfare/publisher.redb");
    let left = machine.ok(
        "find /usr -name '*fanfare*' -not -path '/usr/src/*' -not -path '*/site-packages/*'; \
         find /etc/systemd -name 'fanfare*'",
    );
    assert_eq!(left, "");
}
