//! Configuration as an operator meets it: faults, exit statuses, logging.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::config::{AGENT, Folder, PUBLISHER, TOOL, configured};
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::wait_for;

const LIMIT: Duration = Duration::from_secs(5);

/// Exit status and what is said on standard error.
fn outcome(command: Command) -> (Option<i32>, Vec<String>) {
    let mut process = Process::start(command);
    let code = process.ends_within(LIMIT).code();
    (code, process.err.all())
}

#[test]
fn all_faults_at_once_and_the_same_from_check_config_and_a_start() {
    let folder = Folder::new();
    let agent = folder.write(
        "agent.toml",
        "publishers_ips = [\"10.0.0.1\", \"tcp://*:1\", \"norm://x\"]\npublisher_port = 99999\n\
         topicz = [\"a\"]\nmax_message_size = -1\nreconnect_min = 5.0\nreconnect_max = 1.0\n\
         node_key = \"n\"\n[[handler]]\nmodule = \"fil\"\n[[handler]]\nmodule = \"exec\"\ncommand = \"ls -l\"\n",
    );
    let publisher = folder.write(
        "publisher.toml",
        "publisher_port = 0\nauthorized_keys = \"a\"\npublisher_bind_address = \"api1.example.org\"\nsend_hwm = \"x\"\n",
    );
    for (file, program, least) in [(&agent, AGENT, 9), (&publisher, PUBLISHER, 4)] {
        let mut start = Command::new(program);
        start.arg("--config").arg(file);
        let (code, told) = outcome(start);
        assert_eq!(code, Some(2), "{told:?}");
        assert!(told.len() >= least, "{} faults: {told:#?}", told.len());
        let name = file.display().to_string();
        assert!(
            told.iter()
                .all(|line| line.starts_with(&name) || line.starts_with("built-in"))
        );
        let mut check = Command::new(TOOL);
        check.arg("check-config").arg(file);
        assert_eq!(outcome(check), (Some(2), told));
    }
}

/// The service manager gives a daemon its journal as standard error, and says so.
#[test]
fn the_journal_is_told_the_priority_of_each_line() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let (bad, good) = (
        "topicz = [\"a\"]\nconnect_timeot = 1.0\n",
        "security = \"none\"\n",
    );
    // A folder that nobody can make.
    let more = "run_dir = \"/proc/none\"\nstate_dir = \"/proc/none\"\n";
    for (text, code, begins) in [
        (bad.to_owned(), 2, ["<3>", "<3>"]),
        (
            format!("{good}{more}"),
            1,
            ["<4>[WARN  fanfare", "<3>[ERROR fanfare"],
        ),
    ] {
        for journal in [true, false] {
            let file = folder.write("agent.toml", &text);
            let path = folder.path("journal");
            let told = std::fs::File::create(&path).unwrap();
            let (device, inode) = {
                let found = told.metadata().unwrap();
                (found.dev(), found.ino())
            };
            // What is inherited, and led elsewhere.
            let inode = if journal { inode } else { inode + 1 };
            let mut start = configured(AGENT);
            start
                .arg("--config")
                .arg(&file)
                .env("JOURNAL_STREAM", format!("{device}:{inode}"))
                .env_remove("RUST_LOG")
                .stderr(told);
            assert_eq!(start.status().unwrap().code(), Some(code));
            let told = std::fs::read_to_string(&path).unwrap();
            if !journal {
                assert!(!told.contains("<3>"), "{told}");
                continue;
            }
            assert!(told.lines().all(|line| line.starts_with('<')), "{told}");
            for begin in begins {
                assert!(told.lines().any(|line| line.starts_with(begin)), "{told}");
            }
        }
    }
}

#[test]
fn a_good_one_is_called_good() {
    let folder = Folder::new();
    let text = folder.agent_config(&["api1:9000", "fd00::1"], &["t1"], "security = \"none\"");
    let file = folder.write("agent.toml", &text);
    let mut check = Command::new(TOOL);
    check.arg("check-config").arg(&file);
    let mut process = Process::start(check);
    assert!(process.ends_within(LIMIT).success());
    let ok = format!("{}: ok, for the agent", file.display());
    assert_eq!(process.out.all(), [ok]);
    assert!(
        !folder.path("rows.json").exists(),
        "checking changes nothing"
    );
}

/// That a file speaks of publishers does not make it the publisher's.
#[test]
fn an_agents_files_are_checked_as_an_agents() {
    let folder = Folder::new();
    let agent = folder.write("agent.toml", "security = \"none\"\n");
    let common = folder.write("10-publishers.toml", "publishers_ips = [\"norm://x\"]\n");
    let publisher = folder.write("publisher.toml", "security = \"none\"\n");
    let check = |files: &[&std::path::Path], more: &[&str]| {
        let mut check = Command::new(TOOL);
        check.arg("check-config").args(files).args(more);
        let mut process = Process::start(check);
        let code = process.ends_within(LIMIT).code();
        (code, process.out.all(), process.err.all().join("\n"))
    };
    let (code, _, why) = check(&[&agent, &common], &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("publishers_ips"), "{why}");
    let both = folder.write("10-agent.toml", "security = \"none\"\n");
    let (code, said, why) = check(&[&publisher, &both], &[]);
    assert_eq!(code, Some(0), "{why}");
    assert!(said[0].ends_with(": ok, for the publisher"), "{said:?}");
    let (code, _, why) = check(&[&agent, &publisher], &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("--for agent"), "{why}");
    let (code, said, why) = check(&[&both], &["--for", "publisher"]);
    assert_eq!((code, said.len()), (Some(0), 1), "{why}");
    let (code, said, why) = check(&[&both], &[]);
    assert_eq!(code, Some(0), "{why}");
    assert!(said[0].ends_with(": ok, for the agent"), "{said:?}");
}

#[test]
fn an_unknown_variable_of_the_environment_is_a_fault() {
    let folder = Folder::new();
    let mut command = folder.command(AGENT, "publishers_ips = []\n");
    command.env("FANFARE_TOPICZ", "x");
    let (code, told) = outcome(command);
    assert_eq!(code, Some(2));
    assert!(
        told[0].contains("FANFARE_TOPICZ") && told[0].contains("`topics`"),
        "{told:?}"
    );
}

/// Everything an agent logs, from its start to its end.
fn logged(prepare: impl FnOnce(&mut Command)) -> String {
    let folder = Folder::new();
    let text = folder.agent_config(&["127.0.0.1:1"], &[], "log_level = \"info\"");
    let mut command = folder.command(AGENT, &text);
    prepare(&mut command);
    let mut agent = Process::start(command);
    // The rows file is there once the handler has started over for the first time.
    wait_for("the agent runs", || folder.path("rows.json").exists());
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(LIMIT).success());
    agent.errors()
}

#[test]
fn the_flag_wins_over_rust_log_which_wins_over_the_configuration() {
    let started = |log: &str| log.contains("fanfare-agent 0.1.0 started");
    let debug = |log: &str| log.contains("handler file: starts over (");

    let log = logged(|_| {});
    assert!(started(&log) && !debug(&log), "{log}");
    let log = logged(|command| {
        command.env("RUST_LOG", "error");
    });
    assert!(!started(&log), "{log}");
    let log = logged(|command| {
        command.env("RUST_LOG", "fanfare=debug");
    });
    assert!(started(&log) && debug(&log), "{log}");
    let log = logged(|command| {
        command
            .env("RUST_LOG", "off")
            .args(["--log-level", "debug"]);
    });
    assert!(started(&log) && debug(&log), "{log}");
}

/// Each start says so, not only the first one, nor only a check of the file.
#[test]
fn each_start_without_security_warns() {
    let folder = Folder::new();
    let port = Port::free();
    let agent = "security = \"none\"\npublishers_ips = []\n";
    let publisher = format!(
        "security = \"none\"\npublisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n\
         publisher_multiproc_socket = {:?}\n",
        port.number,
        folder.path("publisher.sock"),
    );
    for (program, config, up) in [
        (AGENT, agent, "started"),
        (PUBLISHER, &publisher, "sends on"),
    ] {
        for start in 1..=2 {
            let mut daemon = Process::start(folder.command(program, config));
            daemon
                .err
                .find("it has started", |line| line.contains(up).then_some(()));
            daemon.signal(Signal::TERM);
            assert!(daemon.ends_within(LIMIT).success(), "{}", daemon.errors());
            let said = daemon.err.all();
            let warns = |line: &&String| {
                line.contains("WARN")
                    && line.contains("security = \"none\": events travel in plain text")
            };
            assert_eq!(
                said.iter().filter(warns).count(),
                1,
                "start {start}: {said:#?}"
            );
        }
    }
}

#[test]
fn what_is_in_the_way_of_a_start_is_status_1() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!(
        "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {port}\n\
         publisher_multiproc_socket = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\n",
        folder.path("publisher.sock"),
        folder.path("state"),
        folder.path("run"),
    );
    let (code, told) = outcome(folder.command(PUBLISHER, &config));
    assert_eq!(code, Some(1));
    assert!(told.iter().any(|line| line.contains("in use")), "{told:?}");
}
