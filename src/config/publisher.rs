//! The publisher service's keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;

use super::agent::AGENT_KEYS;
use super::common::{self, Security, check_protected, security_warning};
use super::grants;
use super::keys::{key, settings};
use super::kind::Kind;
use super::layers::Layers;
use super::load::Program;
use super::secure;
use super::setting::Setting;
use super::sources::Sources;
use super::sync;
use super::{Faults, Known};
use crate::publisher::history::Durability;
use crate::pubsub::PeerRules;
use crate::pubsub::endpoint::{Defaults, Endpoint, Host, Transport};
use crate::security::grants::{Grant, Grants};

impl Setting for Durability {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "sync" => Some(Durability::Sync),
            "os" => Some(Durability::Os),
            _ => None,
        }
    }
}

settings! {
    /// What `fanfare-publisher` is told.
    pub struct PublisherConfig,
    /// The keys of publisher.toml.
    PUBLISHER_KEYS {
        publisher_id: Option<[u8; 16]> = key(
            r#""""#,
            Kind::PublisherId,
            "Who this publisher is, for as long as the host lives. Empty: a random one, made at the\n\
             first start and kept in state_dir. Two publishers must never share one.",
        ),
        pub_sub_driver: String = key(
            r#""zmq_pubsub_driver""#,
            Kind::Driver,
            "By which driver events go to the agents.",
        ),
        pub_sub_multiproc_driver: String = key(
            r#""zmq_pubsub_multiproc_driver""#,
            Kind::Driver,
            "By which driver events come from the API workers of this host.",
        ),
        pub_sub_use_multiproc: bool = key(
            "true",
            Kind::Flag,
            "Whether API workers hand their events to the publisher service of this host. false: the\n\
             one process of the host that publishes (by the library, or `fanfare publish`) binds the\n\
             network address and keeps the journal itself; the service then refuses to start.",
        ),
        publisher_bind_address: String = key(
            r#""*""#,
            Kind::BindAddress,
            "The address that agents connect to: an IP address of this host, or * for all of\n\
             them; with publisher_transport epgm the interface;group to send to, with ipc the path\n\
             of the socket.",
        ),
        publisher_port: u16 = key("8866", Kind::Port, "The port that agents connect to."),
        publisher_transport: Transport = key(
            r#""tcp""#,
            common::TRANSPORTS,
            "How events travel to the agents. epgm is multicast and has no security at all; use it\n\
             on a network of its own only.",
        ),
        publisher_multiproc_socket: PathBuf = key(
            r#""/run/fanfare/publisher.sock""#,
            Kind::Socket,
            "The unix socket on which API workers hand over events.",
        ),
        socket_group: String = key(
            r#""fanfare""#,
            Kind::Text,
            "The group whose members may hand over events, use the control socket and, over ipc, have the\n\
             events. Where it does not exist, only the user that the service runs as may.",
        ),
        socket_users: Vec<String> = common::SOCKET_USERS,
        publisher_uri: String = key(
            r#""""#,
            Kind::Text,
            "The address under which agents reach this publisher, for the publisher table. What it leaves\n\
             out is publisher_transport and publisher_port. Empty: the address it binds, or this host's\n\
             name where that is *.",
        ),
        durability: Durability = key(
            r#""sync""#,
            Kind::Choice(&["sync", "os"]),
            "What an acknowledged event survives. sync: loss of power; every group of events is\n\
             written through to the disk first. os: the end of every process, but not of the machine;\n\
             then agents are told that something may be missing.",
        ),
        version_field: String = key(
            r#""""#,
            Kind::Text,
            "The field of a JSON value that holds the object's version, a number that rises with each\n\
             change. Empty: the service gives versions by its clock. An older version than the known\n\
             one is refused.",
        ),
        journal_max_events: u64 = key(
            "1000000",
            Kind::Count(1_000, 1_000_000_000, "events"),
            "How many events are kept for agents that missed some.",
        ),
        journal_max_bytes: u64 = key(
            "536870912",
            Kind::Count(1 << 20, 1 << 40, "bytes"),
            "How many bytes of events are kept, whichever limit is reached first.",
        ),
        journal_max_age: Duration = key(
            "86400",
            Kind::Seconds(1.0, 31_536_000.0),
            "How long events are kept.",
        ),
        tombstone_ttl: Duration = common::TOMBSTONE_TTL,
        nb_store: String = key(
            r#""embedded""#,
            Kind::Choice(&["embedded", "memory"]),
            "The northbound store: where monitored tables and the publishers' leases are. embedded: a file\n\
             of state_dir, nb.redb, which no other process can open while this service runs. memory: gone\n\
             with the process.",
        ),
        monitor_tables: Vec<String> = key(
            "[]",
            Kind::Tables,
            "Tables of the northbound store whose changes are found by polling and published. The embedded\n\
             store is open as long as this service runs: others can write to it only while it is stopped.\n\
             A table without any row at the start ends no row that is published, until it has one.",
        ),
        publisher_timeout: Duration = key(
            "300",
            Kind::Seconds(0.1, 86400.0),
            "A publisher whose lease in the publisher table is older than this is removed from it, by those\n\
             that share its northbound store.",
        ),
        monitor_table_poll_time: Duration = key(
            "30",
            Kind::Seconds(0.1, 86400.0),
            "The time between two looks at a monitored table of the northbound store.",
        ),
        enable_selective_topology_distribution: bool = key(
            "true",
            Kind::Flag,
            "Whether events are sent by topic. false sends every event to every agent, on topic D.",
        ),
        peers: Vec<String> = key(
            "[]",
            Kind::Addresses,
            "The other publishers, written as in publishers_ips of the agents. This one then follows them\n\
             as agents do, so that a snapshot of any one of them has the rows of all, and a change here\n\
             of what was written there gets a higher version. List all of them on each; an address of\n\
             this one does no harm. Where the others have [[grant]], this one needs one for \"*\".",
        ),
        peer_keys: BTreeMap<String, Vec<String>> = secure::PEER_KEYS,
        security: Security = common::SECURITY,
        publisher_key: PathBuf = secure::PUBLISHER_KEY,
        authorized_keys: PathBuf = secure::AUTHORIZED_KEYS,
        state_dir: PathBuf = common::STATE_DIR,
        run_dir: PathBuf = common::RUN_DIR,
        log_level: String = common::LOG_LEVEL.live(),
        stuck_timeout: Duration = common::STUCK_TIMEOUT.live(),
        metrics_address: Option<SocketAddr> = key(
            r#""127.0.0.1:9867""#,
            Kind::Listen,
            common::METRICS_DOC,
        ),
        hello_interval: Duration = common::HELLO_INTERVAL,
        max_idle_time: Duration = common::MAX_IDLE_TIME,
        max_message_size: usize = common::MAX_MESSAGE_SIZE,
        sync_port: u16 = key(
            "8867",
            Kind::PortOrNone,
            "The port on which agents ask for what they missed; publisher_transport ipc: a socket\n\
             beside that of the publisher instead. 0: nowhere; agents that miss something then have\n\
             to do without.",
        ),
        sync_endpoint: String = key(
            r#""""#,
            Kind::Text,
            "The address under which agents reach it, where that is another than the one they receive\n\
             events from, such as \"tcp://10.0.0.1:8867\".",
        ),
        sync_cache_bytes: usize = key(
            "67108864",
            Kind::Count(1 << 20, 1 << 36, "bytes"),
            "How much of what agents asked for is kept in memory for others that ask for the same. A\n\
             snapshot that is being fetched stays whatever its size; no other is begun meanwhile.",
        ),
        sync_max_snapshots: usize = key(
            "16",
            Kind::Count(1, 10_000, "agents"),
            "How many agents may fetch snapshots at the same time; the others are told to wait.\n\
             Without keys those of one address may have three quarters of the places.",
        ),
        sync_snapshot_rate: u32 = key(
            "50",
            Kind::Count(1, 1_000_000, "snapshots per second"),
            "How many snapshots agents may begin to fetch in a second.",
        ),
        sync_request_rate: u32 = key(
            "1000",
            Kind::Count(1, 1_000_000, "requests per second"),
            "How many requests for what was missed one agent may make in a second; beyond, it is told to\n\
             come again later. Without keys all agents of one address may make 16 times as many.",
        ),
        authoritative: bool = key(
            "false",
            Kind::Flag,
            "Whether this publisher knows every row there is, from its first day: agents then drop\n\
             whatever it does not know. false: it vouches for what was published since its state_dir\n\
             was made. So it is, too, after a damaged journal was moved aside, until the operator has\n\
             moved it away (publisher.redb.corrupt-*) and started the service again.",
        ),
        max_connections: u64 = key(
            "10000",
            Kind::Count(16, 1_000_000, "connections"),
            "How many connections there may be at each of the two ports: an agent has one for events,\n\
             and one more while it fetches what it missed. The newest beyond are ended. The limit of\n\
             open files is raised for both at the start where the system allows it; where not, a\n\
             warning says so and fewer are taken (LimitNOFILE of the unit).",
        ),
        max_silent_connections: usize = key(
            "1024",
            Kind::Count(16, 1_000_000, "connections"),
            "How many connections, at each of the two ports, may not have sent anything yet, those in\n\
             the middle of the handshake included. Beyond, the oldest of these are ended, so that peers\n\
             that connect and say nothing keep no agent out.",
        ),
        max_subscriptions: usize = key(
            "10000",
            Kind::Count(16, 1_000_000, "subscriptions"),
            "How many subscriptions one connection may have. An agent makes one for the heartbeat and, until\n\
             it has heard that, two for each topic and for D: 10000 are enough for 4998 topics. They\n\
             may be 20 bytes long on average, the two forms of a topic counted as the longer one. Whoever\n\
             asks for more is cut off and kept out for a minute.",
        ),
        max_all_subscriptions: usize = key(
            "1000000",
            Kind::Count(16, 100_000_000, "subscriptions"),
            "How many subscriptions all connections may have together, 20 bytes long on average.\n\
             Whoever asks for one more is cut off. Each takes a few hundred bytes, and some 50 for each byte\n\
             in which it differs from all others.",
        ),
        send_hwm: i32 = key(
            "100000",
            Kind::Count(1, 10_000_000, "messages"),
            "How many messages may wait for one agent; beyond, that agent loses some (and finds them\n\
             missing) instead of memory growing.",
        ),
        stop_timeout: Duration = common::STOP_TIMEOUT,
        grant: Vec<Grant> = key(
            "[]",
            Kind::Grants,
            "Which nodes may have which topics, one [[grant]] table each, at the end of the file:\n\
             \n\
             \x20   [[grant]]\n\
             \x20   nodes = [\"rack1-*\", \"n7\"]     # as in authorized_keys; * at the end: all that begin so\n\
             \x20   topics = [\"tenant1\", \"lab-*\"]  # \"*\": every topic\n\
             \n\
             Without any, every node may have every topic. With one, a node may have what is granted to\n\
             it and what is for all (D, the heartbeat); a node that no grant names has no more than that.\n\
             Read again on SIGHUP: nodes that may have other topics than before connect anew, and no\n\
             others; but all do when the first grant comes or the last one goes. The tables of several\n\
             files add up. Needs security = \"curve\": without keys nobody knows who a node is.",
        ).live(),
    } with {
        /// `publisher_bind_address` read.
        bind: Endpoint = Endpoint::Tcp {
            host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 8866,
        },
        /// `publisher_uri` read; `None` where it is empty.
        told: Option<Endpoint> = None,
        /// Where the sync service listens; `None` where there is none.
        sync: Option<Endpoint> = None,
        /// `peers` read, each once.
        followed: Vec<Endpoint> = Vec::new(),
        /// What was found while reading and is no fault.
        notes: Vec<String> = Vec::new(),
    }
}

pub(super) const PUBLISHER: Program = Program {
    name: "publisher",
    keys: PUBLISHER_KEYS,
    foreign: AGENT_KEYS,
};

/// Reads and checks the publisher's configuration: all faults of it, or none.
pub fn load_publisher(sources: &Sources, known: &Known<'_>) -> Result<PublisherConfig, Faults> {
    let mut faults = Faults::default();
    let layers = PUBLISHER.layers(sources, &mut faults);
    let mut config = PublisherConfig::read(&layers, known, &mut faults);
    config.complete(&layers, known, &mut faults);
    faults.or(config)
}

impl PublisherConfig {
    /// What is allowed but probably not meant; to be logged at each start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = security_warning(self.security).into_iter().collect();
        warnings.extend(self.notes.iter().cloned());
        warnings
    }

    /// What takes more than one key to see.
    fn complete(&mut self, layers: &Layers, known: &Known<'_>, faults: &mut Faults) {
        let defaults = Defaults {
            transport: self.publisher_transport,
            port: self.publisher_port,
        };
        let address = &self.publisher_bind_address;
        match Endpoint::parse_bind(address, &defaults) {
            Ok(endpoint) => self.bind = endpoint,
            Err(_) if faults.name_any(&["publisher_transport", "publisher_bind_address"]) => {}
            Err(error) => {
                let at = layers.locate("publisher_bind_address");
                let why = format!("{address:?}: {error}");
                faults.add(at, "publisher_bind_address", why);
            }
        }
        self.complete_told(&defaults, layers, faults);
        self.complete_sync(layers, faults);
        self.grant = grants::read(layers, known, faults);
        self.check_grants(layers, faults);
        let (peers, notes) = (&self.peers, &mut self.notes);
        self.followed = common::endpoints("peers", peers, &defaults, layers, faults, notes);
        for endpoint in &self.followed {
            check_protected(self.security, endpoint, "peers", layers, faults);
        }
        let (security, key) = (self.security, "publisher_bind_address");
        check_protected(security, &self.bind, key, layers, faults);
    }

    /// Who may have what.
    pub fn grants(&self) -> Grants {
        Grants::new(self.grant.clone())
    }

    /// What peers at the network sockets may do.
    pub fn peer_rules(&self) -> PeerRules {
        PeerRules {
            guarded: !self.grant.is_empty(),
            max_connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            max_silent: self.max_silent_connections,
            max_subscriptions: self.max_subscriptions,
            max_all_subscriptions: self.max_all_subscriptions,
        }
    }

    /// Grants are of use only where nodes prove who they are.
    fn check_grants(&self, layers: &Layers, faults: &mut Faults) {
        let named = [
            "grant",
            "security",
            "publisher_transport",
            "publisher_bind_address",
        ];
        if self.grant.is_empty() || faults.name_any(&named) {
            return;
        }
        let why = match (self.security, &self.bind) {
            (Security::None, _) => {
                r#"with security = "none" nobody knows who a node is; write security = "curve""#
            }
            (Security::Curve, Endpoint::Tcp { .. }) => return,
            (Security::Curve, _) => "only on tcp do nodes prove who they are",
        };
        faults.add(layers.locate("grant"), "grant", why);
    }

    /// Agents pass over a row whose address they cannot connect to.
    fn complete_told(&mut self, defaults: &Defaults, layers: &Layers, faults: &mut Faults) {
        let (key, uri) = ("publisher_uri", &self.publisher_uri);
        if uri.is_empty() || faults.name_any(&["publisher_transport", "publisher_bind_address"]) {
            return;
        }
        let transport = match self.bind {
            Endpoint::Tcp { .. } => Transport::Tcp,
            Endpoint::Ipc { .. } => Transport::Ipc,
            Endpoint::Epgm { .. } => Transport::Epgm,
            Endpoint::Memory { .. } => defaults.transport,
        };
        let defaults = Defaults {
            transport,
            ..*defaults
        };
        match Endpoint::parse_told(uri, &defaults) {
            Ok(endpoint) => {
                check_protected(self.security, &endpoint, key, layers, faults);
                self.told = Some(endpoint);
            }
            Err(error) => faults.add(layers.locate(key), key, format!("{uri:?}: {error}")),
        }
    }

    fn complete_sync(&mut self, layers: &Layers, faults: &mut Faults) {
        if self.sync_port == 0 || faults.name_any(&["publisher_bind_address", "sync_port"]) {
            return;
        }
        let mut add = |key: &str, why: String| faults.add(layers.locate(key), key, why);
        match sync::beside(&self.bind, self.sync_port) {
            Ok(endpoint) if endpoint == self.bind => {
                add("sync_port", "is publisher_port; choose another".into());
            }
            Ok(endpoint) => self.sync = Some(endpoint),
            Err(error) => add("publisher_bind_address", format!("for sync_port: {error}")),
        }
        if !self.sync_endpoint.is_empty()
            && let Err(why) = sync::check_told(&self.sync_endpoint, self.sync_port)
        {
            add("sync_endpoint", why);
        }
        if self.max_message_size > sync::MAX_EVENT {
            let why = format!(
                "{} is more than the {} that an agent which missed it can be given; set a lower one, or sync_port = 0",
                self.max_message_size,
                sync::MAX_EVENT
            );
            add("max_message_size", why);
        }
    }
}
