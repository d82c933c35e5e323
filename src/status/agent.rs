//! The agent's report.
//!
//! This is the one place where figures of publishers and handlers become part of status and
//! metrics: whatever a [`Source`](crate::pubsub::Source) or a lane counts by `metrics!` is in the
//! report by itself; a figure that is no counter gets a member here.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::counted::{Counted, Own, Process};
use super::rows::Topic;
use crate::agent::Agent;
use crate::agent::vigil::{Health, Seen, Vigil};
use crate::event::codec::Malformed;
use crate::metrics::Sample;
use crate::store::publisher_row::id_text;

/// How the agent is.
#[derive(Debug, Clone, Serialize)]
pub struct AgentReport {
    /// Its release.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it is in step.
    pub ready: bool,
    /// Why it is not, a line each.
    pub reasons: Vec<String>,
    /// What else an operator must know, a line each, such as that a new configuration is refused.
    pub notices: Vec<String>,
    /// What is logged.
    pub log_level: String,
    /// The publishers by address.
    pub publishers: Vec<PublisherReport>,
    /// The topics; added where they are counted.
    pub topics: Vec<Topic>,
    /// The handlers in the order of the configuration.
    pub handlers: Vec<HandlerReport>,
    /// What is counted of the replica.
    pub replica: Counted,
    /// What checkpoints count; nothing where none are kept.
    pub checkpoints: Counted,
    /// What reading the northbound store counts; nothing where there is none.
    pub northbound: Counted,
    /// What discovery counts; nothing where it is off.
    pub discovery: Counted,
    /// What the control socket counts.
    pub control: Counted,
    /// What the exporter counts.
    pub exporter: Counted,
    /// What the agent counts of itself.
    pub agent: Counted,
    /// What the system says of the process.
    pub process: Counted,
}

/// How a publisher is followed.
#[derive(Debug, Clone, Serialize)]
pub struct PublisherReport {
    /// Its address.
    pub uri: String,
    /// `ok` (in sync), `syncing`, `legacy`, `down` or `stuck`.
    pub state: &'static str,
    /// Seconds in that state.
    pub since_seconds: u64,
    /// Who it is, 32 hexadecimal digits; none before its first hello.
    pub publisher_id: Option<String>,
    /// Another address, connected as this one is, that leads to a publisher with the same id.
    pub twin: Option<String>,
    /// The number of its unbroken life.
    pub incarnation: Option<u64>,
    /// Its last seq as of its last hello.
    pub seq: Option<u64>,
    /// Topics that something is missing of.
    pub topics_behind: u64,
    /// Topics that it does not let this node have; some of them where they are many.
    pub topics_forbidden: Vec<String>,
    /// Seconds since its last hello.
    pub heard_seconds: Option<u64>,
    /// Seconds since the moment as of which everything is proved to be here.
    pub proved_seconds: Option<u64>,
    /// Seconds that it is followed, until there is a first proof; none of a legacy publisher, which
    /// gives none.
    pub unproved_seconds: Option<u64>,
    /// What its reader counts.
    pub counters: Counted,
    /// What the recovery of what was missed counts; nothing where that is off.
    pub recovery: Counted,
    /// Malformed messages by reason, in the order of [`Malformed::REASONS`].
    #[serde(skip)]
    pub malformed: Vec<u64>,
}

/// How a handler is.
#[derive(Debug, Clone, Serialize)]
pub struct HandlerReport {
    /// Its name.
    pub name: String,
    /// `ok`, `behind`, `failing`, `stopped`, `late` or `stuck`.
    pub state: &'static str,
    /// Seconds in that state.
    pub since_seconds: u64,
    /// What the lane does: `starting`, `running`, `pausing`, `waiting`, `stuck` or `ended`.
    pub lane: &'static str,
    /// Times the handler was made.
    pub starts: u64,
    /// Batches in its queue.
    pub queued: usize,
    /// Bytes in its queue.
    pub queued_bytes: usize,
    /// The last thing that went wrong, printable.
    pub last_error: Option<String>,
    /// Seconds since then.
    pub last_error_seconds: Option<u64>,
    /// What its lane counts.
    pub counters: Counted,
    /// What the handler itself counts, by its module.
    pub own: Counted,
}

/// What the report is made of beside the agent.
#[derive(Debug)]
pub struct AgentView<'a> {
    /// What the owner knows of it.
    pub own: &'a Own,
    /// What was seen of its parts.
    pub vigil: &'a Vigil,
    /// The last look.
    pub health: &'a Health,
    /// What is logged.
    pub log_level: String,
    /// What else an operator must know.
    pub notices: Vec<String>,
    /// What the control socket counts.
    pub control: Vec<Sample>,
    /// What the exporter counts.
    pub exporter: Vec<Sample>,
}

impl AgentReport {
    /// How `agent` is at `now`. The rows of the topics are not counted here: that takes its time.
    pub fn new(agent: &Agent, view: &AgentView<'_>, now: Instant) -> Self {
        let seen = |seen: Option<&Seen>| match seen {
            Some(seen) => (
                seen.state.as_str(),
                now.saturating_duration_since(seen.since).as_secs(),
            ),
            None => ("new", 0),
        };
        let followed: BTreeMap<_, _> = agent.followed().into_iter().collect();
        let age = |at: Option<Instant>| Some(now.saturating_duration_since(at?).as_secs());
        let sources = agent.sources();
        let connected: Vec<_> = sources
            .iter()
            .filter(|source| source.metrics.live.get() == 1)
            .filter_map(|source| {
                let life = followed.get(&source.uri)?.standing().life?;
                Some((source.uri.as_str(), life.publisher))
            })
            .collect();
        let publishers = sources.iter().map(|source| {
            let (state, since_seconds) = seen(view.vigil.publisher(&source.uri));
            let followed = followed.get(&source.uri);
            let standing = followed.map(|followed| followed.standing());
            let standing = standing.unwrap_or_default();
            let recovery = followed.map(|followed| followed.metrics.each());
            let proves = source.metrics.legacy.get() == 0;
            let unproved = followed.filter(|_| proves);
            let unproved = unproved.and_then(|followed| followed.unproved());
            PublisherReport {
                uri: source.uri.clone(),
                state,
                since_seconds,
                twin: twin(&source.uri, &connected).map(str::to_owned),
                publisher_id: standing.life.map(|life| id_text(&life.publisher)),
                incarnation: standing.life.map(|life| life.incarnation),
                seq: standing.life.map(|_| standing.head),
                topics_behind: standing.behind as u64,
                topics_forbidden: followed.map_or_else(Vec::new, |followed| {
                    let topics = followed.forbidden().into_iter();
                    topics.map(|topic| topic.to_string()).collect()
                }),
                heard_seconds: age(standing.hello_at),
                proved_seconds: age(standing.proved),
                unproved_seconds: age(unproved),
                recovery: Counted(recovery.unwrap_or_default()),
                counters: Counted(source.metrics.each()),
                malformed: source.malformed.iter().map(|metric| metric.get()).collect(),
            }
        });
        let handlers = agent.lanes().iter().map(|lane| {
            let (state, since_seconds) = seen(view.vigil.handler(lane.name()));
            let status = lane.handle().status();
            let last_error = status.last_error;
            HandlerReport {
                name: lane.name().to_owned(),
                state,
                since_seconds,
                lane: status.state.as_str(),
                starts: status.starts,
                queued: status.queued,
                queued_bytes: status.queued_bytes,
                last_error_seconds: age(last_error.as_ref().map(|error| error.at)),
                last_error: last_error.map(|error| error.text),
                counters: Counted(lane.metrics.each()),
                own: Counted(lane.handle().own_counts()),
            }
        });
        let checkpoints = agent.checkpoints().map(|checkpoints| checkpoints.each());
        let northbound = agent.northbound().map(|northbound| northbound.each());
        let discovery = agent.discovery().map(|discovery| discovery.metrics.each());
        AgentReport {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: now.saturating_duration_since(view.own.started).as_secs(),
            ready: view.health.is_ready(),
            reasons: view.health.reasons.clone(),
            notices: view.notices.clone(),
            log_level: view.log_level.clone(),
            publishers: publishers.collect(),
            topics: Vec::new(),
            handlers: handlers.collect(),
            replica: Counted(agent.hub().metrics.each()),
            checkpoints: Counted(checkpoints.unwrap_or_default()),
            northbound: Counted(northbound.unwrap_or_default()),
            discovery: Counted(discovery.unwrap_or_default()),
            control: Counted(view.control.clone()),
            exporter: Counted(view.exporter.clone()),
            agent: Counted(view.own.metrics.each()),
            process: Counted(Process::each(view.own)),
        }
    }
}

/// Another of the addresses that leads to the same publisher as `uri`, which is one of them.
fn twin<'a>(uri: &str, connected: &[(&'a str, [u8; 16])]) -> Option<&'a str> {
    let (_, id) = connected.iter().find(|(own, _)| *own == uri)?;
    let other = connected
        .iter()
        .find(|(other, of)| *other != uri && of == id);
    other.map(|(other, _)| *other)
}

impl PublisherReport {
    /// Malformed messages with their reasons.
    pub fn malformed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.malformed.iter().copied();
        Malformed::REASONS.iter().copied().zip(counts)
    }
}
