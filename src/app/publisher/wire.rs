//! How the publisher service's parts are put together, and taken apart in order.
//!
//! It is the same service in `fanfare-publisher` and in a process that publishes by itself
//! (`pub_sub_use_multiproc = false`); only its front differs.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use super::ends::{self, gate, ingress, network, reachable, sync_service};
use crate::config::{KeyFault, PublisherConfig};
use crate::metrics::Sample;
use crate::publisher::gate::{Bans, Cuts, Gate, GateMetrics};
use crate::publisher::group::Rules;
use crate::publisher::history::{self, History, Moment};
use crate::publisher::lease::Identity;
use crate::publisher::monitor::{MonitorMetrics, MonitorOptions, Monitors};
use crate::publisher::peers::{self, Peer, Peers};
use crate::publisher::permits::Permits;
use crate::publisher::requests::{RequestMetrics, RequestOptions, Requests};
use crate::publisher::service::{self, Service};
use crate::publisher::submit::request_path;
use crate::publisher::sync::{SyncMetrics, SyncService};
use crate::publisher::version::VersionField;
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{Source, SubscriberApi};
use crate::replica::Row;
use crate::status::Part;
use crate::store::publisher_row::id_text;
use crate::store::registry::StoreOptions;
use crate::store::{self, PUBLISHER_TABLE};
use crate::util::group;
use crate::util::lock_file::{LockError, LockFile};
use crate::util::thread::Thread;
use crate::util::users::Users;

/// Everything that runs.
pub struct Wired {
    workers: Option<Box<dyn SubscriberApi>>,
    sources: Vec<Arc<Source>>,
    clients: Option<Requests>,
    peers: Option<Peers>,
    sync: Option<SyncService>,
    synced: Option<Arc<SyncMetrics>>,
    requests: Arc<RequestMetrics>,
    monitors: Option<Monitors>,
    monitored: Arc<MonitorMetrics>,
    service: Service,
    gated: Option<Arc<GateMetrics>>,
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
        let group = Some(config.socket_group.as_str());
        for (folder, group) in [(&config.state_dir, None), (&config.run_dir, group)] {
            group::folder(folder, group)
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        // Before anything is bound: a second service is told who the first is, whatever their
        // fronts.
        let lock = LockFile::acquire(&beside(&config.publisher_multiproc_socket, ".pid"))?;
        let history = History::open(history_options(config), Moment::now())?;
        let identity = Identity {
            id: history.id(),
            uri: reachable(config),
            incarnation: history.incarnation(),
            instance: fastrand::u64(..),
        };
        let (id, uri) = (id_text(&identity.id), identity.uri.clone());
        let id_lock = sole(config, &id)?;
        log::info!(
            "publisher {}, incarnation {}, {} rows, last event {}",
            id_text(&identity.id),
            identity.incarnation,
            history.rows().len(),
            history.head()
        );
        let mut tables = config.monitor_tables.clone();
        let listed = tables.iter().any(|table| table == PUBLISHER_TABLE);
        if !listed {
            tables.push(PUBLISHER_TABLE.to_owned());
        }
        let mut known = current_rows(&history, &tables);
        if let Some(publishers) = known.get_mut(PUBLISHER_TABLE)
            && !listed
        {
            // The store of this host knows no others: those were published as events, and that they
            // are not in the store does not mean that they are gone.
            publishers.retain(|key, _| *key == id_text(&identity.id));
        }

        // Before anything is bound: libzmq asks nobody where there is nobody yet.
        let keys = config.keys().map_err(|faults| said(&faults))?;
        let bans = Bans::default();
        let gate = gate(config, context, keys.as_ref(), &bans)?;
        let cuts = gate.as_ref().map_or_else(Cuts::default, Gate::cuts);
        let (key, peer_keys) = keys.map(|keys| (keys.secret, keys.peers)).unzip();

        let proves = key.is_some() && matches!(config.bind, Endpoint::Tcp { .. });
        let permits = Arc::new(Permits::new(config.grants()));
        let publisher = network(config, context, key.clone())?;
        let (pushed_to, pushed) = bounded(PUSHED_WAITING);
        let (submit_to, submitted) = bounded(SUBMITTED_WAITING);
        let (monitored_to, monitored) = bounded(MONITORED_WAITING);
        // Not bounded here: the sync service bounds how much it asks.
        let (ask_to, asks) = unbounded();
        let (heard_to, heard) = peers::channel();
        let service = Service::start(service::Parts {
            publisher,
            history,
            pushed,
            submitted,
            monitored,
            asks,
            heard,
            sync_endpoint: config.sync_told(),
            cuts: cuts.clone(),
            bans,
            permits: Arc::clone(&permits),
            rules: Rules {
                version_field: Some(config.version_field.as_str())
                    .filter(|name| !name.is_empty())
                    .map(VersionField::new),
                selective: config.enable_selective_topology_distribution,
            },
            hello_interval: config.hello_interval,
            max_idle_time: config.max_idle_time,
        })?;
        let (path, socket_group) = match front {
            Front::Workers => (
                request_path(&config.publisher_multiproc_socket),
                Some(config.socket_group.clone()),
            ),
            Front::Process => (own_path(config), None),
        };
        let clients = Requests::start(
            context,
            &path,
            &RequestOptions {
                socket_group,
                socket_users: Users::named(&config.socket_users)?.0,
                max_event: config.max_message_size,
                ..RequestOptions::default()
            },
            submit_to,
        )?;
        let sync = sync_service(
            config,
            context,
            ask_to,
            (key, cuts),
            (&permits, &service.reach),
        )?;
        let peers = ends::peers(config, context, peer_keys, heard_to)?;
        let store = store::registry::find(&config.nb_store)
            .ok_or_else(|| format!("there is no store {}", config.nb_store))?;
        let store = (store.open)(&StoreOptions {
            state_dir: config.state_dir.clone(),
        })?;
        let monitors = Monitors::start(
            MonitorOptions {
                tables,
                poll_time: config.monitor_table_poll_time,
                publisher_timeout: config.publisher_timeout,
                identity,
                known: Box::new(move |table| known.remove(table)),
                seed: None,
            },
            store,
            monitored_to,
        )?;
        let workers = match front {
            Front::Workers => Some(ingress(config, context, pushed_to)?),
            Front::Process => None,
        };
        Ok(Wired {
            sources: workers
                .iter()
                .flat_map(|workers| workers.sources())
                .collect(),
            workers,
            requests: Arc::clone(&clients.metrics),
            clients: Some(clients),
            peers,
            synced: sync.as_ref().map(|sync| Arc::clone(&sync.metrics)),
            sync,
            monitored: Arc::clone(&monitors.metrics),
            monitors: Some(monitors),
            service,
            gated: gate.as_ref().map(|gate| Arc::clone(&gate.metrics)),
            gate,
            permits,
            proves,
            id,
            uri,
            _locks: [lock, id_lock],
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
        if let Some(clients) = &mut self.clients {
            clients.thread.stop_by(last);
        }
        // It may be reading a folder that hangs.
        if let Some(gate) = &mut self.gate {
            gate.thread.stop_by(last);
        }
        self.clients = None;
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
        self.clients.as_ref()
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
        let gated = self.gated.as_ref();
        let synced = self.synced.as_ref();
        [
            (Part::Requests, self.requests.each()),
            (Part::Monitors, self.monitored.each()),
            (Part::Sync, synced.map_or_else(Vec::new, |synced| synced.each())),
            (Part::Service, self.service.metrics.each()),
            (Part::Peers, self.service.peers.each()),
            (Part::Gate, gated.map_or_else(Vec::new, |gated| gated.each())),
            (Part::Grants, self.permits.metrics.each()),
        ]
    }
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

/// Keeps a second publisher with this id from starting on this host. On another host only its
/// lease in a common store and the agents can tell.
fn sole(config: &PublisherConfig, id: &str) -> Result<LockFile, String> {
    let path = config.run_dir.join(format!("publisher-{id}.pid"));
    LockFile::acquire(&path).map_err(|error| match error {
        LockError::Held { .. } => format!(
            "another publisher of this host has the id {id}: {error}; set publisher_id, or remove \
             what was copied into {}",
            config.state_dir.display()
        ),
        error => error.to_string(),
    })
}

/// What is published of each table, so that only differences are published again.
fn current_rows(history: &History, tables: &[String]) -> HashMap<String, BTreeMap<String, String>> {
    let rows = history.rows();
    let wanted = |table: &str, _: &str| tables.iter().any(|name| name == table);
    let mut known: HashMap<String, BTreeMap<String, String>> = tables
        .iter()
        .map(|table| (table.clone(), BTreeMap::new()))
        .collect();
    for name in rows.keys(wanted) {
        let row = rows.get(&name.table, &name.key);
        // What another publisher published is not missing from this host's store.
        let own = |row: &&Row| {
            row.stamp
                .is_some_and(|stamp| stamp.publisher == history.id())
        };
        let row = row.filter(own);
        if let (Some(value), Some(table)) = (
            row.and_then(|row| row.value.clone()),
            known.get_mut(&*name.table),
        ) {
            table.insert(name.key.to_string(), value);
        }
    }
    known
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn history_options(config: &PublisherConfig) -> history::Options {
    let mut options = history::Options::new(config.state_dir.join("publisher.redb"));
    options.id = config.publisher_id;
    options.durability = config.durability;
    options.max_events = config.journal_max_events;
    options.max_bytes = config.journal_max_bytes;
    options.max_age = config.journal_max_age;
    options.tombstone_ttl = config.tombstone_ttl;
    options.authoritative = config.authoritative;
    options
}
