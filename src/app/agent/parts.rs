//! From the configuration to what an agent is made of.

use std::sync::Arc;

use crate::agent::Parts;
use crate::config::{AgentConfig, HandlerConfig};
use crate::dispatch::{Filter, LaneOptions, SeatOptions};
use crate::handler::BuildError;
use crate::handler::registry::Registry;
use crate::pubsub::endpoint::Defaults;
use crate::pubsub::{SubscriberOptions, registry};

/// An agent's parts.
pub fn parts(config: &AgentConfig, modules: &Arc<Registry>) -> Result<Parts, String> {
    let driver = registry::find(&config.pub_sub_driver)
        .ok_or_else(|| format!("there is no driver {}", config.pub_sub_driver))?;
    Ok(Parts {
        driver: (driver.make)(&zmq::Context::new()),
        subscriber: SubscriberOptions {
            connect_timeout: config.connect_timeout,
            reconnect_min: config.reconnect_min,
            reconnect_max: config.reconnect_max,
            max_idle_time: config.max_idle_time,
            legacy_detect: config.legacy_detect,
            max_message_size: config.max_message_size,
            receive_hwm: config.receive_hwm,
            ..SubscriberOptions::default()
        },
        publishers: config.publishers.clone(),
        discovery: Some(Defaults {
            transport: config.publisher_transport,
            port: config.publisher_port,
        }),
        topics: config.subscriptions(),
        handlers: config
            .handler
            .iter()
            .map(|h| lane(config, h, modules))
            .collect(),
        stop_timeout: config.stop_timeout,
    })
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
    LaneOptions {
        name: name.clone(),
        build: Box::new(move |stop| match modules.find(&module) {
            Some(module) => module.make(&name, &settings, stop),
            None => Err(BuildError::Environment(format!(
                "there is no module {module}"
            ))),
        }),
        seat: SeatOptions {
            filter: Filter {
                tables: handler.tables.clone(),
                topics: handler.topics.clone(),
            },
            delivery: handler.delivery,
            queue_length: config.queue_length,
            queue_bytes: config.queue_bytes,
        },
    }
}
