//! An API server host: the service, what it keeps, and what is published through it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use fanfare::event::Stamp;
use fanfare::publisher::client::{ClientOptions, PublisherClient};
use fanfare::publisher::history::{History, Moment, Options, Replay};
use rustix::process::Signal;

use super::config::{Folder, PUBLISHER, TOOL};
use super::control::publisher_report;
use super::net::Place;
use super::port::Port;
use super::process::Process;

pub struct Host {
    pub folder: Folder,
    pub port: Port,
    pub state_dir: PathBuf,
    pub more: String,
    /// Where it runs, if not beside the test.
    pub place: Option<Place>,
    process: Option<Process>,
}

/// One journalled event.
pub struct Entry {
    pub table: String,
    pub key: String,
    pub value: Option<String>,
    pub stamp: Stamp,
}

/// What a service says at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub incarnation: u64,
    pub head: u64,
}

/// What a start may take: after a kill all that was written is read, a hundred thousand rows at most, by a
/// debug build on a machine that does much else.
const START: Duration = Duration::from_secs(120);

impl Host {
    /// A host whose service is not started; `more` are further keys of its configuration.
    pub fn new(more: &str) -> Host {
        let folder = Folder::new();
        Host {
            state_dir: folder.path("state"),
            folder,
            port: Port::free(),
            more: more.into(),
            place: None,
            process: None,
        }
    }

    pub fn running(more: &str) -> Host {
        let mut host = Host::new(more);
        host.start();
        host
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path("p.sock")
    }

    pub fn address(&self) -> String {
        let place = self.place.as_ref();
        place.map_or_else(|| "127.0.0.1".to_owned(), Place::address)
    }

    pub fn command(&self) -> Command {
        let config = format!(
            "publisher_bind_address = {:?}\npublisher_port = {}\n\
             publisher_multiproc_socket = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\n{}\n",
            self.address(),
            self.port.number,
            self.socket(),
            self.state_dir,
            self.folder.path("run"),
            self.more
        );
        let command = self.folder.command(PUBLISHER, &config);
        match &self.place {
            Some(place) => place.run(&command),
            None => command,
        }
    }

    /// Starts the service and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) -> Start {
        let process = Process::start(self.command());
        let number = |line: &str, name: &str| -> Option<u64> {
            let (_, rest) = line.split_once(name)?;
            rest.split(',').next()?.trim().parse().ok()
        };
        let start = process
            .err
            .find_within(START, "the service says where it stands", |line| {
                Some(Start {
                    incarnation: number(line, ", incarnation ")?,
                    head: number(line, "last event ")?,
                })
            });
        process
            .err
            .find_within(START, "the service is ready", |line| {
                line.contains("sends on").then_some(())
            });
        self.process = Some(process);
        start
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The most memory it has had, kB.
    pub fn peak_kb(&self) -> u64 {
        self.process.as_ref().unwrap().peak_kb()
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    /// Ends the service in order; gives what it said.
    #[track_caller]
    pub fn stop(&mut self, within: Duration) -> String {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        let status = process.ends_within(within);
        assert_eq!(status.code(), Some(0), "{}", process.errors());
        process.errors()
    }

    /// Ends the service in order, and gives what it kept.
    #[track_caller]
    pub fn stop_and_open(&mut self) -> History {
        self.stop(Duration::from_secs(3));
        self.history()
    }

    /// What the service kept, while it does not run.
    #[track_caller]
    pub fn history(&self) -> History {
        let options = Options::new(self.state_dir.join("publisher.redb"));
        History::open(options, Moment::now()).unwrap()
    }

    /// What the service says of itself.
    #[track_caller]
    pub fn report(&self) -> serde_json::Value {
        publisher_report(&self.folder)
    }

    pub fn options(&self) -> ClientOptions {
        ClientOptions::beside(&self.socket())
    }

    pub fn client(&self) -> PublisherClient {
        PublisherClient::new(self.options())
    }

    /// `fanfare publish` with these arguments.
    pub fn publish(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TOOL);
        command.arg("publish").arg("--socket").arg(self.socket());
        command.args(arguments);
        command
    }

    /// The same, until it ends.
    pub fn published(&self, arguments: &[&str]) -> Output {
        self.publish(arguments).output().unwrap()
    }

    /// Publishes one event and fails when it is not acknowledged.
    #[track_caller]
    pub fn set(&self, topic: &str, key: &str, value: &str) {
        let arguments = [
            "--table", "t", "--key", key, "--value", value, "--topic", topic,
        ];
        let output = self.published(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// The whole journal, which must be without a hole.
#[track_caller]
pub fn journal(history: &History) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::<Entry>::new(), history.floor() - 1);
    while after < history.head() {
        let Replay::Events { records, upto } = history.replay(None, after, 1 << 20).unwrap() else {
            panic!("events after {after} are gone");
        };
        for record in records.iter() {
            let event = record.event().unwrap();
            if let Some(last) = entries.last() {
                assert_eq!(record.stamp.seq, last.stamp.seq + 1);
            }
            entries.push(Entry {
                table: event.table.into(),
                key: event.key.into(),
                value: event.value.map(str::to_owned),
                stamp: record.stamp,
            });
        }
        after = upto;
    }
    entries
}

/// How often each key of `table` was journalled.
pub fn counts(entries: &[Entry], table: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.table == table) {
        *counts.entry(entry.key.clone()).or_default() += 1;
    }
    counts
}
