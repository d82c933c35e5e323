//! Many agents on one publisher, and the publisher restarts.
//!
//! Two hundred by default; `make soak` has a thousand, and `FANFARE_CROWD` any other number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::agent::follower::{RecoveryMetrics, ZmqSync};
use fanfare::agent::{Agent, Parts, RecoveryParts, recovery};
use fanfare::dispatch::{LaneMetrics, LaneOptions};
use fanfare::event::Event;
use fanfare::handler::{Handler, HandlerError, SyncReason};
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::api::LinkMetrics;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::util::descriptors;

use crate::rig::agent::endpoint;
use crate::rig::cluster::Cluster;
use crate::rig::counted::is_declared;
use crate::rig::load::flush;
use crate::rig::port::Port;
use crate::rig::tape::wide;
use crate::rig::{PATIENCE, at_most, slowness, within};

/// Agents of a context: each has four sockets of the 1,023 that a context has.
const PER_CONTEXT: usize = 100;

/// Descriptors of an agent: sockets, their mailboxes and its bell, with some to spare.
const DESCRIPTORS: u64 = 16;

/// Rows in the topics `t1` and `D`, and bytes of a value.
const ROWS: u64 = 2_000;
const VALUE: usize = 300;

struct Nothing;

impl Handler for Nothing {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }

    fn apply(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Agents of this process, as the daemon makes them, with a handler that does nothing.
struct Crowd(Vec<Agent>);

impl Crowd {
    fn new(agents: usize, uri: &str) -> Crowd {
        let wanted = agents as u64 * DESCRIPTORS;
        let allowed = descriptors::allow(wanted);
        assert!(allowed >= wanted, "{allowed} open files are too few");
        let contexts: Vec<_> = (0..=agents / PER_CONTEXT)
            .map(|_| zmq::Context::new())
            .collect();
        let agents = 0..agents;
        Crowd(
            agents
                .map(|number| agent(&contexts[number / PER_CONTEXT], uri))
                .collect(),
        )
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn sources(&self) -> impl Iterator<Item = Arc<fanfare::pubsub::Source>> {
        self.0.iter().flat_map(|agent| agent.sources())
    }

    /// The sum of what `of` takes from each agent.
    fn link(&self, of: impl Fn(&LinkMetrics) -> u64) -> u64 {
        self.sources().map(|source| of(&source.metrics)).sum()
    }

    fn recovery(&self, name: &str) -> u64 {
        is_declared(RecoveryMetrics::DECLARED, name);
        let followed = self.0.iter().flat_map(Agent::followed);
        let samples = followed.flat_map(|(_, followed)| followed.metrics.each());
        let named = samples.filter(|sample| sample.name == name);
        named.map(|sample| sample.value).sum()
    }

    fn lanes(&self, of: impl Fn(&LaneMetrics) -> u64) -> u64 {
        let lanes = self.0.iter().flat_map(Agent::lanes);
        lanes.map(|lane| of(&lane.metrics)).sum()
    }

    /// Waits until each has connected so often, is in sync, and has so many rows of table `t`.
    #[track_caller]
    fn settles(&self, limit: Duration, connects: u64, rows: u64) {
        within(limit, "all are live and in sync", || {
            let ready = |agent: &Agent| {
                let source = agent.sources().pop()?;
                let (_, followed) = agent.followed().pop()?;
                let current = source.metrics.connects_total.get() >= connects
                    && source.metrics.live.get() == 1
                    && followed.metrics.in_sync.get() == 1
                    && agent.hub().metrics.rows.get() >= rows;
                current.then_some(())
            };
            let ready = self.0.iter().all(|agent| ready(agent).is_some());
            // To look at all of them costs the processor that they need.
            std::thread::sleep(Duration::from_millis(20));
            ready.then_some(())
        });
    }
}

fn agent(context: &zmq::Context, uri: &str) -> Agent {
    let build = Box::new(|_: &_| Ok(Box::new(Nothing) as _));
    Agent::start(Parts {
        driver: Box::new(ZmqPubSub::with_context(context)),
        // As the daemon's defaults are, but for what the publisher here says too.
        subscriber: SubscriberOptions {
            max_idle_time: Duration::from_secs(1),
            ..SubscriberOptions::default()
        },
        publishers: vec![endpoint(uri)],
        discovery: None,
        topics: vec!["t1".into()],
        recovery: Some(RecoveryParts {
            transport: Arc::new(ZmqSync::new(context, None)),
            options: recovery::Options::default(),
            sync_timeout: Duration::from_secs(120),
            legacy_resync: Duration::from_secs(3600),
            northbound: None,
            checkpoint: None,
        }),
        handlers: vec![LaneOptions::new("nothing", wide(), build)],
        stop_timeout: Duration::from_secs(10),
    })
    .unwrap()
}

fn size() -> usize {
    let size = std::env::var("FANFARE_CROWD");
    size.map_or(200, |size| size.parse().expect("FANFARE_CROWD is a number"))
}

/// Publishes the rows, as keys that begin with `prefix`.
fn fill(cluster: &Cluster, prefix: &str) {
    let client = cluster.host.client();
    for number in 0..ROWS {
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(VALUE)
            .collect();
        let key = format!("{prefix}{number}");
        let value = format!("{noise:?}");
        let event = Event::set("t", &key, &value).on("t1");
        client.publish(&event, None).unwrap();
        if number % 500 == 499 {
            flush(&client);
        }
    }
}

/// A clean restart: nothing is loaded, no handler starts over, all are in sync again in no time.
#[test]
fn a_crowd_survives_a_clean_restart() {
    let mut cluster = Cluster::running("sync_snapshot_rate = 1000\n");
    fill(&cluster, "old");
    let crowd = Crowd::new(size(), &cluster.uri());
    crowd.settles(3 * PATIENCE, 1, ROWS);
    let loaded = crowd.recovery("snapshots_total");
    assert_eq!(loaded, 2 * crowd.len());
    let stopped = Instant::now();
    cluster.host.stop(PATIENCE);
    cluster.host.start();
    let started = Instant::now();
    crowd.settles(3 * PATIENCE, 2, ROWS);
    let settled = started.elapsed();
    eprintln!(
        "clean restart with {} agents: away for {:?}, all in sync {settled:?} after the start; \
         publisher {} kB at most",
        crowd.len(),
        started - stopped,
        cluster.host.process().peak_kb()
    );
    // Waits double while nobody is there, so a restart that a loaded machine drags out is waited for
    // as long again.
    let limit = at_most(Duration::from_secs(5)).max(3 * (started - stopped));
    assert!(settled < limit, "{settled:?}, more than {limit:?}");
    assert!(crowd.link(|metrics| metrics.disconnects_total.get()) >= crowd.len());
    assert_eq!(crowd.recovery("snapshots_total"), loaded);
    assert_eq!(crowd.recovery("new_incarnations_total"), 0);
    assert_eq!(
        crowd.lanes(|metrics| metrics.resyncs_total.get()),
        crowd.len()
    );
    // And what is published from now on arrives.
    cluster.publish("t1", 0..100, 100);
    crowd.settles(PATIENCE, 2, ROWS + 100);
    assert_eq!(
        crowd.lanes(|metrics| metrics.resyncs_total.get()),
        crowd.len()
    );
}

/// It comes back without its state: everybody wants a snapshot at once, and gets it in turn.
#[test]
fn a_crowd_is_loaded_again_at_the_rate_that_is_set() {
    let size = size();
    // Two topics each.
    let rate = (size / 4).max(1);
    let mut cluster = Cluster::running(&format!("sync_snapshot_rate = {rate}\n"));
    cluster.publish("t1", 0..10, 10);
    let crowd = Crowd::new(size, &cluster.uri());
    crowd.settles(6 * PATIENCE, 1, 10);
    let loaded = crowd.recovery("snapshots_total");

    // What it will know in its new life, it is told where nobody hears it.
    let port = std::mem::replace(&mut cluster.host.port, Port::free());
    cluster.host.kill();
    std::fs::remove_file(cluster.host.state_dir.join("publisher.redb")).unwrap();
    cluster.host.start();
    fill(&cluster, "new");
    cluster.host.stop(PATIENCE);
    cluster.host.port = port;
    cluster.host.start();
    let started = Instant::now();
    crowd.settles(6 * PATIENCE, 2, 10 + ROWS);
    let took = started.elapsed();

    let snapshots = crowd.recovery("snapshots_total") - loaded;
    let (peak, size) = (cluster.host.process().peak_kb(), crowd.len());
    eprintln!(
        "restart without state, {size} agents: {snapshots} snapshots at {rate}/s, all in sync {took:?} \
         after the start; publisher {peak} kB at most"
    );
    assert_eq!(crowd.recovery("new_incarnations_total"), size);
    assert_eq!(snapshots, 2 * size);
    assert!(crowd.recovery("asked_to_wait_total") > 0);
    assert_eq!(crowd.recovery("bad_digests_total"), 0);
    assert_eq!(crowd.lanes(|metrics| metrics.resyncs_total.get()), size);
    // A second's worth may be begun at once.
    let least = (snapshots as f64 / rate as f64 - 1.0) * 0.9;
    assert!(took.as_secs_f64() > least, "{took:?} of {least} s");
    // Its rows, what libzmq has for two connections each, and what is on its way to sixteen.
    let bound = u64::from(slowness()) * ((64 << 10) + 256 * size);
    assert!(peak < bound, "{peak} kB of {bound}");
}
