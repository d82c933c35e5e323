//! The publisher service's report.

use std::collections::BTreeMap;

use serde::Serialize;

use super::counted::Counted;

/// How the publisher service is.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceReport {
    /// Its release.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it takes and sends events.
    pub ready: bool,
    /// Why it does not, a line each.
    pub reasons: Vec<String>,
    /// What is logged.
    pub log_level: String,
    /// Who this publisher is, 32 hexadecimal digits.
    pub publisher_id: String,
    /// The number of its unbroken life.
    pub incarnation: u64,
    /// Where agents connect to.
    pub uri: String,
    /// How many subscribers have asked for each topic; the largest numbers first.
    pub subscribers: Vec<(String, u64)>,
    /// Topics that subscribers asked for and that are not listed.
    pub topics_not_listed: u64,
    /// What nodes asked for and may not have by the grants; the last first.
    pub refused: Vec<RefusedTopic>,
    /// What its parts count, by name.
    pub parts: BTreeMap<Part, Counted>,
}

/// A topic that a node may not have.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedTopic {
    /// The node.
    pub node: String,
    /// The topic, printable.
    pub topic: String,
    /// Subscriptions that were refused.
    pub subscriptions: u64,
    /// Requests for what was missed that were refused.
    pub requests: u64,
    /// Seconds since the last one.
    pub last_seconds: u64,
}

/// A part of a publisher service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The one thread every event goes through: journal, sending.
    Service,
    /// The socket of acknowledged clients.
    Requests,
    /// The socket of workers that push.
    Workers,
    /// The socket of agents that missed something.
    Sync,
    /// Who may connect, where keys are asked for.
    Gate,
    /// Who may have which topics.
    Grants,
    /// What is polled, and the lease.
    Monitors,
    /// The control socket.
    Control,
    /// The exporter.
    Exporter,
    /// The service of itself.
    Publisher,
    /// The process.
    Process,
}
