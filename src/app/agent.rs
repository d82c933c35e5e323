//! `fanfare-agent`: parse → wire → wait → stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::{never, select, tick};

use super::{CONFIG_FAULT, DaemonArgs, STOP_MARGIN, logging};
use crate::agent::follower::ZmqSync;
use crate::agent::{Agent, Parts, RecoveryParts, checkpoint, recovery};
use crate::config::{AgentConfig, HandlerConfig, Known, load_agent};
use crate::dispatch::lane::Build;
use crate::dispatch::{Filter, LaneOptions, SeatOptions};
use crate::handler::BuildError;
use crate::handler::registry::Registry;
use crate::pubsub::endpoint::Defaults;
use crate::pubsub::{SubscriberOptions, registry};
use crate::security::party::NodeKeys;
use crate::status;
use crate::util::shutdown;

/// Follows every publisher and runs the local handlers.
#[derive(Debug, Parser)]
#[command(name = "fanfare-agent", version)]
struct Args {
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// The agent with the modules in the box.
pub fn main() -> ExitCode {
    run(Registry::builtin())
}

/// The agent with these modules: what a program with modules of its own calls from its `main`.
/// Exit status 0 after SIGTERM or SIGINT, 2 when the configuration must be mended, 1 when something
/// else keeps it from starting.
pub fn run(modules: Registry) -> ExitCode {
    let args = Args::parse();
    let config = match load_agent(&args.daemon.sources(), &Known::new(&modules)) {
        Ok(config) => config,
        Err(faults) => {
            logging::tell(faults);
            return ExitCode::from(CONFIG_FAULT);
        }
    };
    let keys = match config.keys() {
        Ok(keys) => keys.map(Arc::new),
        Err(faults) => return super::key_faults(&faults),
    };
    super::logged(&args.daemon, &config.log_level, || {
        serve(&config, keys, modules)
    })
}

/// How often the agent looks for what it may forget.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How long a deleted object is remembered; see [`crate::replica::Row`].
const TOMBSTONE_TTL: Duration = Duration::from_secs(24 * 3600);

fn serve(
    config: &AgentConfig,
    keys: Option<Arc<NodeKeys>>,
    modules: Registry,
) -> Result<(), Box<dyn std::error::Error>> {
    let requests = shutdown::requests(config.stop_timeout + STOP_MARGIN)?;
    let mut agent = Agent::start(parts(config, keys, modules)?)?;
    log::info!(
        "fanfare-agent {} started: {} publishers, {} handlers",
        env!("CARGO_PKG_VERSION"),
        config.publishers.len(),
        config.handler.len()
    );
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    let mut discoveries = agent.discoveries();
    let topics = agent.topic_bell();
    // Not a timeout of the wait: discoveries would put it off.
    let housekeeping = tick(HOUSEKEEPING);
    loop {
        select! {
            recv(requests.stop) -> _ => break,
            recv(requests.reload) -> _ => {
                log::warn!("SIGHUP: this version reads its configuration at start only");
            }
            recv(discoveries) -> hint => match hint {
                Ok(hint) => agent.discover(hint),
                // Only a signal ends the agent.
                Err(_) => discoveries = never(),
            },
            recv(topics) -> _ => agent.serve_topics(),
            recv(housekeeping) -> _ => agent.hub().forget(TOMBSTONE_TTL),
        }
    }
    let start = Instant::now();
    let (sources, followed) = (agent.sources(), agent.followed());
    let hub = Arc::clone(agent.hub());
    let lanes: Vec<_> = agent
        .lanes()
        .iter()
        .map(|lane| (lane.name().to_owned(), Arc::clone(&lane.metrics)))
        .collect();
    let left_behind = agent.stop();
    for line in status::summary(&sources, &followed, &hub, &lanes) {
        log::info!("{line}");
    }
    log::info!(
        "stopped in {:?}, {left_behind} handlers left behind",
        start.elapsed()
    );
    Ok(())
}

fn parts(
    config: &AgentConfig,
    keys: Option<Arc<NodeKeys>>,
    modules: Registry,
) -> Result<Parts, String> {
    let driver = registry::find(&config.pub_sub_driver)
        .ok_or_else(|| format!("there is no driver {}", config.pub_sub_driver))?;
    let modules = Arc::new(modules);
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
        discovery: Some(Defaults {
            transport: config.publisher_transport,
            port: config.publisher_port,
        }),
        topics: config.subscriptions(),
        handlers: config
            .handler
            .iter()
            .map(|h| lane(config, h, &modules))
            .collect(),
        stop_timeout: config.stop_timeout,
    })
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
        checkpoint: state_dir(config).map(|folder| checkpoint::Options {
            folder,
            every: config.checkpoint_interval,
        }),
    }
}

/// Where checkpoints are kept; without a folder that can be written the agent works, and loads all
/// rows after each restart.
fn state_dir(config: &AgentConfig) -> Option<PathBuf> {
    let folder = &config.state_dir;
    let made = std::fs::create_dir_all(folder).and_then(|()| {
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

fn lane(config: &AgentConfig, handler: &HandlerConfig, modules: &Arc<Registry>) -> LaneOptions {
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
