//! The units' sandboxes: tight, and wide enough for what the daemons do.

use std::path::Path;
use std::process::Command;

use crate::container::Container;
use crate::packages;

const UNITS: [&str; 2] = ["fanfare-agent", "fanfare-publisher"];

/// The worst exposure, in tenths.
const THRESHOLD: &str = "20";

#[test]
fn the_units_are_well_formed_and_little_exposed() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    machine.install(&UNITS);
    for unit in UNITS {
        let path = format!("/usr/lib/systemd/system/{unit}.service");
        // It succeeds with unknown keys too, and tells them on standard error.
        let told = machine.ok(&format!("systemd-analyze verify {path} 2>&1"));
        assert_eq!(told, "");
        machine.ok(&format!(
            "systemd-analyze security --no-pager --offline=yes --threshold={THRESHOLD} {path}"
        ));
        // The check can fail.
        machine.fails(&format!(
            "sed /SystemCallFilter/d {path} >/tmp/{unit}.service; \
             systemd-analyze security --no-pager --offline=yes --threshold={THRESHOLD} /tmp/{unit}.service"
        ));
    }
}

/// What can be told without packages: the same of the units as they stand in the sources, with programs
/// that are there.
#[test]
fn the_units_of_the_sources_are_well_formed_and_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    for (unit, program) in UNITS.iter().zip([
        env!("CARGO_BIN_EXE_fanfare-agent"),
        env!("CARGO_BIN_EXE_fanfare-publisher"),
    ]) {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("packaging/{unit}.service"));
        let text = std::fs::read_to_string(source).unwrap();
        let text = text.replace(&format!("/usr/bin/{unit}"), program);
        assert!(text.contains(program));
        // A command of a handler that is killed for want of memory does not stop the agent.
        let goes_on = text.contains("\nOOMPolicy=continue\n");
        assert_eq!(goes_on, *unit == "fanfare-agent");
        let path = folder.path().join(format!("{unit}.service"));
        std::fs::write(&path, text).unwrap();
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            packages::output(command.args(arguments).arg(&path))
        };
        assert_eq!(analyze(&["verify", "--man=no"]), "");
        let threshold = format!("--threshold={THRESHOLD}");
        analyze(&["security", "--no-pager", "--offline=yes", &threshold]);
    }
}

/// Uncomments these lines of the drop-in that the package has for handlers.
fn drop_in(machine: &Container, lines: &[&str]) {
    let wanted: Vec<_> = lines
        .iter()
        .map(|line| format!("-e 's|^#\\({line}\\)|\\1|'"))
        .collect();
    machine.ok(&format!(
        "mkdir -p /etc/systemd/system/fanfare-agent.service.d && \
         sed {} /usr/share/doc/fanfare-agent/examples/handlers.conf \
           >/etc/systemd/system/fanfare-agent.service.d/handlers.conf && \
         grep -c '^[A-Z]' /etc/systemd/system/fanfare-agent.service.d/handlers.conf | grep -x {} && \
         systemctl daemon-reload && systemctl restart fanfare-agent",
        wanted.join(" "),
        lines.len(),
    ));
}

#[test]
fn handlers_work_within_it_and_with_the_drop_in_beyond() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let pipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pipe/handler.py");
    let pipe = std::fs::read_to_string(pipe).unwrap();
    let machine = Container::boot(&debs);
    machine.write("/usr/local/lib/fanfare/handler.py", &pipe);
    machine.write(
        "/etc/fanfare/conf.d/50-test.toml",
        r#"
security = "none"

[[handler]]
name = "simple"
module = "exec"
command = ["/bin/sh", "-c", "cat >>/var/lib/fanfare/exec.out"]

[[handler]]
name = "link"
module = "exec"
command = ["/bin/sh", "-c", "ip link set lo mtu 40000"]

[[handler]]
name = "elsewhere"
module = "exec"
command = ["/bin/sh", "-c", "echo >/etc/dnsmasq.d/fanfare"]

[[handler]]
module = "pipe"
command = ["/usr/bin/python3", "/usr/local/lib/fanfare/handler.py", "/var/lib/fanfare/pipe.json"]

[[handler]]
module = "file"
path = "/run/fanfare/rows.json"
interval = 0.1

[[handler]]
module = "socket"
path = "/run/fanfare/rows.sock"
"#,
    );
    machine.ok("mkdir -p /etc/dnsmasq.d && ip link set lo mtu 50000");
    machine.install(&UNITS);
    machine.ok("chown fanfare /etc/dnsmasq.d");
    machine.ok("fanfare publish --table t --key k --value '\"within\"'");
    let arrived = |value: &str| {
        let files = "/var/lib/fanfare/exec.out /var/lib/fanfare/pipe.json /run/fanfare/rows.json";
        machine.until(
            "the handlers did their work",
            &format!("for file in {files}; do grep -q {value} $file; done"),
        );
        machine.ok(
            "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); \
             s.connect(\"/run/fanfare/rows.sock\"); s.settimeout(10); assert s.recv(1)'",
        );
    };
    arrived("within");
    // Beyond: the node's network and other folders are out of reach, and that is told.
    let told = machine.until(
        "the two are told",
        "journalctl --quiet --no-pager -u fanfare-agent | grep -E 'handler (link|elsewhere)'; \
         test $(fanfare status --json | python3 -c 'import json, sys; \
         print(sum(h[\"counters\"][\"events_failed_total\"] > 0 for h in json.load(sys.stdin)[\"handlers\"]))') = 2",
    );
    assert!(
        told.contains("not permitted") || told.contains("Read-only"),
        "{told}"
    );
    machine.ok("ip link show lo | grep 'mtu 50000' && test ! -e /etc/dnsmasq.d/fanfare");

    drop_in(
        &machine,
        &[
            "ReadWritePaths=-/etc/dnsmasq.d",
            "CapabilityBoundingSet=CAP_NET_ADMIN",
            "AmbientCapabilities=CAP_NET_ADMIN",
        ],
    );
    machine.until("it is in step", "fanfare status");
    machine.ok("fanfare publish --table t --key k --value '\"beyond\"'");
    arrived("beyond");
    machine.until(
        "the address is changed",
        "ip link show lo | grep 'mtu 40000'",
    );
    machine.until("the file is written", "test -e /etc/dnsmasq.d/fanfare");
}

/// Multicast needs more of the kernel than tcp.
#[test]
fn epgm_works_within_it() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    machine.write(
        "/etc/fanfare/conf.d/50-test.toml",
        "security = \"none\"\npublisher_transport = \"epgm\"\n\
         publisher_bind_address = \"127.0.0.1;239.192.1.2\"\n\
         publishers_ips = [\"epgm://127.0.0.1;239.192.1.2:8866\"]",
    );
    machine.install(&UNITS);
    machine.ok("fanfare publish --table t --key k --value 1");
    // A row that was sent before the agent listened comes with the next event's hello.
    machine.until("the row arrives", "test \"$(fanfare get t k)\" = 1");
    for unit in UNITS {
        assert_eq!(machine.property(unit, "NRestarts"), "0");
    }
}
