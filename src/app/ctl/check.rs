//! `fanfare check-config`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::{CONFIG_FAULT, logging};
use crate::config::{Faults, Known, Sources, load_agent, load_publisher};
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
    match check(&sources, daemon) {
        Ok(warnings) => {
            for warning in warnings {
                logging::tell(format_args!("warning: {warning}"));
            }
            match writeln!(io::stdout(), "{}: ok", names.join(", ")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(faults) => {
            logging::tell(faults);
            ExitCode::from(CONFIG_FAULT)
        }
    }
}

fn check(sources: &Sources, daemon: Daemon) -> Result<Vec<String>, Faults> {
    let modules = Registry::builtin();
    let known = Known::new(&modules);
    match daemon {
        Daemon::Agent => load_agent(sources, &known).map(|config| config.warnings()),
        Daemon::Publisher => load_publisher(sources, &known).map(|config| config.warnings()),
    }
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
