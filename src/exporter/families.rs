//! Which metrics there are: every group that is declared by `metrics!`, with the prefix and labels
//! it is exported under. A test walks the sources for groups that stand nowhere here.

use crate::agent::checkpoint::CheckpointMetrics;
use crate::agent::discovery::DiscoveryMetrics;
use crate::agent::follower::RecoveryMetrics;
use crate::agent::northbound::NorthboundMetrics;
use crate::control::ControlMetrics;
use crate::dispatch::LaneMetrics;
use crate::dispatch::hub::HubMetrics;
use crate::handler::socket::SocketMetrics;
use crate::metrics::{Declared, Kind, Sample};
use crate::publisher::gate::GateMetrics;
use crate::publisher::monitor::MonitorMetrics;
use crate::publisher::peers::PeersMetrics;
use crate::publisher::permits::PermitMetrics;
use crate::publisher::requests::RequestMetrics;
use crate::publisher::service::ServiceMetrics;
use crate::publisher::sync::SyncMetrics;
use crate::pubsub::api::LinkMetrics;
use crate::status::{AgentReport, Counted, OwnMetrics, Part, ProcessMetrics, ServiceReport};

use super::server::ExporterMetrics;

/// One group of metrics as it is exported.
#[derive(Debug)]
pub struct Family {
    /// What its metrics are about; a heading.
    pub about: &'static str,
    /// What stands before the names.
    pub prefix: &'static str,
    /// The labels.
    pub labels: &'static [&'static str],
    /// The metrics.
    pub declared: &'static [Declared],
}

/// One group with its values.
#[derive(Debug)]
pub struct Group {
    /// Which.
    pub family: &'static Family,
    /// The values of its labels, as many as there are.
    pub labels: Vec<String>,
    /// The values, in the order of the declaration.
    pub values: Vec<u64>,
}

impl Group {
    fn new(family: &'static Family, labels: &[&str], samples: &[Sample]) -> Self {
        Group {
            family,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            values: samples.iter().map(|sample| sample.value).collect(),
        }
    }

    fn one(family: &'static Family, labels: &[&str], value: u64) -> Self {
        Group {
            family,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            values: vec![value],
        }
    }
}

const fn family(
    about: &'static str,
    prefix: &'static str,
    labels: &'static [&'static str],
    declared: &'static [Declared],
) -> Family {
    Family {
        about,
        prefix,
        labels,
        declared,
    }
}

const INFO: &[Declared] = &[Declared {
    name: "info",
    kind: Kind::Gauge,
    help: "Always 1; the label has the release.",
}];

const MALFORMED: &[Declared] = &[Declared {
    name: "malformed_total",
    kind: Kind::Counter,
    help: "Messages that are no event, by reason; dropped.",
}];

const STATE: &[Declared] = &[Declared {
    name: "state_seconds",
    kind: Kind::Gauge,
    help: "For how long it has been in its present state, as fanfare status shows it.",
}];

const TWIN: &[Declared] = &[Declared {
    name: "twin",
    kind: Kind::Gauge,
    help: "Whether another address, connected as this one is, leads to a publisher with the same id (1).",
}];

const HEARD: &[Declared] = &[Declared {
    name: "heard_seconds",
    kind: Kind::Gauge,
    help: "Seconds since the publisher's last hello.",
}];

const PROVED: &[Declared] = &[Declared {
    name: "proved_seconds",
    kind: Kind::Gauge,
    help: "Seconds since the moment as of which everything the publisher sent is proved to be here; until that is proved for the first time, since it is followed.",
}];

const SUBSCRIBERS: &[Declared] = &[Declared {
    name: "topic_subscribers",
    kind: Kind::Gauge,
    help: "Subscribers that asked for the topic; only the topics with the most.",
}];

static A_INFO: Family = family("The agent", "fanfare_agent_", &["version"], INFO);
static A_OWN: Family = family("The agent", "fanfare_agent_", &[], OwnMetrics::DECLARED);
static A_PROCESS: Family = family(
    "The process",
    "fanfare_agent_",
    &[],
    ProcessMetrics::DECLARED,
);
static A_HUB: Family = family("The replica", "fanfare_agent_", &[], HubMetrics::DECLARED);
static A_DISCOVERY: Family = family(
    "Discovery of publishers",
    "fanfare_agent_discovery_",
    &[],
    DiscoveryMetrics::DECLARED,
);
static A_LINK: Family = family(
    "Each publisher",
    "fanfare_agent_publisher_",
    &["publisher"],
    LinkMetrics::DECLARED,
);
static A_LINK_STATE: Family = family(
    "Each publisher",
    "fanfare_agent_publisher_",
    &["publisher"],
    STATE,
);
static A_TWIN: Family = family(
    "Each publisher",
    "fanfare_agent_publisher_",
    &["publisher"],
    TWIN,
);
static A_MALFORMED: Family = family(
    "Each publisher",
    "fanfare_agent_publisher_",
    &["publisher", "reason"],
    MALFORMED,
);
static A_RECOVERY: Family = family(
    "Recovery of what a publisher sent and was missed",
    "fanfare_agent_recovery_",
    &["publisher"],
    RecoveryMetrics::DECLARED,
);
static A_HEARD: Family = family(
    "Recovery of what a publisher sent and was missed",
    "fanfare_agent_publisher_",
    &["publisher"],
    HEARD,
);
static A_PROVED: Family = family(
    "Recovery of what a publisher sent and was missed",
    "fanfare_agent_publisher_",
    &["publisher"],
    PROVED,
);
static A_CHECKPOINT: Family = family(
    "Checkpoints",
    "fanfare_agent_checkpoint_",
    &[],
    CheckpointMetrics::DECLARED,
);
static A_NORTHBOUND: Family = family(
    "The northbound store",
    "fanfare_agent_northbound_",
    &[],
    NorthboundMetrics::DECLARED,
);
static A_LANE: Family = family(
    "Each handler",
    "fanfare_agent_handler_",
    &["handler"],
    LaneMetrics::DECLARED,
);
static A_LANE_STATE: Family = family(
    "Each handler",
    "fanfare_agent_handler_",
    &["handler"],
    STATE,
);
static A_SOCKET: Family = family(
    "Each handler with the module `socket`",
    "fanfare_agent_socket_",
    &["handler"],
    SocketMetrics::DECLARED,
);
static A_CONTROL: Family = family(
    "The control socket",
    "fanfare_agent_control_",
    &[],
    ControlMetrics::DECLARED,
);
static A_EXPORTER: Family = family(
    "The exporter",
    "fanfare_agent_http_",
    &[],
    ExporterMetrics::DECLARED,
);

static P_INFO: Family = family("The publisher", "fanfare_publisher_", &["version"], INFO);
static P_OWN: Family = family(
    "The publisher",
    "fanfare_publisher_",
    &[],
    OwnMetrics::DECLARED,
);
static P_PROCESS: Family = family(
    "The process",
    "fanfare_publisher_",
    &[],
    ProcessMetrics::DECLARED,
);
static P_SERVICE: Family = family(
    "Journal and sending",
    "fanfare_publisher_",
    &[],
    ServiceMetrics::DECLARED,
);
static P_SUBSCRIBERS: Family = family(
    "Journal and sending",
    "fanfare_publisher_",
    &["topic"],
    SUBSCRIBERS,
);
static P_REQUESTS: Family = family(
    "Clients that await an acknowledgement",
    "fanfare_publisher_client_",
    &[],
    RequestMetrics::DECLARED,
);
static P_WORKERS: Family = family(
    "Workers that push",
    "fanfare_publisher_worker_",
    &[],
    LinkMetrics::DECLARED,
);
static P_SYNC: Family = family(
    "The sync service",
    "fanfare_publisher_",
    &[],
    SyncMetrics::DECLARED,
);
static P_GATE: Family = family(
    "Who may connect, where keys are asked for",
    "fanfare_publisher_",
    &[],
    GateMetrics::DECLARED,
);
static P_GRANTS: Family = family(
    "Which nodes may have which topics",
    "fanfare_publisher_",
    &[],
    PermitMetrics::DECLARED,
);
static P_PEERS: Family = family(
    "Other publishers that are followed",
    "fanfare_publisher_peers_",
    &[],
    PeersMetrics::DECLARED,
);
static P_PEER: Family = family(
    "Each publisher that is followed",
    "fanfare_publisher_peer_",
    &["peer"],
    LinkMetrics::DECLARED,
);
static P_PEER_RECOVERY: Family = family(
    "Recovery of what a publisher that is followed sent and was missed",
    "fanfare_publisher_peer_recovery_",
    &["peer"],
    RecoveryMetrics::DECLARED,
);
static P_PEER_HEARD: Family = family(
    "Each publisher that is followed",
    "fanfare_publisher_peer_",
    &["peer"],
    HEARD,
);
static P_PEER_PROVED: Family = family(
    "Each publisher that is followed",
    "fanfare_publisher_peer_",
    &["peer"],
    PROVED,
);
static P_MONITORS: Family = family(
    "Monitors",
    "fanfare_publisher_monitor_",
    &[],
    MonitorMetrics::DECLARED,
);
static P_CONTROL: Family = family(
    "The control socket",
    "fanfare_publisher_control_",
    &[],
    ControlMetrics::DECLARED,
);
static P_EXPORTER: Family = family(
    "The exporter",
    "fanfare_publisher_http_",
    &[],
    ExporterMetrics::DECLARED,
);

/// Everything `fanfare-agent` exports.
pub static AGENT: &[&Family] = &[
    &A_INFO,
    &A_OWN,
    &A_PROCESS,
    &A_LINK,
    &A_LINK_STATE,
    &A_TWIN,
    &A_MALFORMED,
    &A_RECOVERY,
    &A_HEARD,
    &A_PROVED,
    &A_LANE,
    &A_LANE_STATE,
    &A_SOCKET,
    &A_HUB,
    &A_CHECKPOINT,
    &A_NORTHBOUND,
    &A_DISCOVERY,
    &A_CONTROL,
    &A_EXPORTER,
];

/// Everything `fanfare-publisher` exports.
pub static PUBLISHER: &[&Family] = &[
    &P_INFO,
    &P_OWN,
    &P_PROCESS,
    &P_SERVICE,
    &P_SUBSCRIBERS,
    &P_REQUESTS,
    &P_WORKERS,
    &P_SYNC,
    &P_GATE,
    &P_GRANTS,
    &P_PEERS,
    &P_PEER,
    &P_PEER_HEARD,
    &P_PEER_PROVED,
    &P_PEER_RECOVERY,
    &P_MONITORS,
    &P_CONTROL,
    &P_EXPORTER,
];

/// The values of an agent's metrics.
pub fn agent(report: &AgentReport) -> Vec<Group> {
    let mut groups = vec![
        Group::one(&A_INFO, &[report.version], 1),
        Group::new(&A_OWN, &[], &report.agent.0),
        Group::new(&A_PROCESS, &[], &report.process.0),
        Group::new(&A_HUB, &[], &report.replica.0),
        Group::new(&A_CHECKPOINT, &[], &report.checkpoints.0),
        Group::new(&A_NORTHBOUND, &[], &report.northbound.0),
        Group::new(&A_DISCOVERY, &[], &report.discovery.0),
        Group::new(&A_CONTROL, &[], &report.control.0),
        Group::new(&A_EXPORTER, &[], &report.exporter.0),
    ];
    for publisher in &report.publishers {
        let uri = publisher.uri.as_str();
        groups.push(Group::new(&A_LINK, &[uri], &publisher.counters.0));
        let since = publisher.since_seconds;
        groups.push(Group::one(&A_LINK_STATE, &[uri], since));
        let twin = u64::from(publisher.twin.is_some());
        groups.push(Group::one(&A_TWIN, &[uri], twin));
        groups.push(Group::new(&A_RECOVERY, &[uri], &publisher.recovery.0));
        let ages = [
            (&A_HEARD, publisher.heard_seconds),
            (
                &A_PROVED,
                publisher.proved_seconds.or(publisher.unproved_seconds),
            ),
        ];
        let ages = ages
            .into_iter()
            .filter_map(|(family, age)| Some((family, age?)));
        groups.extend(ages.map(|(family, age)| Group::one(family, &[uri], age)));
        let malformed = publisher.malformed();
        groups.extend(malformed.map(|(why, n)| Group::one(&A_MALFORMED, &[uri, why], n)));
    }
    for handler in &report.handlers {
        let name = handler.name.as_str();
        groups.push(Group::new(&A_LANE, &[name], &handler.counters.0));
        let since = handler.since_seconds;
        groups.push(Group::one(&A_LANE_STATE, &[name], since));
        // Modules of others count what is declared nowhere here; their status shows it.
        let own = &handler.own.0;
        let names = own.iter().map(|sample| sample.name);
        if names.eq(A_SOCKET.declared.iter().map(|metric| metric.name)) {
            groups.push(Group::new(&A_SOCKET, &[name], own));
        }
    }
    groups
}

/// The values of a publisher service's metrics.
pub fn service(report: &ServiceReport) -> Vec<Group> {
    let mut groups = vec![Group::one(&P_INFO, &[report.version], 1)];
    for (part, Counted(samples)) in &report.parts {
        let family = match part {
            Part::Service => &P_SERVICE,
            Part::Requests => &P_REQUESTS,
            Part::Workers => &P_WORKERS,
            Part::Sync => &P_SYNC,
            Part::Gate => &P_GATE,
            Part::Grants => &P_GRANTS,
            Part::Peers => &P_PEERS,
            Part::Monitors => &P_MONITORS,
            Part::Control => &P_CONTROL,
            Part::Exporter => &P_EXPORTER,
            Part::Publisher => &P_OWN,
            Part::Process => &P_PROCESS,
        };
        groups.push(Group::new(family, &[], samples));
    }
    for peer in &report.peers {
        let uri = peer.uri.as_str();
        groups.push(Group::new(&P_PEER, &[uri], &peer.counters.0));
        groups.push(Group::new(&P_PEER_RECOVERY, &[uri], &peer.recovery.0));
        let ages = [
            (&P_PEER_HEARD, peer.heard_seconds),
            (
                &P_PEER_PROVED,
                peer.proved_seconds.or(peer.unproved_seconds),
            ),
        ];
        let ages = ages
            .into_iter()
            .filter_map(|(family, age)| Some((family, age?)));
        groups.extend(ages.map(|(family, age)| Group::one(family, &[uri], age)));
    }
    for (topic, subscribers) in &report.subscribers {
        groups.push(Group::one(&P_SUBSCRIBERS, &[topic], *subscribers));
    }
    groups
}

#[cfg(test)]
mod tests;
