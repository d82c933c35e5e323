//! The programs with their configuration in a folder of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use fanfare::config::ENV_PREFIX;
use tempfile::TempDir;

use super::process::Process;
use super::{counted, until};

pub const AGENT: &str = env!("CARGO_BIN_EXE_fanfare-agent");
pub const PUBLISHER: &str = env!("CARGO_BIN_EXE_fanfare-publisher");
pub const TOOL: &str = env!("CARGO_BIN_EXE_fanfare");

/// A program that is configured by what it is told, and by nothing in the environment of the tests.
pub fn configured(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with(ENV_PREFIX))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// A folder that goes away with its test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A program with `text` as its configuration, in plain text on the network unless that says
    /// something else.
    pub fn command(&self, program: &str, text: &str) -> Command {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        // No port but those a test chose: many run at the same time.
        let sync = match program == PUBLISHER && !text.contains("sync_port") {
            true => "sync_port = 0\n",
            false => "",
        };
        let metrics = match text.contains("metrics_address") {
            true => "",
            false => "metrics_address = \"\"\n",
        };
        // What a test says nothing of stays in its folder too.
        let own = |key: &str, at: &str| match text.contains(key) {
            true => String::new(),
            false => format!("{key} = {:?}\n", self.path(at)),
        };
        let state = own("state_dir", &format!("{name}-state"));
        let run = own("run_dir", "run");
        let security = match text.contains("security =") {
            true => "",
            false => "security = \"none\"\n",
        };
        let text = format!("{security}{sync}{metrics}{state}{run}{text}");
        let path = self.write(&format!("{name}.toml"), &text);
        let mut command = configured(program);
        command.arg("--config").arg(path);
        command
    }

    /// A publisher service and a worker whose lines it publishes.
    pub fn serve(&self, config: &str) -> Served {
        let at = |name: &str| format!("{:?}", self.path(name));
        let config = format!(
            "{config}publisher_multiproc_socket = {}\nstate_dir = {}\nrun_dir = {}\n",
            at("publisher.sock"),
            at("state"),
            at("run"),
        );
        let service = Process::start(self.command(PUBLISHER, &config));
        service.err.find("the service has started", |line| {
            line.contains("sends on").then_some(())
        });
        let mut worker = Command::new(TOOL);
        worker
            .args(["publish", "--from", "-", "--socket"])
            .arg(self.path("publisher.sock"));
        Served {
            service,
            worker: Process::start(worker),
        }
    }

    /// An agent that follows `publishers`, with the rows in `rows.json`.
    pub fn agent(&self, publishers: &[&str], topics: &[&str], more: &str) -> Process {
        Process::start(self.command(AGENT, &self.agent_config(publishers, topics, more)))
    }

    pub fn agent_config(&self, publishers: &[&str], topics: &[&str], more: &str) -> String {
        // Most peers in tests say no hello.
        let mut quick = String::new();
        for (key, value) in [("legacy_detect", 0.5), ("sync_timeout", 2.0)] {
            if !more.contains(key) {
                quick += &format!("{key} = {value:?}\n");
            }
        }
        format!(
            "publishers_ips = {publishers:?}\ntopics = {topics:?}\nreconnect_min = 0.02\n\
             reconnect_max = 0.3\n{quick}{more}\n[[handler]]\nmodule = \"file\"\npath = {:?}\n\
             interval = 0.05\n",
            self.path("rows.json")
        )
    }

    /// The rows in `rows.json`; nothing while there is no file.
    pub fn rows(&self) -> Option<Rows> {
        let text = std::fs::read(self.path("rows.json")).ok()?;
        Some(serde_json::from_slice(&text).expect("the rows file is always whole"))
    }

    /// Waits until the rows file is `rows`.
    #[track_caller]
    pub fn has_rows(&self, rows: &Rows) {
        until("the rows file is as expected", || {
            (self.rows().as_ref() == Some(rows)).then_some(())
        });
    }

    /// Waits until `key` of `table` is in the rows file.
    #[track_caller]
    pub fn has_key(&self, table: &str, key: &str) {
        until(&format!("{table} {key} is in the rows file"), || {
            self.rows()?.get(table)?.get(key).map(|_| ())
        });
    }
}

/// A running service.
pub struct Served {
    pub service: Process,
    worker: Process,
}

impl Served {
    /// Has the worker publish one event.
    pub fn write(&mut self, line: &str) {
        self.worker.write(line);
    }

    /// Ends the worker's input; it ends when everything is acknowledged.
    #[track_caller]
    pub fn all_acknowledged(&mut self) {
        self.worker.stdin = None;
        let status = self.worker.ends_within(super::PATIENCE);
        assert!(status.success(), "{}", self.worker.errors());
    }
}

/// What the file handler writes.
pub type Rows = BTreeMap<String, BTreeMap<String, serde_json::Value>>;

/// The number that `name` has in the agent's summary about `what`.
#[track_caller]
pub fn summary(agent: &Process, what: &str, name: &str) -> u64 {
    counted::of_agent(&agent.err.all(), what, name)
}
