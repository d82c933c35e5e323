//! A newer release comes while events flow.

use std::io::Read;

use serde_json::Value;

use crate::container::Container;
use crate::packages;

/// Rows that must have come before and between the steps, so that there is a load.
const SOME: u64 = 200;

fn status(machine: &Container) -> Value {
    serde_json::from_str(&machine.ok("fanfare status --json")).unwrap()
}

fn recovery(machine: &Container, name: &str) -> u64 {
    let report = status(machine);
    report["publishers"][0]["recovery"][name].as_u64().unwrap()
}

fn rows(machine: &Container) -> u64 {
    status(machine)["replica"]["rows"].as_u64().unwrap()
}

#[track_caller]
fn more_rows(machine: &Container) {
    let wanted = rows(machine) + SOME;
    let script = format!(
        "fanfare status --json | python3 -c \
         'import json, sys; sys.exit(json.load(sys.stdin)[\"replica\"][\"rows\"] < {wanted})'"
    );
    machine.until("rows come", &script);
}

/// The release after the installed one, as /packages/newer/NAME.deb.
fn newer(machine: &Container, name: &str) {
    machine.ok(&format!(
        "mkdir -p newer && dpkg-deb -R {name}_*.deb tree && \
         sed -i 's/^Version: .*/Version: 99.0.0-1/' tree/DEBIAN/control && \
         dpkg-deb --build tree newer/{name}.deb && rm -r tree"
    ));
}

#[test]
fn an_upgrade_under_load_costs_no_snapshot_and_no_event() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let more = "topics = [\"t1\"]\n[[handler]]\nmodule = \"file\"\npath = \"/var/lib/fanfare/rows.json\"\ninterval = 0.1";
    let machine = Container::with_both(&debs, more);
    for name in ["fanfare-agent", "fanfare-publisher"] {
        newer(&machine, name);
    }
    let mut load = machine.spawn(
        "python3 -c '\n\
         import json, os, time\n\
         n = 0\n\
         while not os.path.exists(\"/run/enough\"):\n\
         \x20   row = {\"table\": \"load\", \"key\": \"k%d\" % n, \"value\": n, \"topic\": \"t1\"}\n\
         \x20   print(json.dumps(row), flush=True)\n\
         \x20   n += 1\n\
         \x20   time.sleep(0.002)\n\
         ' | fanfare publish --from - --timeout 60",
    );
    more_rows(&machine);
    let pid = |unit: &str| machine.property(unit, "MainPID");
    let (agent, publisher) = (pid("fanfare-agent"), pid("fanfare-publisher"));
    let before = status(&machine);
    let incarnation = before["publishers"][0]["incarnation"].clone();
    let snapshots = recovery(&machine, "snapshots_total");
    let connects = before["publishers"][0]["counters"]["connects_total"].as_u64();

    // The publisher alone first: the same agent goes on with its successor.
    machine.ok("apt-get install -y ./newer/fanfare-publisher.deb");
    machine.until(
        "the agent is in step again",
        "fanfare publisher status && fanfare status",
    );
    more_rows(&machine);
    assert_ne!(pid("fanfare-publisher"), publisher);
    assert_eq!(pid("fanfare-agent"), agent);
    let after = status(&machine);
    assert_eq!(after["publishers"][0]["incarnation"], incarnation);
    assert!(after["publishers"][0]["counters"]["connects_total"].as_u64() > connects);
    assert_eq!(recovery(&machine, "snapshots_total"), snapshots);

    // Then the agent: its successor begins where it ended.
    machine.ok("apt-get install -y ./newer/fanfare-agent.deb");
    machine.until("the agent is in step again", "fanfare status");
    more_rows(&machine);
    assert_ne!(pid("fanfare-agent"), agent);
    assert_eq!(recovery(&machine, "snapshots_total"), 0);
    assert_eq!(recovery(&machine, "unrepaired_total"), 0);
    let versions = machine.ok("dpkg-query -W -f='${Version}\\n' fanfare-agent fanfare-publisher");
    assert_eq!(versions, "99.0.0-1\n99.0.0-1\n");

    machine.ok("touch /run/enough");
    let mut told = String::new();
    load.stdout
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(load.wait().unwrap().success(), "{told}");
    // Nothing of it is missing: keys and values are numbered without holes.
    machine.until(
        "the mirrored file has every row",
        "python3 -c '\n\
         import json, sys\n\
         rows = json.load(open(\"/var/lib/fanfare/rows.json\"))[\"load\"]\n\
         last = max(rows.values())\n\
         holes = [n for n in range(last) if rows.get(\"k%d\" % n) != n]\n\
         sys.exit(\"%d rows, holes: %s\" % (len(rows), holes[:5]) if holes else 0)'",
    );
    machine.ok("grep -q '\"k600\"' /var/lib/fanfare/rows.json");
    // What the operator has changed of the configuration is still there.
    machine.ok("test -f /etc/fanfare/conf.d/50-test.toml");
}

/// A file that the operator has edited is not overwritten.
#[test]
fn an_edited_configuration_survives() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    machine.install(&["fanfare-agent"]);
    machine.ok("sed -i 's/^#security = .*/security = \"none\"/' /etc/fanfare/agent.toml");
    machine.ok("systemctl restart fanfare-agent");
    machine.ok(
        "dpkg-deb -R fanfare-agent_*.deb tree && sed -i 's/^Version: .*/Version: 99.0.0-1/' tree/DEBIAN/control && \
         echo '# another text' >>tree/etc/fanfare/agent.toml && dpkg-deb --build tree newer.deb",
    );
    machine.ok("apt-get install -y -o Dpkg::Options::=--force-confold ./newer.deb");
    machine.ok("grep '^security = \"none\"' /etc/fanfare/agent.toml");
    machine.ok("test -f /etc/fanfare/agent.toml.dpkg-dist && systemctl is-active fanfare-agent");
}
