//! From the configuration to what an agent is made of.

use std::path::PathBuf;
use std::sync::Arc;

use crate::agent::follower::ZmqSync;
use crate::agent::{Parts, RecoveryParts, checkpoint, northbound, recovery};
use crate::config::{AgentConfig, HandlerConfig};
use crate::dispatch::lane::Build;
use crate::dispatch::{Filter, LaneOptions, SeatOptions};
use crate::handler::BuildError;
use crate::handler::registry::Registry;
use crate::pubsub::endpoint::Defaults;
use crate::pubsub::{SubscriberOptions, registry};
use crate::security::party::NodeKeys;
use crate::store;
use crate::store::registry::StoreOptions;
use crate::util::group;

/// An agent's parts.
pub fn parts(
    config: &AgentConfig,
    keys: Option<Arc<NodeKeys>>,
    modules: &Arc<Registry>,
) -> Result<Parts, String> {
    let driver = registry::find(&config.pub_sub_driver)
        .ok_or_else(|| format!("there is no driver {}", config.pub_sub_driver))?;
    let context = zmq::Context::new();
    Ok(Parts {
        driver: (driver.make)(&context),
        recovery: Some(recovery(config, &context, keys.clone())),
        subscriber: SubscriberOptions {
            connect_timeout: config.connect_timeout,
            reconnect_min: config.reconnect_min,
            reconnect_max: config.reconnect_max,
            max_idle_time: config.max_idle_time,
            legacy_detect: config.legacy_detect,
            max_message_size: config.max_message_size,
            receive_hwm: config.receive_hwm,
            keys,
            ..SubscriberOptions::default()
        },
        publishers: config.publishers.clone(),
        discovery: Some(defaults(config)),
        topics: config.subscriptions(),
        handlers: config
            .handler
            .iter()
            .map(|h| lane(config, h, modules))
            .collect(),
        stop_timeout: config.stop_timeout,
    })
}

/// What completes the addresses of publishers.
pub fn defaults(config: &AgentConfig) -> Defaults {
    Defaults {
        transport: config.publisher_transport,
        port: config.publisher_port,
    }
}

fn recovery(
    config: &AgentConfig,
    context: &zmq::Context,
    keys: Option<Arc<NodeKeys>>,
) -> RecoveryParts {
    RecoveryParts {
        transport: Arc::new(ZmqSync::new(context, keys)),
        options: recovery::Options {
            held_bytes: config.held_bytes,
            heads_every: config.heads_interval,
            ..recovery::Options::default()
        },
        sync_timeout: config.sync_timeout,
        legacy_resync: config.db_sync_time,
        northbound: northbound(config),
        checkpoint: state_dir(config).map(|folder| checkpoint::Options {
            folder,
            every: config.checkpoint_interval,
        }),
    }
}

/// How the northbound store is opened, where there is one.
fn northbound(config: &AgentConfig) -> Option<northbound::Options> {
    let driver = store::registry::find(&config.nb_store)?;
    let options = StoreOptions {
        state_dir: config.state_dir.clone(),
    };
    Some(northbound::Options {
        open: Box::new(move || (driver.open)(&options)),
        selective: config.enable_selective_topology_distribution,
    })
}

/// Where checkpoints are kept; without a folder that can be written the agent works, and loads all
/// rows after each restart.
fn state_dir(config: &AgentConfig) -> Option<PathBuf> {
    let folder = &config.state_dir;
    let made = group::folder(folder, None).and_then(|()| {
        let free = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
        free.map_err(std::io::Error::from)
    });
    match made {
        Ok(()) => Some(folder.clone()),
        Err(error) => {
            log::warn!(
                "state_dir {}: {error}: a restart will load all rows again",
                folder.display()
            );
            None
        }
    }
}

/// One handler's lane.
pub fn lane(config: &AgentConfig, handler: &HandlerConfig, modules: &Arc<Registry>) -> LaneOptions {
    let modules = Arc::clone(modules);
    let HandlerConfig {
        name,
        module,
        settings,
        ..
    } = handler.clone();
    let seat = SeatOptions {
        filter: Filter {
            tables: handler.tables.clone(),
            topics: handler.topics.clone(),
            actions: handler.actions,
        },
        delivery: handler.delivery,
        queue_length: config.queue_length,
        queue_bytes: config.queue_bytes,
    };
    let own = name.clone();
    let build: Build = Box::new(move |stop| match modules.find(&module) {
        Some(module) => module.make(&own, &settings, stop),
        None => Err(BuildError::Environment(format!(
            "there is no module {module}"
        ))),
    });
    LaneOptions {
        time_limit: Some(handler.time_limit).filter(|limit| !limit.is_zero()),
        ..LaneOptions::new(name, seat, build)
    }
}
