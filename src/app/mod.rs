//! The programs: parse → wire → wait → stop in order.

pub mod agent;
pub mod ctl;
#[cfg(test)]
mod documents;
mod keys;
mod logging;
#[cfg(test)]
mod manual;
mod publish;
pub mod publisher;

/// Exit status when the configuration must be mended.
const CONFIG_FAULT: u8 = 2;

/// What the daemons take on the command line.
#[derive(Debug, clap::Args)]
struct DaemonArgs {
    /// Read FILE instead of the default configuration; may be repeated, later ones win
    #[arg(short, long, value_name = "FILE")]
    config: Vec<std::path::PathBuf>,
    /// Set one configuration key, such as publisher_port=9000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What to log: off, error, warn, info, debug, trace, or a filter as in RUST_LOG
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl DaemonArgs {
    fn sources(&self) -> crate::config::Sources {
        crate::config::Sources::system(self.config.clone(), self.set.clone())
    }
}

/// Tells which keys cannot be used; the exit status that goes with it.
fn key_faults(faults: &[crate::config::KeyFault]) -> std::process::ExitCode {
    for fault in faults {
        logging::tell(fault);
    }
    std::process::ExitCode::from(CONFIG_FAULT)
}

/// Beyond its `stop_timeout` a daemon is given this long before it is ended the hard way.
const STOP_MARGIN: std::time::Duration = std::time::Duration::from_millis(300);

/// Runs a daemon with a log. Exit status 1 when it cannot start.
fn logged(
    args: &DaemonArgs,
    configured: &str,
    serve: impl FnOnce(logging::Level) -> Result<(), Box<dyn std::error::Error>>,
) -> std::process::ExitCode {
    let log = match logging::start(args.log_level.as_deref(), configured) {
        Ok(log) => log,
        Err(why) => {
            logging::tell(format_args!("cannot start: no thread for the log: {why}"));
            return std::process::ExitCode::FAILURE;
        }
    };
    let status = match serve(log.level()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            log::error!("cannot start: {why}");
            std::process::ExitCode::FAILURE
        }
    };
    drop(log);
    status
}
