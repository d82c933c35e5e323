//! Installing, removing, purging.

use crate::container::Container;
use crate::packages;

/// A configuration that is not complete is told, once, and costs nothing else.
#[test]
fn a_fresh_agent_says_what_it_lacks_and_waits() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    let told = machine.install(&["fanfare-agent"]);
    assert!(
        told.contains("put what is missing into /etc/fanfare/conf.d/"),
        "{told}"
    );
    let unit = |name: &str| machine.property("fanfare-agent", name);
    assert_eq!(unit("ActiveState"), "failed");
    assert_eq!(unit("ExecMainStatus"), "2");
    assert_eq!(unit("UnitFileState"), "enabled");
    let journal = machine.journal();
    for key in ["publisher_keys", "node_key"] {
        assert!(journal.contains(key), "{journal}");
    }
    // Longer than RestartSec: nothing tries again what cannot succeed.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(
        (unit("NRestarts").as_str(), unit("ActiveState").as_str()),
        ("0", "failed")
    );

    // What the messages say to do is enough.
    machine.write("/etc/fanfare/conf.d/10-site.toml", "security = \"none\"");
    machine.ok("systemctl restart fanfare-agent");
    assert_eq!(unit("ActiveState"), "active");
    let told =
        machine.ok("stat -c '%n %a %U %G' /run/fanfare /var/lib/fanfare /run/fanfare/*.sock");
    for line in [
        "/run/fanfare 750 fanfare fanfare",
        "/var/lib/fanfare 750 fanfare fanfare",
        "/run/fanfare/agent-control.sock 660 fanfare fanfare",
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    // Everybody else needs the group.
    let told = machine.fails("setpriv --reuid=nobody --clear-groups fanfare topics list");
    assert!(told.contains("fanfare"), "{told}");
    machine.ok("setpriv --reuid=nobody --regid=fanfare --clear-groups fanfare topics list");
    for page in ["1 fanfare", "8 fanfare-agent", "5 fanfare-agent.toml"] {
        machine.ok(&format!("test -s \"$(man -w {page})\""));
    }
    machine.ok("bash -c '. /usr/share/bash-completion/completions/fanfare && complete -p fanfare'");
}

/// The tool is in both packages; either leaves without taking the other's.
#[test]
fn the_tool_stays_as_long_as_one_package_does() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "");
    machine.ok("readlink -f /usr/bin/fanfare | grep fanfare-agent");
    machine.ok("apt-get remove -y fanfare-agent");
    machine.ok("readlink -f /usr/bin/fanfare | grep fanfare-publisher; fanfare publisher status");
    machine.ok("test -s \"$(man -w 1 fanfare)\"");
    machine.ok("apt-get remove -y fanfare-publisher && test ! -e /usr/bin/fanfare");
}

#[test]
fn removing_keeps_the_state_and_purging_takes_it() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "");
    machine.ok("fanfare publish --table t --key k --value 1");
    machine.until("the row arrives", "test \"$(fanfare get t k)\" = 1");
    let id = machine.ok("cat /var/lib/fanfare/publisher.redb.id");

    machine.ok("apt-get remove -y fanfare-agent fanfare-publisher");
    machine.ok("! pgrep -x 'fanfare-agent|fanfare-publish'");
    machine.ok("cd /var/lib/fanfare && test -s publisher.redb && test -s replica.checkpoint");
    machine.ok("test -f /etc/fanfare/agent.toml && test -f /etc/fanfare/publisher.toml");

    // It is the same publisher with the same rows when it comes back.
    machine.install(&["fanfare-agent", "fanfare-publisher"]);
    machine.until("the row is back", "test \"$(fanfare get t k)\" = 1");
    assert_eq!(machine.ok("cat /var/lib/fanfare/publisher.redb.id"), id);

    // One goes for good and takes only what is its own.
    machine.ok("apt-get purge -y fanfare-agent");
    machine.ok("cd /var/lib/fanfare && test -s publisher.redb && test ! -e replica.checkpoint");
    machine.ok("fanfare publisher status && test ! -e /etc/fanfare/agent.toml");
    machine.ok("rm /etc/fanfare/conf.d/50-test.toml && apt-get purge -y fanfare-publisher");
    machine.ok("test ! -e /var/lib/fanfare && test ! -e /run/fanfare && test ! -e /etc/fanfare");
}
