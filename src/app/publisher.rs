//! `fanfare-publisher`: parse → wire → wait → stop in order.

mod desk;
mod ends;
mod handle;
mod live;
mod state;
mod vigil;
mod wire;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use crossbeam_channel::{Receiver, select, tick};

use self::desk::PublisherDesk;
use self::live::Live;
use self::wire::{Front, Wired};
use super::daemon::{self, DaemonArgs, Doors, Place, STOP_MARGIN};
use super::{CONFIG_FAULT, logging};
use crate::config::{Known, PublisherConfig, load_publisher};
use crate::control::{self, Job};
use crate::handler::registry::Registry;
use crate::status;
use crate::util::descriptors;
use crate::util::shutdown::{self, Requests};
use crate::util::systemd::Notifier;

pub use self::handle::{OpenError, PublisherHandle};

/// Takes the events of a host's API workers and sends them to every subscribed agent.
#[derive(Debug, Parser)]
#[command(name = "fanfare-publisher", version)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Exit status 0 after SIGTERM or SIGINT, 2 when the configuration must be mended, 1 when something
/// else keeps it from starting.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let modules = Registry::builtin();
    let config = match load_publisher(&args.daemon.sources(), &Known::new(&modules)) {
        Ok(config) => config,
        Err(faults) => {
            logging::tell(faults);
            return ExitCode::from(CONFIG_FAULT);
        }
    };
    if !config.pub_sub_use_multiproc {
        // With the address and the journal in this process's hands, no worker could publish.
        logging::tell(
            "pub_sub_use_multiproc = false: the process that publishes binds the network address and \
             keeps the journal itself, so this service must not run beside it and does not start; \
             set it to true for workers that hand their events over",
        );
        return ExitCode::from(CONFIG_FAULT);
    }
    if let Err(faults) = config.keys() {
        return daemon::key_faults(&faults);
    }
    daemon::logged(&args.daemon, &config.log_level, |level| {
        serve(&args.daemon, &config, level)
    })
}

/// Descriptors for everything but the agents' connections: journal, sockets, workers.
const OWN_DESCRIPTORS: u64 = 256;

/// Ports that agents connect to.
const PORTS: u64 = 2;

fn ready_for(connections: u64) {
    let wanted = PORTS * connections + OWN_DESCRIPTORS;
    let allowed = descriptors::allow(wanted);
    if allowed < wanted {
        log::warn!(
            "max_connections = {connections}: the system allows {allowed} open files, which is \
             enough for {} at each of {PORTS} ports, so no more are taken; raise LimitNOFILE, or \
             set a lower max_connections",
            enough_for(allowed)
        );
    }
}

/// The connections at each port that so many descriptors are enough for.
fn enough_for(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OWN_DESCRIPTORS) / PORTS
}

fn serve(
    args: &DaemonArgs,
    config: &PublisherConfig,
    level: logging::Level,
) -> Result<(), Box<dyn Error>> {
    let requests = shutdown::requests(config.stop_timeout + STOP_MARGIN)?;
    let notifier = Notifier::from_env()?;
    // Before the sockets: libzmq takes no connection that it has no descriptor for.
    ready_for(config.max_connections);
    let wired = Wired::new(config, &zmq::Context::new(), Front::Workers)?;
    let (calls, jobs) = control::calls();
    let mut live = Live::new(wired, config.clone(), args.sources(), level, notifier);
    let place = Place {
        daemon: "publisher",
        run_dir: &config.run_dir,
        group: &config.socket_group,
        users: &config.socket_users,
        metrics: config.metrics_address,
    };
    let desk = PublisherDesk { live: calls };
    let doors = Doors::open(&place, &live.control, &live.exporter, desk)?;
    log::info!(
        "fanfare-publisher {} sends on {}",
        env!("CARGO_PKG_VERSION"),
        config.bind
    );
    doors.announce();
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    wait(&mut live, &requests, &jobs);
    let deadline = Instant::now() + config.stop_timeout;
    live.stopping();
    // Whoever still asks is told that it stops.
    drop(jobs);
    drop(doors);
    let mut wired = live.wired;
    let in_time = wired.stop_by(deadline);
    for line in status::publisher_summary(&wired.sources(), &wired.counted()) {
        log::info!("{line}");
    }
    if in_time {
        log::info!("stopped");
    } else {
        log::error!("not everything ended within {:?}", config.stop_timeout);
    }
    Ok(())
}

/// The main loop.
fn wait(live: &mut Live, requests: &Requests, jobs: &Receiver<Job<Live>>) {
    let pulse = tick(live.interval());
    live.started();
    loop {
        select! {
            recv(requests.stop) -> _ => break,
            recv(requests.reload) -> _ => live.reload(),
            recv(jobs) -> job => match job {
                Ok(job) => job(live),
                // The desk, which is kept until the end, has the other end.
                Err(_) => break,
            },
            recv(pulse) -> _ => live.tick(),
        }
    }
}
