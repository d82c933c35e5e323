//! Both packages on one machine, talking to each other.

use crate::container::Container;
use crate::packages;

#[test]
fn rows_go_from_one_package_to_the_other() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::with_both(&debs, "topics = [\"t1\"]");
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        assert_eq!(machine.property(unit, "ActiveState"), "active");
        assert_eq!(machine.property(unit, "Type"), "notify");
        assert_eq!(machine.property(unit, "NRestarts"), "0");
        // Told by the daemon: without, Type=notify would have waited.
        assert_ne!(machine.property(unit, "StatusText"), "");
        let user = machine.ok(&format!(
            "ps -o user= -p $(systemctl show --value -p MainPID {unit})"
        ));
        assert_eq!(user.trim(), "fanfare");
    }
    machine.ok("fanfare publish --table lport --key p1 --value '{\"ip\":1}' --topic t1");
    machine.ok("fanfare publish --table lport --key p2 --value 2 --topic other");
    machine.ok("fanfare publish --table lport --key p3 --value 3");
    machine.until("the rows arrive", "test \"$(fanfare get lport p3)\" = 3");
    assert_eq!(machine.ok("fanfare get lport p1").trim(), "{\"ip\":1}");
    machine.fails("fanfare get lport p2");
    // The sandbox broke nothing that they tell about.
    let journal = machine
        .ok("journalctl --quiet --no-pager -p warning -u fanfare-agent -u fanfare-publisher");
    let bad = |line: &&str| !line.contains("plain text");
    let bad: Vec<_> = journal.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // What they do tell of, `security = "none"`, has its priority: else nothing would have been found above.
    for unit in ["fanfare-agent", "fanfare-publisher"] {
        let told = |priority: &str| {
            let script = "journalctl --quiet --no-pager -o cat";
            machine.ok(&format!("{script} -p {priority} -u {unit} || true"))
        };
        let journal = told("warning");
        assert!(journal.contains("plain text"), "{unit}:\n{journal}");
        // The journal takes the priority off the line.
        assert!(!journal.contains("<4>"), "{unit}:\n{journal}");
        assert!(!told("err").contains("plain text"), "{unit}");
    }
    let journal = machine.journal();
    for word in ["Operation not permitted", "Permission denied", "Read-only"] {
        assert!(!journal.contains(word), "{journal}");
    }
}
