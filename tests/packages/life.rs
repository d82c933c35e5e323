//! What the service manager does to a running daemon.

use crate::container::Container;
use crate::packages;

#[test]
fn one_that_hangs_is_killed_and_comes_back() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "");
    machine.ok("fanfare publish --table t --key k --value 1");
    machine.until("the row arrives", "test \"$(fanfare get t k)\" = 1");
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        machine.write(
            &format!("/etc/systemd/system/{unit}.service.d/quick.conf"),
            "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms",
        );
    }
    machine.ok("systemctl daemon-reload && systemctl restart fanfare-publisher fanfare-agent");
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        machine.until(
            "both are in step",
            "fanfare publisher status && fanfare status",
        );
        let pid = machine.property(unit, "MainPID");
        machine.ok(&format!("kill -STOP {pid}"));
        machine.until(
            "it is started again",
            &format!("test $(systemctl show --value -p NRestarts {unit}) = 1 && systemctl is-active {unit}"),
        );
        assert_ne!(machine.property(unit, "MainPID"), pid);
        let journal = machine.ok(&format!("journalctl --quiet --no-pager -u {unit}"));
        for text in ["Watchdog timeout", "Failed with result 'watchdog'"] {
            assert!(journal.contains(text), "{text}:\n{journal}");
        }
    }
    machine.until(
        "both are in step",
        "fanfare publisher status && fanfare status",
    );
    machine.until("the row is still there", "test \"$(fanfare get t k)\" = 1");
    // Two more periods of the watchdog: a daemon that lives is left alone.
    std::thread::sleep(std::time::Duration::from_secs(4));
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        assert_eq!(machine.property(unit, "NRestarts"), "1");
    }
}

/// Type=notify: what is ordered after the unit waits for as much as `ready` says.
#[test]
fn it_is_up_when_ready_says_so() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "");
    let state = |unit: &str| machine.property(unit, "ActiveState");
    machine.ok("systemctl stop fanfare-publisher fanfare-agent");
    // "started", the default: it need not be in step.
    machine.ok("systemctl start fanfare-agent");
    assert_eq!(state("fanfare-agent"), "active");
    assert!(machine.fails("fanfare status").contains("not in step"));
    machine.until(
        "the service manager is told why",
        "systemctl show --value -p StatusText fanfare-agent | grep '0 of 1 publishers connected.*not in step'",
    );

    machine.write("/etc/fanfare/conf.d/60-ready.toml", "ready = \"in-sync\"");
    machine.write(
        "/etc/systemd/system/follower.service",
        "[Unit]\nAfter=fanfare-agent.service\nRequires=fanfare-agent.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/fanfare status",
    );
    machine.ok("systemctl stop fanfare-agent && systemctl daemon-reload");
    machine.ok("systemctl start --no-block follower");
    machine.until(
        "the agent tries",
        "systemctl show -p SubState -p StatusText fanfare-agent | tr '\n' ' ' | grep 'not in step.*SubState=start'",
    );
    std::thread::sleep(std::time::Duration::from_secs(2));
    let waiting = (state("fanfare-agent"), state("follower"));
    assert_eq!(waiting, ("activating".into(), "inactive".into()));

    machine.ok("systemctl start fanfare-publisher");
    machine.until("what waited runs", "systemctl is-active follower");
    assert_eq!(state("fanfare-agent"), "active");
    assert_eq!(machine.property("fanfare-agent", "NRestarts"), "0");
}

#[test]
fn a_reload_changes_the_running_daemon() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "topics = [\"t1\"]");
    let pid = machine.property("fanfare-agent", "MainPID");
    let topics = "fanfare topics list --json";
    machine.write(
        "/etc/fanfare/conf.d/50-test.toml",
        "security = \"none\"\ntopics = [\"t2\"]",
    );
    machine.ok("systemctl reload fanfare-agent fanfare-publisher");
    machine.until("the topic is followed", &format!("{topics} | grep t2"));
    machine.ok(&format!("! {topics} | grep t1"));
    machine.ok("fanfare publish --table t --key k --value 1 --topic t2");
    machine.until("its rows arrive", "test \"$(fanfare get t k)\" = 1");

    machine.write(
        "/etc/fanfare/conf.d/50-test.toml",
        "security = \"none\"\ntopic = [\"t3\"]",
    );
    machine.ok("systemctl reload fanfare-agent");
    machine.until(
        "the new file is refused",
        "journalctl -p err -u fanfare-agent | grep 'did you mean `topics`'",
    );
    machine.until("the old one is in force", &format!("{topics} | grep t2"));
    assert_eq!(machine.property("fanfare-agent", "ActiveState"), "active");
    assert_eq!(machine.property("fanfare-agent", "MainPID"), pid);
}

/// What a machine's restart is to the daemons.
#[test]
fn a_stop_is_orderly_and_quick() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "");
    machine.ok("systemctl stop fanfare-agent");
    // The publisher's sockets are in the same folder.
    machine.ok("fanfare publisher status && fanfare publish --table t --key k --value 1");
    machine.ok("systemctl stop fanfare-publisher");
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        assert_eq!(machine.property(unit, "Result"), "success");
        assert_eq!(machine.property(unit, "ExecMainStatus"), "0");
    }
    let told = machine.fails("fanfare status");
    assert!(told.contains("run"), "{told}");
    machine.ok("systemctl start fanfare-publisher fanfare-agent");
    machine.until("the row is there", "test \"$(fanfare get t k)\" = 1");
}
