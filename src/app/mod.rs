//! The programs: parse → wire → wait → stop in order.

pub mod agent;
pub mod ctl;
mod logging;
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
