//! The agent's keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::common::{self, Security, check_protected, security_warning};
use super::handlers::{self, HandlerConfig};
use super::keys::{key, settings};
use super::kind::Kind;
use super::layers::Layers;
use super::load::Program;
use super::publisher::PUBLISHER_KEYS;
use super::ready::Ready;
use super::secure;
use super::sources::Sources;
use super::{Faults, Known};
use crate::event::SEND_ALL;
use crate::pubsub::endpoint::{Defaults, Endpoint, Transport};

settings! {
    /// What `fanfare-agent` is told.
    pub struct AgentConfig,
    /// The keys of agent.toml.
    AGENT_KEYS {
        pub_sub_driver: String = key(
            r#""zmq_pubsub_driver""#,
            Kind::Driver,
            "By which driver events come from the publishers.",
        ),
        publishers_ips: Vec<String> = key(
            r#"["127.0.0.1"]"#,
            Kind::Addresses,
            "The publishers: address or host name, with or without a port; IPv6 as \"fd00::1\" or\n\
             \"[fd00::1]:8866\"; or a full tcp://…, ipc:///path or epgm://interface;group:port.\n\
             The agent subscribes to every one of them.",
        ).live(),
        publisher_port: u16 = key(
            "8866",
            Kind::Port,
            "The port of publishers that are listed without one.",
        ).live(),
        publisher_transport: Transport = key(
            r#""tcp""#,
            common::TRANSPORTS,
            "How publishers that are listed without a scheme are reached. epgm is multicast and has\n\
             no security at all; use it on a network of its own only.",
        ).live(),
        topics: Vec<String> = key(
            r#"["D"]"#,
            Kind::Topics,
            "The topics (tenants, as a rule) whose events this node needs. D, which goes to all, is\n\
             subscribed to whether it is listed or not.",
        ).live(),
        enable_selective_topology_distribution: bool = key(
            "true",
            Kind::Flag,
            "Whether publishers send by topic. false subscribes to D only, for publishers that send\n\
             everything to everyone.",
        ).live(),
        security: Security = common::SECURITY,
        node_key: PathBuf = secure::NODE_KEY,
        publisher_keys: BTreeMap<String, Vec<String>> = secure::PUBLISHER_KEYS,
        state_dir: PathBuf = common::STATE_DIR,
        run_dir: PathBuf = common::RUN_DIR,
        log_level: String = common::LOG_LEVEL.live(),
        socket_group: String = key(
            r#""fanfare""#,
            Kind::Text,
            "The group whose members may use the control socket. Where it does not exist, only the user\n\
             that the agent runs as may.",
        ),
        socket_users: Vec<String> = common::SOCKET_USERS,
        metrics_address: Option<SocketAddr> = key(
            r#""127.0.0.1:9866""#,
            Kind::Listen,
            common::METRICS_DOC,
        ),
        ready: Ready = key(
            r#""started""#,
            Kind::Choice(&["started", "in-sync"]),
            "When the service manager is told that the agent is up. started: when it runs. in-sync: when\n\
             /readyz says so too, for units that must not start before; then a publisher that is down\n\
             when the node boots holds them up (TimeoutStartSec).",
        ),
        stuck_timeout: Duration = common::STUCK_TIMEOUT.live(),
        tombstone_ttl: Duration = common::TOMBSTONE_TTL.live(),
        connect_timeout: Duration = key(
            "5.0",
            Kind::Seconds(0.1, 300.0),
            "How long a publisher's name may take to resolve and a connection to be made, handshake\n\
             included, before it is tried again.",
        ),
        reconnect_min: Duration = key(
            "0.1",
            Kind::Seconds(0.01, 60.0),
            "The first wait before a publisher is tried again. It doubles up to reconnect_max and is\n\
             jittered, so that a publisher's restart does not bring all agents at once.",
        ),
        reconnect_max: Duration = key(
            "10.0",
            Kind::Seconds(0.01, 3600.0),
            "The longest wait before a publisher is tried again.",
        ),
        max_idle_time: Duration = common::MAX_IDLE_TIME,
        legacy_detect: Duration = key(
            "3.0",
            Kind::Seconds(0.1, 300.0),
            "A publisher that has said no hello for so long after connecting is taken for one that\n\
             never does, such as Dragonflow's; losses then show only at the next resync.",
        ),
        db_sync_time: Duration = key(
            "60.0",
            Kind::Seconds(0.1, 86400.0),
            "The time between two resyncs of all handlers while a publisher says no hello, a third more\n\
             or less: nothing else covers what such a publisher sent and the agent missed.",
        ),
        nb_store: String = key(
            r#""none""#,
            Kind::Choice(&["none", "embedded"]),
            "The northbound store from which the rows of publishers that say no hello are read before such\n\
             a resync. embedded: the file nb.redb in state_dir, which whoever writes it must close again.\n\
             none: handlers are given the rows that were heard of.",
        ),
        sync_timeout: Duration = key(
            "10.0",
            Kind::Seconds(0.0, 3600.0),
            "How long handlers wait at the start for everything that the publishers know. Then they\n\
             begin with what there is, are told so (incomplete), and given the rest as events.",
        ),
        heads_interval: Duration = key(
            "45.0",
            Kind::Seconds(1.0, 3600.0),
            "How often each publisher is asked whether it has sent something that was not heard of, a\n\
             third more or less. Hellos tell of lost events sooner; this finds lost subscriptions.",
        ),
        held_bytes: usize = key(
            "16777216",
            Kind::Count(1 << 16, 4 << 30, "bytes"),
            "How many bytes of a publisher's events may be held while what was missed before them is\n\
             fetched. What does not fit is fetched as well.",
        ),
        checkpoint_interval: Duration = key(
            "60.0",
            Kind::Seconds(1.0, 86400.0),
            "How often rows and positions are written to state_dir, and at the end: an agent that\n\
             comes back asks only for what it missed since.",
        ),
        max_message_size: usize = common::MAX_MESSAGE_SIZE,
        receive_hwm: i32 = key(
            "100000",
            Kind::Count(1, 10_000_000, "messages"),
            "How many messages of a publisher may wait to be read; beyond, some are lost (and found\n\
             missing) instead of memory growing.",
        ),
        queue_length: usize = key(
            "1024",
            Kind::Count(1, 1_000_000, "batches"),
            "How many batches of events may wait for a handler. When more come, the handler is given\n\
             the newest state of the changed rows, or a resync if it wants every event.",
        ),
        queue_bytes: usize = key(
            "8388608",
            Kind::Count(1 << 10, 4 << 30, "bytes"),
            "How many bytes of events may wait for a handler, whichever of the two is reached first.",
        ),
        stop_timeout: Duration = common::STOP_TIMEOUT,
        handler: Vec<HandlerConfig> = key(
            "[]",
            Kind::Handlers,
            "The local consumers of events, one [[handler]] table each, at the end of the file:\n\
             \n\
             \x20   [[handler]]\n\
             \x20   module = \"log\"           # what is done with the events: log, exec, file, …\n\
             \x20   name = \"log\"             # unique; default: the module's name\n\
             \x20   tables = [\"lport\"]       # only these tables; default [], all\n\
             \x20   topics = [\"tenant1\"]     # only these topics; default [], all\n\
             \x20   actions = \"all\"          # or \"set\", \"delete\": only rows that are there, or gone\n\
             \x20   delivery = \"state\"       # newest state of each row, or \"events\": every event\n\
             \x20   time_limit = 60          # seconds for one call, 0 for ever\n\
             \x20   …                        # and the module's own keys\n\
             \n\
             The tables of several files add up; one with the name of an earlier one replaces it.",
        ).live(),
    } with {
        /// `publishers_ips` read, each once.
        publishers: Vec<Endpoint> = Vec::new(),
        /// What was found while reading and is no fault.
        notes: Vec<String> = Vec::new(),
    }
}

pub(super) const AGENT: Program = Program {
    name: "agent",
    keys: AGENT_KEYS,
    foreign: PUBLISHER_KEYS,
};

/// Reads and checks the agent's configuration: all faults of it, or none.
pub fn load_agent(sources: &Sources, known: &Known<'_>) -> Result<AgentConfig, Faults> {
    let mut faults = Faults::default();
    let layers = AGENT.layers(sources, &mut faults);
    let mut config = AgentConfig::read(&layers, known, &mut faults);
    config.complete(&layers, known, &mut faults);
    faults.or(config)
}

impl AgentConfig {
    /// The topics to subscribe to: `D`, then, where distribution is selective, those configured.
    pub fn subscriptions(&self) -> Vec<String> {
        let mut topics = vec![SEND_ALL.to_owned()];
        if self.enable_selective_topology_distribution {
            for topic in &self.topics {
                if !topics.contains(topic) {
                    topics.push(topic.clone());
                }
            }
        }
        topics
    }

    /// What is allowed but probably not meant; to be logged at each start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = security_warning(self.security).into_iter().collect();
        if self.publishers.is_empty() {
            warnings.push("publishers_ips is empty: no event will be received".into());
        }
        if self.handler.is_empty() {
            warnings.push("no [[handler]] is configured: events are received and not used".into());
        }
        let subscribed = self.subscriptions();
        // Each in both forms until the publisher is known, and the heartbeat.
        let first = 2 * subscribed.len() + 1;
        let mut keys = PUBLISHER_KEYS.iter();
        let limit = keys.find(|key| key.name == "max_subscriptions");
        if let Some(limit) = limit.and_then(|key| key.default.parse::<usize>().ok())
            && first > limit
        {
            warnings.push(format!(
                "topics: they make {first} subscriptions at first, and a publisher cuts off whoever makes \
                 more than its max_subscriptions, which is {limit} unless it says otherwise"
            ));
        }
        for handler in &self.handler {
            let foreign = |topic: &&String| !subscribed.contains(topic);
            for topic in handler.topics.iter().filter(foreign) {
                warnings.push(format!(
                    "handler {} wants topic {topic:?}, which the agent does not subscribe to",
                    handler.name
                ));
            }
        }
        warnings.extend(self.notes.iter().cloned());
        warnings
    }

    /// What takes more than one key to see.
    fn complete(&mut self, layers: &Layers, known: &Known<'_>, faults: &mut Faults) {
        let defaults = Defaults {
            transport: self.publisher_transport,
            port: self.publisher_port,
        };
        let (listed, notes) = (&self.publishers_ips, &mut self.notes);
        self.publishers =
            common::endpoints("publishers_ips", listed, &defaults, layers, faults, notes);
        for endpoint in &self.publishers {
            check_protected(self.security, endpoint, "publishers_ips", layers, faults);
        }
        let (low, high) = (self.reconnect_min, self.reconnect_max);
        if high < low && !faults.name_any(&["reconnect_max", "reconnect_min"]) {
            let (high, low) = (high.as_secs_f64(), low.as_secs_f64());
            let why = format!("{high} is below reconnect_min, which is {low}");
            faults.add(layers.locate("reconnect_max"), "reconnect_max", why);
        }
        self.handler = handlers::read(layers, known, faults, &mut self.notes);
    }
}
