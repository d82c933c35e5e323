//! `fanfare`: the operator's tool.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use super::{CONFIG_FAULT, logging, publish};
use crate::config::{Faults, Known, Sources, load_agent, load_publisher};
use crate::handler::registry::Registry;

/// The operator's tool.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration files and report all faults of them at once
    CheckConfig {
        /// The files; later ones win, as with the daemons' --config
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose configuration it is; by default the publisher's when a file's name says so
        #[arg(long = "for", value_name = "DAEMON")]
        daemon: Option<Daemon>,
    },
    /// Hand events to the publisher service of this host and wait for its acknowledgement
    Publish(Box<publish::PublishArgs>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Daemon {
    Agent,
    Publisher,
}

/// Exit status 0 when what was asked succeeded, 2 for a fault of a configuration or of the command
/// line.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::CheckConfig { files, daemon } => check_config(files, daemon),
        Command::Publish(args) => publish::run(&args),
    }
}

fn check_config(files: Vec<PathBuf>, daemon: Option<Daemon>) -> ExitCode {
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
