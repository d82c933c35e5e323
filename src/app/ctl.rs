//! `fanfare`: the operator's tool.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use super::{CONFIG_FAULT, keys, logging, publish};
use crate::config::{KeyFault, Known, Sources, load_agent, load_publisher};
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
    /// Make a pair of keys and say what the other side must be told
    Keygen(keys::KeygenArgs),
    /// Show the keys that were refused because nobody has authorised them
    Pending(keys::PendingArgs),
    /// Let the node with this key connect
    Authorise(keys::AuthoriseArgs),
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
        Command::Keygen(args) => keys::keygen(&args),
        Command::Pending(args) => keys::pending(&args),
        Command::Authorise(args) => keys::authorise(&args),
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
