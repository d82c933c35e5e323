//! Two publishers with one id.

use std::path::Path;
use std::time::Duration;

use fanfare::event::hello::Hello;

use crate::rig::host::Host;
use crate::rig::listener::Listener;
use crate::rig::process::Process;

fn hello(host: &Host) -> Hello {
    let listener = Listener::joined(&host.port.uri(), &[]);
    listener.hellos().remove(0).1
}

/// Two hosts whose state is the same because one was copied to the other.
#[test]
fn a_copied_state_is_told_and_starts_a_new_incarnation() {
    let mut original = Host::running("");
    original.set("t1", "k", "1");
    original.stop(Duration::from_secs(3));
    let mut copy = Host::new("");
    std::fs::create_dir(&copy.state_dir).unwrap();
    self::copy(&original.state_dir, &copy.state_dir);
    let (first, second) = (original.start(), copy.start());
    // Both serve, and agents can tell them apart.
    assert!(second.incarnation > first.incarnation);
    let (first, second) = (hello(&original), hello(&copy));
    assert_eq!(first.publisher, second.publisher);
    assert!(second.incarnation > first.incarnation && second.floor > first.head + 1_000_000);
    copy.set("t1", "k", "2");
    original.set("t1", "k", "3");
    let said = copy.stop(Duration::from_secs(3));
    assert!(said.contains("this is a copy"), "{said}");
    assert!(said.contains(" state_copied=1"), "{said}");
    let said = original.stop(Duration::from_secs(3));
    assert!(!said.contains("a copy"), "{said}");
    // Told once: from then on it is at home there.
    let again = copy.start();
    assert_eq!(again.incarnation, second.incarnation);
}

/// As an operator brings a backup back: files removed, the backup's put there. A file system may give
/// the new one the number of the old one.
#[test]
fn a_backup_that_is_brought_back_starts_a_new_incarnation() {
    for (durability, killed) in [("os", false), ("sync", false), ("os", true), ("sync", true)] {
        let mut host = Host::running(&format!("durability = {durability:?}\n"));
        host.set("t1", "k", "1");
        host.stop(Duration::from_secs(3));
        let backup = host.folder.path("backup");
        std::fs::create_dir(&backup).unwrap();
        copy(&host.state_dir, &backup);
        let first = host.start();
        host.set("t1", "k", "2");
        let sent = hello(&host);
        match killed {
            true => host.kill(),
            false => drop(host.stop(Duration::from_secs(3))),
        }
        for name in ["publisher.redb", "publisher.redb.tail"] {
            let path = host.state_dir.join(name);
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
        copy(&backup, &host.state_dir);
        let again = host.start();
        assert!(
            again.incarnation > first.incarnation,
            "{durability} {killed}"
        );
        assert!(hello(&host).floor > sent.head + 1_000_000);
        host.set("t1", "k", "3");
        let said = host.stop(Duration::from_secs(3));
        assert!(said.contains("this is a copy"), "{said}");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn two_services_of_one_host_have_different_ids() {
    let (first, second) = (Host::running(""), Host::running(""));
    assert_ne!(hello(&first).publisher, hello(&second).publisher);
}

#[test]
fn a_second_one_with_the_same_id_on_one_host_is_refused() {
    let id = format!("publisher_id = \"{}\"\n", "c".repeat(32));
    let mut first = Host::running(&id);
    let second = Host::new(&id);
    let mut command = second.command();
    let run_dir = first.folder.path("run");
    command.arg("--set").arg(format!("run_dir={run_dir:?}"));
    let mut second = Process::start(command);
    assert_eq!(second.ends_within(Duration::from_secs(5)).code(), Some(1));
    let said = second.errors();
    let pid = format!("process {}", first.process().id());
    assert!(
        said.contains(&pid) && said.contains("set publisher_id"),
        "{said}"
    );
    first.set("t1", "k", "1");
}
