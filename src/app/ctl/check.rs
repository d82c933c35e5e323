//! `fanfare check-config`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::{CONFIG_FAULT, logging};
use crate::config::{KeyFault, Known, Sources, load_agent, load_publisher};
use crate::handler::registry::Registry;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Daemon {
    Agent,
    Publisher,
}

/// Checks the files as one configuration and tells all faults.
pub fn check_config(files: Vec<PathBuf>, daemon: Option<Daemon>) -> ExitCode {
    let Some(daemon) = daemon.or_else(|| guess(&files)) else {
        logging::tell(format_args!(
            "agent.toml and publisher.toml are not one configuration: say whose it is, --for agent or \
             --for publisher"
        ));
        return ExitCode::from(CONFIG_FAULT);
    };
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let sources = Sources {
        files,
        ..Sources::default()
    };
    let (warnings, faults) = check(&sources, daemon);
    for warning in warnings {
        logging::tell_as(log::Level::Warn, format_args!("warning: {warning}"));
    }
    if !faults.is_empty() {
        for fault in faults {
            logging::tell(fault);
        }
        return ExitCode::from(CONFIG_FAULT);
    }
    let daemon = match daemon {
        Daemon::Agent => "agent",
        Daemon::Publisher => "publisher",
    };
    let names = names.join(", ");
    match writeln!(io::stdout(), "{names}: ok, for the {daemon}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Warnings and faults.
fn check(sources: &Sources, daemon: Daemon) -> (Vec<String>, Vec<String>) {
    let modules = Registry::builtin();
    let known = Known::new(&modules);
    let loaded = match daemon {
        Daemon::Agent => {
            load_agent(sources, &known).map(|config| (config.warnings(), config.keys().map(drop)))
        }
        Daemon::Publisher => load_publisher(sources, &known)
            .map(|config| (config.warnings(), config.keys().map(drop))),
    };
    match loaded {
        Ok((warnings, keys)) => sorted(warnings, keys.err().unwrap_or_default()),
        Err(faults) => (Vec::new(), vec![faults.to_string()]),
    }
}

/// A key that is not here may be where the daemon will run: that is worth a warning.
fn sorted(mut warnings: Vec<String>, keys: Vec<KeyFault>) -> (Vec<String>, Vec<String>) {
    let mut faults = Vec::new();
    for fault in keys {
        let to = match fault.here_only {
            true => &mut warnings,
            false => &mut faults,
        };
        to.push(fault.to_string());
    }
    (warnings, faults)
}

/// Whose configuration it is by the names of its files: only those of the packages say so. Others are
/// common to both daemons, or anything.
fn guess(files: &[PathBuf]) -> Option<Daemon> {
    let has = |wanted: &str| {
        let mut names = files.iter().filter_map(|file| file.file_name());
        names.any(|name| name == wanted)
    };
    match (has("agent.toml"), has("publisher.toml")) {
        (true, true) => None,
        (false, true) => Some(Daemon::Publisher),
        _ => Some(Daemon::Agent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_packaged_names_say_whose_it_is() {
        let of = |files: &[&str]| guess(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let agent = "/etc/fanfare/agent.toml";
        for beside in ["conf.d/10-publishers.toml", "/publisher.toml.d/a.toml"] {
            assert_eq!(of(&[agent, beside]), Some(Daemon::Agent));
            assert_eq!(of(&[beside]), Some(Daemon::Agent));
        }
        let publisher = "/etc/fanfare/publisher.toml";
        assert_eq!(of(&[publisher, "10-agent.toml"]), Some(Daemon::Publisher));
        assert_eq!(of(&[publisher, agent]), None);
    }
}
