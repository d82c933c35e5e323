//! `fanfare check-config`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
    let daemon = daemon.unwrap_or_else(|| guess(&files));
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
        logging::tell(format_args!("warning: {warning}"));
    }
    if !faults.is_empty() {
        for fault in faults {
            logging::tell(fault);
        }
        return ExitCode::from(CONFIG_FAULT);
    }
    match writeln!(io::stdout(), "{}: ok", names.join(", ")) {
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

fn guess(files: &[PathBuf]) -> Daemon {
    let named = |file: &PathBuf| {
        let name = file.file_name().map(Path::new).map(Path::display);
        name.is_some_and(|name| name.to_string().contains("publisher"))
    };
    match files.iter().any(named) {
        true => Daemon::Publisher,
        false => Daemon::Agent,
    }
}
