//! The agent with a module of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::config::{AGENT, Folder};
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::until;

/// The example, built beside the program. It is not built with the tests when only some are chosen.
fn program() -> PathBuf {
    let folder = Path::new(AGENT).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "custom-agent"])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Those of the tests may suit no build script.
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success());
    folder.join("examples/custom-agent")
}

#[test]
fn the_example_is_an_agent_with_one_module_more() {
    let source = super::file("examples/custom-agent/main.rs");
    let lines = std::fs::read_to_string(source).unwrap().lines().count();
    assert!(lines < 60, "{lines} lines are no short example");
    let program = program();
    let (port, folder) = (Port::free(), Folder::new());
    let mut publisher = folder.serve(&format!(
        "publisher_bind_address = \"127.0.0.1\"\npublisher_port = {}\n",
        port.number
    ));
    let own = "[[handler]]\nmodule = \"ports\"\ngreeting = \"hello\"\ntables = [\"lport\"]\n";
    let config = folder.agent_config(&[&port.uri()], &["t1"], own);
    let mut agent = Process::start(folder.command(program.to_str().unwrap(), &config));
    let mut sent = 0;
    until("both modules have heard of the port", || {
        sent += 1;
        publisher.write(&format!(
            r#"{{"table": "lport", "key": "p1", "value": {sent}, "topic": "t1"}}"#
        ));
        let said = agent.out.all();
        let counted = said.iter().any(|line| line == "hello: 1 of lport");
        (counted && folder.rows()?.contains_key("lport")).then_some(())
    });
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(Duration::from_secs(3)).success());
}
