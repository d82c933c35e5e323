//! An agent as a process of its own.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use super::config::{AGENT, Folder, Rows};
use super::net::Place;
use super::process::Process;
use super::{PATIENCE, counted, try_within, within};

/// An agent in a folder of its own, which may be started again.
pub struct Node {
    pub folder: Folder,
    config: String,
    /// Where it runs, if not beside the test.
    pub place: Option<Place>,
    pub process: Option<Process>,
}

impl Node {
    pub fn new(publishers: &[&str], topics: &[&str], more: &str) -> Node {
        let folder = Folder::new();
        let more = format!("max_idle_time = 1.0\nsync_timeout = 20.0\n{more}");
        let config = folder.agent_config(publishers, topics, &more);
        Node {
            folder,
            config,
            place: None,
            process: None,
        }
    }

    /// Changes its configuration, before it is started.
    pub fn configure(&mut self, change: impl FnOnce(&str) -> String) {
        self.config = change(&self.config);
    }

    pub fn start(&mut self) {
        let mut command = self.folder.command(AGENT, &self.config);
        if let Some(place) = &self.place {
            command = place.run(&command);
        }
        self.process = Some(Process::start(command));
    }

    pub fn started(publishers: &[&str], topics: &[&str], more: &str) -> Node {
        let mut node = Node::new(publishers, topics, more);
        node.start();
        node
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Waits until table `t` of the rows file is `rows`.
    #[track_caller]
    pub fn has(&self, rows: &BTreeMap<String, Value>) {
        let mut last = None;
        let found = try_within(PATIENCE * 3, || {
            let table = self.folder.rows()?.remove("t").unwrap_or_default();
            let same = table == *rows;
            last = Some(table);
            same.then_some(())
        });
        if found.is_none() {
            let have = last.unwrap_or_default();
            let missing = rows
                .iter()
                .filter(|(key, value)| have.get(*key) != Some(value));
            let extra = have.keys().filter(|key| !rows.contains_key(*key));
            panic!(
                "{} rows of {}; missing {:?}, extra {:?}; the agent: {}",
                have.len(),
                rows.len(),
                missing.take(5).collect::<Vec<_>>(),
                extra.take(5).collect::<Vec<_>>(),
                self.process
                    .as_ref()
                    .map_or_else(String::new, Process::errors)
            );
        }
    }

    pub fn rows(&self) -> Rows {
        self.folder.rows().unwrap_or_default()
    }

    /// Ends it in order.
    #[track_caller]
    pub fn stop(&mut self) -> Counted {
        self.process().signal(Signal::TERM);
        let process = self.process();
        let status = process.ends_within(PATIENCE);
        assert!(status.success(), "{}", process.errors());
        Counted {
            lines: self.process.take().unwrap().err.all(),
        }
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn says(&self, what: &str) {
        let process = self.process.as_ref().unwrap();
        within(PATIENCE, what, || {
            let lines = process.err.all();
            lines.iter().any(|line| line.contains(what)).then_some(())
        });
    }
}

/// What an agent said that it counted.
pub struct Counted {
    pub lines: Vec<String>,
}

impl Counted {
    /// The sum of `name` over all lines of its summary about `what`.
    #[track_caller]
    pub fn of(&self, what: &str, name: &str) -> u64 {
        counted::of_agent(&self.lines, what, name)
    }

    #[track_caller]
    pub fn recovery(&self, name: &str) -> u64 {
        self.of(" recovery ", name)
    }

    #[track_caller]
    pub fn resyncs(&self) -> u64 {
        self.of(" handler file:", "resyncs_total")
    }
}
