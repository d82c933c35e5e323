//! A publisher host and agents that follow it.

use std::collections::BTreeMap;

use fanfare::event::Event;
use fanfare::publisher::client::{ClientError, PublisherClient};
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::config::{Folder, Rows};
use crate::rig::net::Place;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::{PATIENCE, at_most, counted, within};
use crate::service::host::Host;

/// An API server host with a sync service.
pub struct Cluster {
    pub host: Host,
    pub sync: Port,
}

impl Cluster {
    pub fn new(more: &str) -> Cluster {
        let sync = Port::free();
        let more = format!(
            "hello_interval = 0.2\nmax_idle_time = 1.0\nsync_port = {}\n{more}",
            sync.number
        );
        Cluster {
            host: Host::new(&more),
            sync,
        }
    }

    pub fn running(more: &str) -> Cluster {
        let mut cluster = Cluster::new(more);
        cluster.host.start();
        cluster
    }

    pub fn uri(&self) -> String {
        format!("tcp://{}:{}", self.host.address(), self.host.port.number)
    }

    /// Where its sync service listens.
    pub fn sync_uri(&self) -> String {
        self.sync.uri()
    }

    /// Publishes `{"n": number}` as rows `k<number % keys>` of table `t`, and waits for all
    /// acknowledgements.
    #[track_caller]
    pub fn publish(&self, topic: &str, numbers: std::ops::Range<u64>, keys: u64) {
        let client = self.host.client();
        publish(&client, topic, numbers, keys);
        flush(&client);
    }

    #[track_caller]
    pub fn delete(&self, topic: &str, key: &str) {
        let client = self.host.client();
        client
            .publish(&Event::delete("t", key).on(topic), None)
            .unwrap();
        flush(&client);
    }
}

#[track_caller]
pub fn publish(client: &PublisherClient, topic: &str, numbers: std::ops::Range<u64>, keys: u64) {
    for n in numbers {
        let (key, value) = (format!("k{}", n % keys), format!("{{\"n\": {n}}}"));
        let event = Event::set("t", &key, &value).on(topic);
        loop {
            match client.publish(&event, None) {
                Ok(_) => break,
                Err(ClientError::SpoolFull { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[track_caller]
pub fn flush(client: &PublisherClient) {
    let summary = client.flush(at_most(PATIENCE * 4)).unwrap();
    assert_eq!(summary.refused, 0);
}

/// What [`Cluster::publish`] of `0..count` leaves.
pub fn rows(count: u64, keys: u64) -> BTreeMap<String, Value> {
    (count.saturating_sub(keys)..count)
        .map(|n| (format!("k{}", n % keys), serde_json::json!({ "n": n })))
        .collect()
}

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
        let mut command = self.folder.command(crate::rig::config::AGENT, &self.config);
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
        let found = crate::rig::try_within(PATIENCE * 3, || {
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
