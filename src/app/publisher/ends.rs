//! The ends of the publisher service: the network sockets, and those of its host: of clients that await
//! an answer, and of workers that push.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::enough_for;
use crate::agent::follower::ZmqSync;
use crate::agent::recovery;
use crate::config::{PublisherConfig, PublisherKeys};
use crate::event::EventBatch;
use crate::publisher::gate::{Cuts, Gate, GateOptions};
use crate::publisher::peers::{self, Heard, Peers};
use crate::publisher::permits::Permits;
use crate::publisher::reach::Reach;
use crate::publisher::requests::{RequestOptions, Requests, Submitted};
use crate::publisher::sync::{Asked, SyncOptions, SyncService};
use crate::pubsub::driver::zmq::ALIAS;
use crate::pubsub::endpoint::{Endpoint, Host};
use crate::pubsub::{
    Callback, LinkChange, PeerRules, PubSubApi, PublisherApi, PublisherOptions, Source,
    SubscriberApi, SubscriberOptions, registry,
};
use crate::security::admitted::Admitted;
use crate::security::party::{NodeKeys, ServerKey};
use crate::security::pending;
use crate::util::descriptors;
use crate::util::rate::RateLimit;
use crate::util::users::Users;

/// The address that agents are told of.
pub(super) fn reachable(config: &PublisherConfig) -> String {
    if let Some(told) = &config.told {
        return told.to_string();
    }
    let wildcard = |host: &Host| match host {
        Host::Any => true,
        Host::Ip(ip) => ip.is_unspecified(),
        _ => false,
    };
    match &config.bind {
        Endpoint::Tcp { host, port } if wildcard(host) => {
            let system = rustix::system::uname();
            format!("tcp://{}:{port}", system.nodename().to_string_lossy())
        }
        bind => bind.to_string(),
    }
}

/// What agents may do; no more connections than so many descriptors are enough for.
fn peer_rules(config: &PublisherConfig, descriptors: u64) -> PeerRules {
    let mut rules = config.peer_rules();
    let most = enough_for(descriptors);
    rules.max_connections = rules
        .max_connections
        .min(usize::try_from(most).unwrap_or(usize::MAX));
    rules
}

/// The side of agents that missed something.
pub(super) fn sync_service(
    config: &PublisherConfig,
    context: &zmq::Context,
    asks: Sender<Asked>,
    (key, cuts): (Option<ServerKey>, Cuts),
    (permits, reach): (&Arc<Permits>, &Arc<Reach>),
) -> Result<Option<SyncService>, Box<dyn Error>> {
    let Some(endpoint) = &config.sync else {
        return Ok(None);
    };
    let options = SyncOptions {
        cache_bytes: config.sync_cache_bytes,
        max_snapshots: config.sync_max_snapshots,
        snapshot_rate: config.sync_snapshot_rate,
        request_rate: config.sync_request_rate,
        socket_group: Some(config.socket_group.clone()),
        socket_users: Users::named(&config.socket_users)?.0,
        key,
        cuts,
        permits: Arc::clone(permits),
        reach: Arc::clone(reach),
        peers: peer_rules(config, descriptors::allowed()),
        ..SyncOptions::default()
    };
    Ok(Some(SyncService::start(context, endpoint, &options, asks)?))
}

/// The shortest time between two cuts of all connections: a directory that is changed file by file
/// must not keep a cloud reconnecting.
const CUT_EVERY: Duration = Duration::from_secs(5);

/// Who lets agents in, where keys are asked for.
pub(super) fn gate(
    config: &PublisherConfig,
    context: &zmq::Context,
    keys: Option<&PublisherKeys>,
    admitted: &Admitted,
) -> Result<Option<Gate>, Box<dyn Error>> {
    let Some(keys) = keys else { return Ok(None) };
    let options = GateOptions {
        authorized: keys.authorized.clone(),
        pending: config.state_dir.join(pending::FILE),
        cut_every: CUT_EVERY,
        admitted: admitted.clone(),
    };
    Ok(Some(Gate::start(context, options)?))
}

/// The network side, bound.
pub(super) fn network(
    config: &PublisherConfig,
    context: &zmq::Context,
    key: Option<ServerKey>,
) -> Result<Box<dyn PublisherApi>, Box<dyn Error>> {
    let keeps_out = key.is_some() || !config.grants().is_open();
    let mut publisher = driver(&config.pub_sub_driver, context)?.publisher(&PublisherOptions {
        endpoint: config.bind.clone(),
        send_hwm: config.send_hwm,
        send_timeout: Duration::ZERO,
        subscriptions: true,
        linger: config.stop_timeout / 2,
        socket_group: Some(config.socket_group.clone()),
        socket_users: Users::named(&config.socket_users)?.0,
        key,
        peers: peer_rules(config, descriptors::allowed()),
    })?;
    check_control(&config.pub_sub_driver, &mut *publisher, keeps_out)?;
    publisher.initialize()?;
    Ok(publisher)
}

/// Where somebody is to be kept out, a driver is needed that can do it: whoever is connected would have
/// everything for as long as it likes, whatever becomes of its key.
fn check_control(
    driver: &str,
    publisher: &mut dyn PublisherApi,
    keeps_out: bool,
) -> Result<(), String> {
    if !keeps_out || publisher.control().is_some() {
        return Ok(());
    }
    Err(format!(
        "pub_sub_driver: {driver:?} cannot end the connection of a node whose key or grant is gone; write \
         {:?}, or security = \"none\" and no [[grant]]",
        ALIAS
    ))
}

fn driver(alias: &str, context: &zmq::Context) -> Result<Box<dyn PubSubApi>, String> {
    let driver = registry::find(alias).ok_or_else(|| format!("there is no driver {alias}"))?;
    Ok((driver.make)(context))
}

/// The publishers that this one follows.
pub(super) fn peers(
    config: &PublisherConfig,
    context: &zmq::Context,
    keys: Option<NodeKeys>,
    heard: Sender<Heard>,
) -> Result<Option<Peers>, Box<dyn Error>> {
    if config.followed.is_empty() {
        return Ok(None);
    }
    let keys = keys.map(Arc::new);
    let driver = driver(&config.pub_sub_driver, context)?;
    let subscriber = driver.subscriber(&SubscriberOptions {
        max_idle_time: config.max_idle_time,
        max_message_size: config.max_message_size,
        keys: keys.clone(),
        ..SubscriberOptions::default()
    })?;
    Ok(Some(Peers::start(peers::Parts {
        subscriber,
        publishers: config.followed.clone(),
        transport: Arc::new(ZmqSync::new(context, keys)),
        options: recovery::Options::default(),
        heard,
    })?))
}

/// The side of clients that await an answer: the socket at `path`, which `socket_group` may use.
pub(super) fn requests(
    config: &PublisherConfig,
    context: &zmq::Context,
    (path, socket_group): (PathBuf, Option<String>),
    submitted: Sender<Submitted>,
) -> Result<Requests, Box<dyn Error>> {
    let options = RequestOptions {
        socket_group,
        socket_users: Users::named(&config.socket_users)?.0,
        max_event: config.max_message_size,
        ..RequestOptions::default()
    };
    Ok(Requests::start(context, &path, &options, submitted)?)
}

/// The side of the workers that push.
pub(super) fn ingress(
    config: &PublisherConfig,
    context: &zmq::Context,
    pushed: Sender<EventBatch>,
) -> Result<Box<dyn SubscriberApi>, Box<dyn Error>> {
    let driver = driver(&config.pub_sub_multiproc_driver, context)?;
    let mut workers = driver.subscriber(&SubscriberOptions {
        max_message_size: config.max_message_size,
        socket_group: Some(config.socket_group.clone()),
        socket_users: Users::named(&config.socket_users)?.0,
        ..SubscriberOptions::default()
    })?;
    workers.initialize(Arc::new(Pushed {
        to: pushed,
        lines: RateLimit::new(5, Duration::from_secs(10)),
    }))?;
    let path = config.publisher_multiproc_socket.clone();
    workers.register_listen_address(&Endpoint::Ipc { path })?;
    workers.daemonize()?;
    Ok(workers)
}

/// Hands pushed events to the service.
struct Pushed {
    to: Sender<EventBatch>,
    lines: RateLimit,
}

impl Callback for Pushed {
    /// Waits for the service: that is how workers come to wait when it can take nothing. The
    /// service takes everything until its workers' side is closed.
    fn events(&self, _source: &Source, events: EventBatch) {
        if let Err(unsent) = self.to.send(events)
            && let Some(permit) = self.lines.permit(Instant::now())
        {
            let lost = unsent.0.len();
            log::error!("{lost} events of workers lost: the service has ended{permit}");
        }
    }

    fn link(&self, _source: &Source, _change: LinkChange) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, Sources, load_publisher};
    use crate::handler::registry::Registry;
    use crate::pubsub::driver::memory::MemoryNetwork;
    use crate::pubsub::driver::zmq::ZmqPubSub;

    #[test]
    fn who_is_to_be_kept_out_needs_a_driver_that_can() {
        let options = |endpoint| PublisherOptions {
            endpoint,
            send_hwm: 1,
            subscriptions: true,
            send_timeout: Duration::ZERO,
            linger: Duration::ZERO,
            socket_group: None,
            socket_users: Users::default(),
            key: None,
            peers: PeerRules::default(),
        };
        let endpoint = Endpoint::Memory { name: "p".into() };
        let mut without = MemoryNetwork::new().publisher(&options(endpoint)).unwrap();
        assert_eq!(check_control("memory", &mut *without, false), Ok(()));
        let why = check_control("memory", &mut *without, true).unwrap_err();
        assert!(
            why.contains("\"memory\" cannot end") && why.contains("zmq_pubsub_driver"),
            "{why}"
        );
        let endpoint = Endpoint::Ipc {
            path: "/p.sock".into(),
        };
        let mut with = ZmqPubSub::new().publisher(&options(endpoint)).unwrap();
        assert_eq!(check_control(ALIAS, &mut *with, true), Ok(()));
    }

    #[test]
    fn there_are_no_more_connections_than_descriptors_for_them() {
        let config = load_publisher(&Sources::default(), &Known::new(&Registry::builtin()));
        let mut config = config.unwrap();
        config.max_connections = 10_000;
        // Twice as many, one for each port, and 256.
        for (descriptors, most) in [
            (0, 0),
            (257, 0),
            (1_024, 384),
            (20_255, 9_999),
            (20_256, 10_000),
            (u64::MAX, 10_000),
        ] {
            let rules = peer_rules(&config, descriptors);
            assert_eq!(rules.max_connections, most, "{descriptors}");
        }
    }
}
