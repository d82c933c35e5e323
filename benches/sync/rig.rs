//! A publisher service as a process, and agents to follow it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::agent::follower::{Followed, ZmqSync};
use fanfare::agent::{Agent, Parts, RecoveryParts, checkpoint, recovery};
use fanfare::event::Event;
use fanfare::publisher::client::{ClientError, ClientOptions, PublisherClient};
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::endpoint::{Defaults, Endpoint, Transport};
use fanfare::pubsub::{Source, SubscriberOptions};
use fanfare::security::party::NodeKeys;
use rustix::process::{Pid, Signal, kill_process};

pub const PATIENCE: Duration = Duration::from_secs(120);
pub const TOPIC: &str = "t1";
pub const TABLE: &str = "lport";

/// Waits until `holds`, looking every millisecond.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A JSON object of about 300 bytes, such as a port of a virtual machine is: names, addresses and
/// numbers that differ, in a frame that does not.
pub fn value(number: u64) -> String {
    let hex = |bytes: usize| -> String {
        let digits = std::iter::repeat_with(|| format!("{:02x}", fastrand::u8(..)));
        digits.take(bytes).collect()
    };
    let head = format!(
        "{{\"id\":\"{}\",\"n\":{number},\"lswitch\":\"{}\",\"macs\":[\"fa:16:3e:{}\"],\"ips\":[\"10.{}.{}.{}\"],\
         \"enabled\":true,\"port_security_enabled\":true,\"device_owner\":\"compute:nova\",\"device_id\":\"{}\"",
        hex(16),
        hex(16),
        hex(3),
        fastrand::u8(..),
        fastrand::u8(..),
        fastrand::u8(..),
        hex(16),
    );
    format!(
        "{head},\"profile\":\"{}\"}}",
        "-".repeat(300_usize.saturating_sub(head.len() + 15))
    )
}

pub fn key(number: u64) -> String {
    format!("{number:036}")
}

pub struct Publisher {
    folder: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
    sync: u16,
}

impl Publisher {
    /// Starts it; `more` are further keys of its configuration.
    pub fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, sync) = (free_port(), free_port());
        let at = |name: &str| folder.path().join(name);
        let security = match more.contains("security =") {
            true => "",
            false => "security = \"none\"\n",
        };
        let text = format!(
            "{security}metrics_address = \"\"\ndurability = \"os\"\n\
             publisher_bind_address = \"127.0.0.1\"\npublisher_port = {port}\nsync_port = {sync}\n\
             publisher_multiproc_socket = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\n{more}",
            at("s"),
            at("state"),
            at("run"),
        );
        std::fs::write(at("publisher.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-publisher"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FANFARE_") {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(at("publisher.toml"));
        command.stderr(File::create(at("log")).unwrap());
        let child = command.spawn().unwrap();
        let publisher = Publisher {
            folder,
            child: Some(child),
            port,
            sync,
        };
        wait_for("the service is ready", || {
            publisher.log().contains("sends on")
        });
        publisher
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn uri(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Where its sync service listens.
    pub fn sync_uri(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.sync)
    }

    pub fn client(&self) -> PublisherClient {
        PublisherClient::new(ClientOptions::beside(&self.folder.path().join("s")))
    }

    /// Publishes events `numbers`, over `rows` rows; returns when all are acknowledged.
    pub fn publish(&self, numbers: std::ops::Range<u64>, rows: u64) {
        let client = self.client();
        let text = value(0);
        for number in numbers {
            let (key, own);
            key = self::key(number % rows);
            let text = match rows > 10_000 {
                // Rows that are to be loaded are not all the same.
                true => {
                    own = value(number);
                    &own
                }
                false => &text,
            };
            let event = Event::set(TABLE, &key, text).on(TOPIC);
            loop {
                match client.publish(&event, None) {
                    Ok(_) => break,
                    Err(ClientError::SpoolFull { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let summary = client.flush(PATIENCE).unwrap();
        assert_eq!((summary.pending, summary.refused), (0, 0));
    }

    /// Ends it; gives what it counted.
    pub fn stop(mut self) -> String {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        self.log()
    }
}

/// A number in what a program said that it counted; 0 where it was left out.
pub fn counted(log: &str, name: &str) -> u64 {
    let mut words = log
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let found = words.find(|(found, _)| *found == name);
    found.map_or(0, |(_, value)| value.parse().unwrap())
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An agent without handlers: what it costs to be given everything, and nothing else.
pub struct Follower(Agent);

impl Follower {
    /// Follows the publisher at `uri`; with a folder, from where it left off.
    pub fn start(uri: &str, receive_hwm: i32, folder: Option<PathBuf>) -> Self {
        Follower::secured(uri, receive_hwm, folder, None)
    }

    /// The same with keys.
    pub fn secured(
        uri: &str,
        receive_hwm: i32,
        folder: Option<PathBuf>,
        keys: Option<Arc<NodeKeys>>,
    ) -> Self {
        let defaults = Defaults {
            transport: Transport::Tcp,
            port: 1,
        };
        let context = zmq::Context::new();
        let agent = Agent::start(Parts {
            driver: Box::new(ZmqPubSub::with_context(&context)),
            subscriber: SubscriberOptions {
                receive_hwm,
                keys: keys.clone(),
                ..SubscriberOptions::default()
            },
            publishers: vec![Endpoint::parse(uri, &defaults).unwrap()],
            discovery: None,
            topics: vec![TOPIC.into()],
            recovery: Some(RecoveryParts {
                transport: Arc::new(ZmqSync::new(&context, keys)),
                options: recovery::Options::default(),
                sync_timeout: PATIENCE,
                legacy_resync: PATIENCE,
                northbound: None,
                checkpoint: folder.map(|folder| checkpoint::Options {
                    folder,
                    every: PATIENCE,
                }),
            }),
            handlers: Vec::new(),
            stop_timeout: Duration::from_secs(10),
        });
        Follower(agent.unwrap())
    }

    pub fn source(&self) -> Arc<Source> {
        self.0.sources().remove(0)
    }

    pub fn followed(&self) -> Arc<Followed> {
        wait_for("the reader has begun", || !self.0.followed().is_empty());
        self.0.followed().remove(0).1
    }

    pub fn rows(&self) -> u64 {
        self.0.hub().metrics.rows.get()
    }

    /// Waits until it has all of so many rows and events.
    pub fn has(&self, rows: u64, head: u64) {
        let followed = self.followed();
        let metrics = &followed.metrics;
        wait_for("the agent has everything", || {
            metrics.in_sync.get() == 1 && self.rows() >= rows && metrics.head_seq.get() >= head
        });
    }

    pub fn stop(self) {
        assert_eq!(self.0.stop(), 0);
    }
}
