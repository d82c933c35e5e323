//! How the publisher service's parts are put together, and taken apart in order.
//!
//! It is the same service in `fanfare-publisher` and in a process that publishes by itself
//! (`pub_sub_use_multiproc = false`); only its front differs.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};

use super::ends::{self, gate, ingress, network, requests, sync_service};
use super::state::{KnownRows, State, beside};
use crate::config::{KeyFault, PublisherConfig, PublisherKeys};
use crate::event::EventBatch;
use crate::metrics::Sample;
use crate::publisher::gate::{Cuts, Gate, GateMetrics};
use crate::publisher::group::Rules;
use crate::publisher::history::History;
use crate::publisher::lease::Identity;
use crate::publisher::monitor::{MonitorMetrics, MonitorOptions, Monitors};
use crate::publisher::peers::{self, Heard, Peer, Peers};
use crate::publisher::permits::Permits;
use crate::publisher::requests::{RequestMetrics, Requests, Submitted};
use crate::publisher::service::{self, Service};
use crate::publisher::submit::request_path;
use crate::publisher::sync::{Asked, SyncMetrics, SyncService};
use crate::publisher::version::VersionField;
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{PublisherApi, Source, SubscriberApi};
use crate::security::admitted::Admitted;
use crate::security::party::ServerKey;
use crate::status::Part;
use crate::store;
use crate::store::publisher_row::id_text;
use crate::store::registry::StoreOptions;
use crate::util::lock_file::LockFile;
use crate::util::thread::Thread;

/// Everything that runs.
pub struct Wired {
    workers: Option<Box<dyn SubscriberApi>>,
    sources: Vec<Arc<Source>>,
    requests: Option<Requests>,
    peers: Option<Peers>,
    sync: Option<SyncService>,
    monitors: Option<Monitors>,
    service: Service,
    // What parts have counted is told at the end too, when they are gone.
    request_metrics: Arc<RequestMetrics>,
    sync_metrics: Option<Arc<SyncMetrics>>,
    monitor_metrics: Arc<MonitorMetrics>,
    gate_metrics: Option<Arc<GateMetrics>>,
    permits: Arc<Permits>,
    /// Whether nodes prove who they are.
    proves: bool,
    // After all that it guards.
    gate: Option<Gate>,
    id: String,
    uri: String,
    _locks: [LockFile; 2],
}

/// Who hands events to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The API workers of this host, at `publisher_multiproc_socket` and the request socket beside
    /// it.
    Workers,
    /// This process only, at [`own_path`].
    Process,
}

/// The request socket of a process that publishes by itself.
pub fn own_path(config: &PublisherConfig) -> PathBuf {
    beside(&config.publisher_multiproc_socket, ".own")
}

impl Front {
    /// The request socket, and the group that may use it beside this process's user.
    fn socket(self, config: &PublisherConfig) -> (PathBuf, Option<String>) {
        match self {
            Front::Workers => (
                request_path(&config.publisher_multiproc_socket),
                Some(config.socket_group.clone()),
            ),
            Front::Process => (own_path(config), None),
        }
    }
}

/// Batches of pushed events that may wait for the service.
const PUSHED_WAITING: usize = 64;

/// Batches of differences that may wait for the service.
const MONITORED_WAITING: usize = 4;

/// Requests of clients that may wait for the service.
const SUBMITTED_WAITING: usize = 64;

/// Where the time is up, how long clients' last answers are waited for all the same.
const ANSWERS: Duration = Duration::from_millis(50);

impl Wired {
    /// Starts everything. Nothing is left running on error.
    pub fn new(
        config: &PublisherConfig,
        context: &zmq::Context,
        front: Front,
    ) -> Result<Self, Box<dyn Error>> {
        // Before anything is bound: a second service is told who the first is, whatever their
        // fronts.
        let state = State::open(config)?;
        let (id, uri) = (id_text(&state.identity.id), state.identity.uri.clone());
        let monitored = state.monitored(config);

        // Before anything is bound: libzmq asks nobody where there is nobody yet.
        let keys = config.keys().map_err(|faults| said(&faults))?;
        let admitted = Admitted::default();
        let gate = gate(config, context, keys.as_ref(), &admitted)?;
        let cuts = gate.as_ref().map_or_else(Cuts::default, Gate::cuts);
        let split = |PublisherKeys { secret, peers, .. }| (ServerKey { secret, admitted }, peers);
        let (key, peer_keys) = keys.map(split).unzip();

        let proves = key.is_some() && matches!(config.bind, Endpoint::Tcp { .. });
        let permits = Arc::new(Permits::new(config.grants()));
        let publisher = network(config, context, key.clone())?;
        let (ways, parts) = parts(
            config,
            publisher,
            state.history,
            cuts.clone(),
            Arc::clone(&permits),
        );
        // Before those that give it work.
        let service = Service::start(parts)?;
        let requests = requests(config, context, front.socket(config), ways.submitted)?;
        let sync = sync_service(
            config,
            context,
            ways.asks,
            (key, cuts),
            (&permits, &service.reach),
        )?;
        let peers = ends::peers(config, context, peer_keys, ways.heard)?;
        let monitors = monitors(config, state.identity, monitored, ways.monitored)?;
        let workers = match front {
            Front::Workers => Some(ingress(config, context, ways.pushed)?),
            Front::Process => None,
        };
        Ok(Wired {
            sources: workers
                .iter()
                .flat_map(|workers| workers.sources())
                .collect(),
            workers,
            request_metrics: Arc::clone(&requests.metrics),
            requests: Some(requests),
            peers,
            sync_metrics: sync.as_ref().map(|sync| Arc::clone(&sync.metrics)),
            sync,
            monitor_metrics: Arc::clone(&monitors.metrics),
            monitors: Some(monitors),
            service,
            gate_metrics: gate.as_ref().map(|gate| Arc::clone(&gate.metrics)),
            gate,
            permits,
            proves,
            id,
            uri,
            _locks: state.locks,
        })
    }

    /// Stops everything that brings events, while the service still takes them, then the service,
    /// then the socket its answers go through. Says whether the service has ended by `deadline`: half
    /// of the time is its own, whatever else does not end.
    pub fn stop_by(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        // All are told before the first is waited for.
        if let Some(sync) = &mut self.sync {
            sync.thread.stop_by(half);
        }
        if let Some(peers) = &mut self.peers {
            peers.thread.stop_by(half);
        }
        if let Some(monitors) = &mut self.monitors {
            monitors.thread.stop_by(half);
        }
        if let Some(workers) = self.workers.take() {
            close(workers, half);
        }
        (self.sync, self.peers, self.monitors) = (None, None, None);
        let in_time = self.service.stop_by(deadline);
        let last = deadline.max(Instant::now() + ANSWERS);
        if let Some(requests) = &mut self.requests {
            requests.thread.stop_by(last);
        }
        // It may be reading a folder that hangs.
        if let Some(gate) = &mut self.gate {
            gate.thread.stop_by(last);
        }
        self.requests = None;
        in_time
    }

    /// The side of the workers that push.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.clone()
    }

    /// The publishers that are followed.
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.as_ref().map_or_else(Vec::new, Peers::each)
    }

    /// Who follows other publishers, if any are named.
    pub fn following(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// Looks for nodes that were authorised, or are so no longer.
    pub fn look_at_keys(&self) {
        if let Some(gate) = &self.gate {
            gate.look();
        }
    }

    /// Who may have which topics.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Whether grants may be put in force: as it was started, whatever the configuration says now.
    pub fn proves(&self) -> bool {
        self.proves
    }

    /// Who admits nodes, if anybody has to be admitted.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// The thread every event goes through.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Who takes the events of clients that await an answer.
    pub fn requests(&self) -> Option<&Requests> {
        self.requests.as_ref()
    }

    /// Who gives agents what they missed, if anybody does.
    pub fn sync(&self) -> Option<&SyncService> {
        self.sync.as_ref()
    }

    /// The monitors, which also keep the lease.
    pub fn monitors(&self) -> Option<&Monitors> {
        self.monitors.as_ref()
    }

    /// Who this publisher is, 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The address that agents are told of.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// What the parts count.
    pub fn counted(&self) -> [(Part, Vec<Sample>); 7] {
        let gate = self.gate_metrics.as_ref();
        let sync = self.sync_metrics.as_ref();
        [
            (Part::Requests, self.request_metrics.each()),
            (Part::Monitors, self.monitor_metrics.each()),
            (
                Part::Sync,
                sync.map_or_else(Vec::new, |metrics| metrics.each()),
            ),
            (Part::Service, self.service.metrics.each()),
            (Part::Peers, self.service.peers.each()),
            (
                Part::Gate,
                gate.map_or_else(Vec::new, |metrics| metrics.each()),
            ),
            (Part::Grants, self.permits.metrics.each()),
        ]
    }
}

/// The ways to the service, for those that give it work.
struct Ways {
    pushed: Sender<EventBatch>,
    submitted: Sender<Submitted>,
    monitored: Sender<EventBatch>,
    asks: Sender<Asked>,
    heard: Sender<Heard>,
}

/// What the service is made of, and the ways to it.
fn parts(
    config: &PublisherConfig,
    publisher: Box<dyn PublisherApi>,
    history: History,
    cuts: Cuts,
    permits: Arc<Permits>,
) -> (Ways, service::Parts) {
    let (pushed_to, pushed) = bounded(PUSHED_WAITING);
    let (submit_to, submitted) = bounded(SUBMITTED_WAITING);
    let (monitored_to, monitored) = bounded(MONITORED_WAITING);
    // Not bounded here: the sync service bounds how much it asks.
    let (ask_to, asks) = unbounded();
    let (heard_to, heard) = peers::channel();
    let ways = Ways {
        pushed: pushed_to,
        submitted: submit_to,
        monitored: monitored_to,
        asks: ask_to,
        heard: heard_to,
    };
    let version_field = Some(config.version_field.as_str()).filter(|name| !name.is_empty());
    let parts = service::Parts {
        publisher,
        history,
        pushed,
        submitted,
        monitored,
        asks,
        heard,
        sync_endpoint: config.sync_told(),
        cuts,
        permits,
        rules: Rules {
            version_field: version_field.map(VersionField::new),
            selective: config.enable_selective_topology_distribution,
        },
        hello_interval: config.hello_interval,
        max_idle_time: config.max_idle_time,
    };
    (ways, parts)
}

/// The monitors of `tables`, of which the `known` rows are published already.
fn monitors(
    config: &PublisherConfig,
    identity: Identity,
    (tables, mut known): (Vec<String>, KnownRows),
    events: Sender<EventBatch>,
) -> Result<Monitors, Box<dyn Error>> {
    let store = store::registry::find(&config.nb_store)
        .ok_or_else(|| format!("there is no store {}", config.nb_store))?;
    let store = (store.open)(&StoreOptions {
        state_dir: config.state_dir.clone(),
    })?;
    let options = MonitorOptions {
        tables,
        poll_time: config.monitor_table_poll_time,
        publisher_timeout: config.publisher_timeout,
        identity,
        known: Box::new(move |table| known.remove(table)),
        seed: None,
    };
    Ok(Monitors::start(options, store, events)?)
}

/// Closes the socket of the workers, which has a patience of its own, by `deadline`.
fn close(mut workers: Box<dyn SubscriberApi>, deadline: Instant) {
    let closing = Thread::spawn("closing", move || workers.close());
    match closing.map(|mut closing| closing.join_by(deadline)) {
        Ok(true) => {}
        Ok(false) => log::error!("the workers' socket does not close; left behind"),
        // Closed as it was dropped.
        Err(error) => log::debug!("no thread to close the workers' socket: {error}"),
    }
}

fn said(faults: &[KeyFault]) -> String {
    let each: Vec<String> = faults.iter().map(ToString::to_string).collect();
    each.join("; ")
}
