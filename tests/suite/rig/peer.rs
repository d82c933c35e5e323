//! The Python peers.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::process::Process;

pub fn python(script: &str) -> Command {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "peers", script]
        .iter()
        .collect();
    // Debian's own: its packages have libzmq's bindings.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(path);
    command
}

/// Kills a thread of a process; `false`, and a line that says so, where this may not be done.
#[track_caller]
pub fn kill_thread(pid: u32, name: &str) -> bool {
    let mut last = String::new();
    // It is to be met while it waits.
    let said = super::until("the thread is killed", || {
        let mut command = python("kill_thread.py");
        let output = command.arg(pid.to_string()).arg(name).output().unwrap();
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    });
    if let Some(why) = said.trim().strip_prefix("SKIPPED: ") {
        super::left_out(why);
        return false;
    }
    super::wait_for("the thread is gone", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let comm = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        let mut names = threads.flatten().filter_map(|thread| comm(thread).ok());
        !names.any(|found| found.trim() == name)
    });
    true
}

/// What is JSON: OpenPGM writes warnings to standard output too, in the middle of a line at worst.
fn answers(lines: &[String]) -> impl Iterator<Item = Value> {
    let json = |line: &String| line.find('{').map(|start| line[start..].to_owned());
    lines
        .iter()
        .filter_map(json)
        .filter_map(|text| serde_json::from_str(&text).ok())
}

/// `tests/peers/publisher.py`.
pub struct Publisher(Process);

impl Publisher {
    /// An XPUB that binds `uri`.
    pub fn bind(uri: &str) -> Publisher {
        Publisher::start(&[uri])
    }

    pub fn start(arguments: &[&str]) -> Publisher {
        let mut command = python("publisher.py");
        command.args(arguments);
        let publisher = Publisher(Process::start(command));
        publisher.says("ready");
        publisher
    }

    /// The first answer of this name.
    #[track_caller]
    pub fn says(&self, name: &str) -> Value {
        self.says_after(0, name)
    }

    #[track_caller]
    fn says_after(&self, start: usize, name: &str) -> Value {
        let mut seen = start;
        super::until(&format!("the publisher says {name}"), || {
            let new = self.out.from(seen);
            seen += new.len();
            answers(&new).find_map(|value| value.get(name).cloned())
        })
    }

    pub fn tell(&mut self, command: Value) {
        self.0.write(&command.to_string());
    }

    /// Tells it something and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, command: Value, name: &str) -> u64 {
        let start = self.out.len();
        self.tell(command);
        self.says_after(start, name).as_u64().unwrap()
    }

    fn reports(&self, kind: &str, topic: &str) -> Vec<u64> {
        answers(&self.out.all())
            .filter(|value| value[kind] == topic)
            .map(|value| value["sent"].as_u64().unwrap_or(0))
            .collect()
    }

    /// Waits for `count` subscriptions to exactly these bytes; gives how many events of the load
    /// were sent when the last of them came.
    #[track_caller]
    pub fn subscribed(&self, topic: &str, count: usize) -> u64 {
        super::until(&format!("{count} subscriptions to {topic:?}"), || {
            let reports = self.reports("subscribed", topic);
            reports.get(count - 1).copied()
        })
    }

    /// Waits for an unsubscription.
    #[track_caller]
    pub fn unsubscribed(&self, topic: &str) {
        super::wait_for(&format!("the unsubscription from {topic:?}"), || {
            !self.reports("unsubscribed", topic).is_empty()
        });
    }

    /// Waits for the subscriptions of one agent: to each topic as Fanfare and as legacy publishers
    /// need it.
    #[track_caller]
    pub fn has_agent(&self, topics: &[&str]) {
        for topic in topics {
            self.subscribed(&format!("{topic}\0"), 1);
            self.subscribed(topic, 1);
        }
    }

    pub fn set(&mut self, topic: &str, key: &str, value: &str) {
        self.tell(json!({
            "op": "event", "table": "t", "key": key, "action": "set", "value": value, "topic": topic,
        }));
    }

    pub fn delete(&mut self, topic: &str, key: &str) {
        self.tell(json!({
            "op": "event", "table": "t", "key": key, "action": "delete", "topic": topic,
        }));
    }

    pub fn raw(&mut self, frames: &[&[u8]]) {
        let hex = |frame: &&[u8]| frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let frames: Vec<String> = frames.iter().map(hex).collect();
        self.tell(json!({"op": "raw", "frames": frames}));
    }
}

impl Deref for Publisher {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Publisher {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}

/// `tests/peers/subscriber.py`.
pub struct Subscriber(Process);

impl Subscriber {
    pub fn connect(uri: &str, topics: &[&str]) -> Subscriber {
        let mut command = python("subscriber.py");
        command.arg(uri);
        for topic in topics {
            let hex: String = topic.bytes().map(|byte| format!("{byte:02x}")).collect();
            command.arg(hex);
        }
        let subscriber = Subscriber(Process::start(command));
        subscriber.out.find("the subscriber is ready", |line| {
            line.contains("ready").then_some(())
        });
        subscriber
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Value> {
        let lines = self.0.out.from(1);
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How much has come so far.
    pub fn count(&self) -> usize {
        self.0.out.len() - 1
    }
}

impl Deref for Subscriber {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.0
    }
}
