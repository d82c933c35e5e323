//! `fanfare-publisher`: parse → wire → wait → stop in order.

mod ends;
mod handle;
mod wire;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use crossbeam_channel::select;

use self::wire::{Front, Wired};
use super::{CONFIG_FAULT, DaemonArgs, STOP_MARGIN, logging};
use crate::config::{Known, PublisherConfig, load_publisher};
use crate::handler::registry::Registry;
use crate::status;
use crate::util::shutdown;

pub use self::handle::{OpenError, PublisherHandle};

/// Takes the events of a host's API workers and sends them to every subscribed agent.
#[derive(Debug, Parser)]
#[command(name = "fanfare-publisher", version)]
struct Args {
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
        return super::key_faults(&faults);
    }
    super::logged(&args.daemon, &config.log_level, || serve(&config))
}

fn serve(config: &PublisherConfig) -> Result<(), Box<dyn Error>> {
    let requests = shutdown::requests(config.stop_timeout + STOP_MARGIN)?;
    let mut wired = Wired::new(config, &zmq::Context::new(), Front::Workers)?;
    log::info!(
        "fanfare-publisher {} sends on {}",
        env!("CARGO_PKG_VERSION"),
        config.bind
    );
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    loop {
        select! {
            recv(requests.stop) -> _ => break,
            recv(requests.reload) -> _ => {
                wired.look_at_keys();
                log::warn!(
                    "SIGHUP: authorized_keys is read again; the configuration only at the next start"
                );
            }
        }
    }
    let in_time = wired.stop_by(Instant::now() + config.stop_timeout);
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
