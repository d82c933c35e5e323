//! The publisher service's report.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Serialize, Serializer};

use super::counted::Counted;
use crate::publisher::peers::Peer;
use crate::store::publisher_row::id_text;

/// How the publisher service is.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceReport {
    /// Its release.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it does all that it is for.
    pub ready: bool,
    /// Why it does not, a line each.
    pub reasons: Vec<String>,
    /// What else an operator must know, a line each, such as that a new configuration is refused.
    pub notices: Vec<String>,
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
    /// The publishers that it follows.
    pub peers: Vec<PeerReport>,
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

/// How a publisher is that the service follows.
#[derive(Debug, Clone, Serialize)]
pub struct PeerReport {
    /// Its address.
    pub uri: String,
    /// `ok` (all its rows are here), `syncing`, `legacy` (it says no hello: its rows are not taken),
    /// `down`, or `self`: the address leads to the service itself.
    pub state: &'static str,
    /// Who it is, 32 hexadecimal digits; none before its first hello.
    pub publisher_id: Option<String>,
    /// The number of its unbroken life.
    pub incarnation: Option<u64>,
    /// Its last seq as of its last hello.
    pub seq: Option<u64>,
    /// Topics that something is missing of.
    pub topics_behind: u64,
    /// Seconds since its last hello.
    pub heard_seconds: Option<u64>,
    /// Seconds since the moment as of which everything is proved to be here.
    pub proved_seconds: Option<u64>,
    /// Seconds that it is followed, until there is a first proof; none of a legacy publisher, which
    /// gives none.
    pub unproved_seconds: Option<u64>,
    /// What its reader counts.
    pub counters: Counted,
    /// What the recovery of what was missed counts.
    pub recovery: Counted,
}

impl PeerReport {
    /// How `peer` is at `now`, for the service with the id `own`.
    pub fn new(peer: &Peer, own: &str, now: Instant) -> Self {
        let followed = peer.followed.as_ref();
        let standing = followed.map(|followed| followed.standing());
        let standing = standing.unwrap_or_default();
        let metrics = &peer.source.metrics;
        let id = standing.life.map(|life| id_text(&life.publisher));
        let state = match (metrics.live.get(), metrics.legacy.get()) {
            (0, _) => "down",
            _ if id.as_deref() == Some(own) => "self",
            (_, 1) => "legacy",
            _ if standing.in_sync => "ok",
            _ => "syncing",
        };
        let age = |at: Option<Instant>| Some(now.saturating_duration_since(at?).as_secs());
        let recovery = followed.map(|followed| followed.metrics.each());
        let unproved = followed.filter(|_| metrics.legacy.get() == 0);
        let unproved = unproved.and_then(|followed| followed.unproved());
        PeerReport {
            uri: peer.source.uri.clone(),
            state,
            publisher_id: id,
            incarnation: standing.life.map(|life| life.incarnation),
            seq: standing.life.map(|_| standing.head),
            topics_behind: standing.behind as u64,
            heard_seconds: age(standing.hello_at),
            proved_seconds: age(standing.proved),
            unproved_seconds: age(unproved),
            counters: Counted(metrics.each()),
            recovery: Counted(recovery.unwrap_or_default()),
        }
    }
}

/// A part of a publisher service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The rows of other publishers.
    Peers,
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

impl Part {
    /// Its name in reports and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Service => "service",
            Part::Requests => "requests",
            Part::Workers => "workers",
            Part::Sync => "sync",
            Part::Gate => "gate",
            Part::Grants => "grants",
            Part::Peers => "peers",
            Part::Monitors => "monitors",
            Part::Control => "control",
            Part::Exporter => "exporter",
            Part::Publisher => "publisher",
            Part::Process => "process",
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
