//! What both daemons need beside their parts: the command line, the log, where they can be asked, and
//! what a new configuration means to either.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{CONFIG_FAULT, logging};
use crate::config::{Faults, KeyFault, Sources, log_filter_fault};
use crate::control::{self, Answer, Calls, Code, Control, ControlMetrics, Desk, Refusal};
use crate::exporter::{Exhibit, Exporter, ExporterMetrics, Ill};
use crate::util::systemd::Notifier;
use crate::util::users::Users;

/// What the daemons take on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArgs {
    /// Read FILE instead of the default configuration; may be repeated, later ones win
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Set one configuration key, such as publisher_port=9000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What to log: off, error, warn, info, debug, trace, or a filter as in RUST_LOG
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl DaemonArgs {
    pub(super) fn sources(&self) -> Sources {
        Sources::system(self.config.clone(), self.set.clone())
    }
}

/// Tells which keys cannot be used; the exit status that goes with it.
pub(super) fn key_faults(faults: &[KeyFault]) -> ExitCode {
    for fault in faults {
        logging::tell(fault);
    }
    ExitCode::from(CONFIG_FAULT)
}

/// Beyond its `stop_timeout` a daemon is given this long before it is ended the hard way.
pub(super) const STOP_MARGIN: Duration = Duration::from_millis(300);

/// Runs a daemon with a log. Exit status 1 when it cannot start.
pub(super) fn logged(
    args: &DaemonArgs,
    configured: &str,
    serve: impl FnOnce(logging::Level) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let log = match logging::start(args.log_level.as_deref(), configured) {
        Ok(log) => log,
        Err(why) => {
            logging::tell(format_args!("cannot start: no thread for the log: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let status = match serve(log.level()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("cannot start: {why}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    status
}

/// Where a daemon can be asked.
pub(super) struct Place<'a> {
    /// Which daemon this is: `agent` or `publisher`.
    pub daemon: &'static str,
    /// The folder of the control socket.
    pub run_dir: &'a Path,
    /// Who may use it.
    pub group: &'a str,
    /// Which users may, where not all of that group.
    pub users: &'a [String],
    /// Where the exporter listens, if there is one.
    pub metrics: Option<SocketAddr>,
}

/// The control socket and the exporter. Whoever still asks when they are dropped is cut off.
pub(super) struct Doors {
    // In this order: the control socket's path is free for another daemon when all is closed.
    exporter: Option<Exporter>,
    control: Control,
}

impl Doors {
    /// Opens them. Whoever can ask is answered by `desk` at once, or waits.
    ///
    /// # Errors
    /// Another daemon has the place, or the system refuses.
    pub(super) fn open<D: Desk + Exhibit>(
        place: &Place<'_>,
        control: &Arc<ControlMetrics>,
        exporter: &Arc<ExporterMetrics>,
        desk: D,
    ) -> Result<Self, Box<dyn Error>> {
        let desk = Arc::new(desk);
        let options = control::Options {
            run_dir: place.run_dir.to_owned(),
            daemon: place.daemon,
            group: place.group.to_owned(),
            users: Users::told(place.users, "socket_users")?,
        };
        let control = Control::open(&options, Arc::clone(control), Arc::<D>::clone(&desk))?;
        let exporter = match place.metrics {
            Some(address) => Some(Exporter::start(address, Arc::clone(exporter), desk)?),
            None => None,
        };
        Ok(Doors { exporter, control })
    }

    /// Says in the log where they are.
    pub(super) fn announce(&self) {
        log::info!("control socket {}", self.control.path().display());
        if let Some(exporter) = &self.exporter {
            log::info!("metrics on http://{}/metrics", exporter.address());
        }
    }
}

/// How often a daemon looks at itself: each second, and often enough for the service manager's watchdog.
pub(super) fn interval(notifier: &Notifier) -> Duration {
    const TICK: Duration = Duration::from_secs(1);
    let fed = notifier.watchdog().map(|time| time / 3);
    fed.map_or(TICK, |fed| fed.min(TICK))
}

/// What became of the last reload: to be told until there is another one.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// Follows the line for the service manager.
    pub told: &'static str,
    /// What an operator must know of it, for the status.
    pub notice: Option<String>,
}

impl Reloaded {
    /// The new configuration is bad: it is refused as a whole, and the old one stays. Says why, a line each.
    pub(super) fn refused(faults: &Faults) -> Self {
        for line in faults.to_string().lines() {
            log::error!("{line}");
        }
        log::error!("the configuration is refused; the old one stays in force");
        let first = faults.iter().next().map(ToString::to_string);
        let more = match faults.iter().count() {
            0 | 1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        let first = first.unwrap_or_default();
        Reloaded {
            told: "; the new configuration is refused",
            notice: Some(format!(
                "the new configuration is refused, the old one is in force: {first}{more}"
            )),
        }
    }

    /// Not all of it could be done: `why`, where nothing else tells it.
    pub(super) fn in_part(why: Option<&str>) -> Self {
        Reloaded {
            told: "; the new configuration is not wholly in force, see fanfare status",
            notice: why.map(|why| format!("the new configuration is not wholly in force: {why}")),
        }
    }
}

/// Logs as a new configuration has it. Where the one who started the daemon said what to log, that
/// stays, and the key is not among those `taken`.
pub(super) fn set_level(level: &logging::Level, wanted: &str, taken: &mut Vec<&'static str>) {
    if level.is_fixed() {
        log::warn!("log_level: the command line or RUST_LOG has the last word");
        taken.retain(|key| *key != "log_level");
    } else {
        level.set(wanted);
    }
}

/// Says which keys of a new configuration do nothing yet.
pub(super) fn put_off(keys: &[&str]) {
    if !keys.is_empty() {
        let keys = keys.join(", ");
        log::warn!("these keys take effect at the next start: {keys}");
    }
}

/// Answers an operator who asks what is logged, or sets it. `of` finds that in what the main loop owns.
pub(super) fn log_level<L: 'static>(
    live: &Calls<L>,
    wanted: Option<String>,
    of: fn(&L) -> &logging::Level,
) -> Result<Answer, Refusal> {
    if let Some(level) = &wanted
        && let Some(fault) = log_filter_fault(level)
    {
        return Err(Refusal::new(Code::Invalid, fault));
    }
    let level = live.ask(move |live| {
        let level = of(live);
        if let Some(wanted) = wanted {
            level.set(&wanted);
            log::info!("an operator has set log_level to {wanted}");
        }
        level.get()
    })?;
    Ok(Answer::Done(json!({"level": level})))
}

/// A main loop that does not answer, as the exporter says it.
pub(super) fn ill(why: Refusal) -> Ill {
    Ill(vec![why.message])
}
