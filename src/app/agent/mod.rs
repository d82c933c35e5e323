//! `fanfare-agent`: parse → wire → wait → stop.

mod change;
mod desk;
mod live;
mod parts;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::{Receiver, never, select, tick};

use self::desk::AgentDesk;
use self::live::Live;
use super::daemon::{self, DaemonArgs, Doors, Place, STOP_MARGIN};
use super::{CONFIG_FAULT, logging};
use crate::agent::Agent;
use crate::config::{AgentConfig, Known, load_agent};
use crate::control::{self, Job};
use crate::handler::registry::Registry;
use crate::security::party::NodeKeys;
use crate::status;
use crate::util::shutdown::{self, Requests};
use crate::util::systemd::Notifier;

/// Follows every publisher and runs the local handlers.
#[derive(Debug, Parser)]
#[command(name = "fanfare-agent", version)]
pub(super) struct Args {
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
        Err(faults) => return daemon::key_faults(&faults),
    };
    let level = config.log_level.clone();
    daemon::logged(&args.daemon, &level, |level| {
        serve(&args.daemon, config, keys, modules, level)
    })
}

/// How often the agent looks for what it may forget.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

fn serve(
    args: &DaemonArgs,
    config: AgentConfig,
    keys: Option<Arc<NodeKeys>>,
    modules: Registry,
    level: logging::Level,
) -> Result<(), Box<dyn std::error::Error>> {
    let requests = shutdown::requests(config.stop_timeout + STOP_MARGIN)?;
    let notifier = Notifier::from_env()?;
    let modules = Arc::new(modules);
    let (calls, jobs) = control::calls();
    let agent = Agent::start(parts::parts(&config, keys, &modules)?)?;
    let hub = Arc::clone(agent.hub());
    let mut live = Live::new(
        agent,
        config.clone(),
        args.sources(),
        modules,
        level,
        notifier,
    );
    let place = Place {
        daemon: "agent",
        run_dir: &config.run_dir,
        group: &config.socket_group,
        users: &config.socket_users,
        metrics: config.metrics_address,
    };
    let desk = AgentDesk { live: calls, hub };
    // After the agent: whoever can ask is answered at once.
    let doors = Doors::open(&place, &live.control, &live.exporter, desk)?;
    log::info!(
        "fanfare-agent {} started: {} publishers, {} handlers",
        env!("CARGO_PKG_VERSION"),
        config.publishers.len(),
        config.handler.len()
    );
    doors.announce();
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    wait(&mut live, &requests, &jobs);
    live.stopping();
    // Whoever still asks is told that it stops.
    drop(jobs);
    drop(doors);
    stop(live.agent);
    Ok(())
}

/// The main loop.
fn wait(live: &mut Live, requests: &Requests, jobs: &Receiver<Job<Live>>) {
    let mut discoveries = live.agent.discoveries();
    let topics = live.agent.topic_bell();
    // Not a timeout of the wait: discoveries would put it off.
    let housekeeping = tick(HOUSEKEEPING);
    let pulse = tick(live.interval());
    live.tick();
    loop {
        select! {
            recv(requests.stop) -> _ => break,
            recv(requests.reload) -> _ => {
                log::info!("SIGHUP: the configuration is read anew");
                live.reload();
            }
            recv(jobs) -> job => match job {
                Ok(job) => job(live),
                // The desk, which is kept until the end, has the other end.
                Err(_) => break,
            },
            recv(discoveries) -> hint => match hint {
                Ok(hint) => live.agent.discover(hint),
                // Only a signal ends the agent.
                Err(_) => discoveries = never(),
            },
            recv(topics) -> _ => live.agent.serve_topics(),
            recv(pulse) -> _ => live.tick(),
            recv(housekeeping) -> _ => live.forget(),
        }
    }
}

fn stop(agent: Agent) {
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
}
