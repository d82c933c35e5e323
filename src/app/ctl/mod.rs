//! `fanfare`: the operator's tool.

mod ask;
mod check;
mod rows;
mod screen;
mod service;
mod status;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::ask::{Target, Wanted};
use self::check::Daemon;
use super::{keys, publish};
use crate::control::Request;

/// The operator's tool.
///
/// What is told by a daemon goes to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(
    name = "fanfare",
    version,
    after_help = "\
Exit status: 0 when it is done; 1 when the daemon refused or what was named is not there; 2 for a \
fault of a configuration or of the command line; 3 when the daemon could not be asked: it does not \
run, you may not, or it is too busy; 4 when `status` found that the daemon is not ready."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Whether this node is in step, and why not
    Status {
        #[command(flatten)]
        target: Target,
        /// The whole report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Changes as they come, until Ctrl-C
    Watch {
        #[command(flatten)]
        target: Target,
        /// Only this table; may be repeated
        #[arg(long, value_name = "TABLE")]
        table: Vec<String>,
        /// Only this topic; may be repeated
        #[arg(long, value_name = "TOPIC")]
        topic: Vec<String>,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Rows of this node's replica: the value of KEY, or all rows of TABLE
    Get {
        #[command(flatten)]
        target: Target,
        /// The table
        table: String,
        /// The key; its value is printed as it is
        key: Option<String>,
        /// A JSON object a row
        #[arg(long)]
        json: bool,
    },
    /// The topics this node subscribes to; changes last until the agent starts again
    Topics {
        #[command(subcommand)]
        command: Topics,
    },
    /// Has HANDLER, or every handler, start over with all rows
    Resync {
        #[command(flatten)]
        target: Target,
        /// The handler's name
        handler: Option<String>,
    },
    /// Rows that handlers have given up on
    Quarantine {
        #[command(subcommand)]
        command: Quarantine,
    },
    /// Shows, or sets until the next start, what a daemon logs
    LogLevel {
        #[command(flatten)]
        target: Target,
        /// As log_level in the configuration, such as debug or info,fanfare::pubsub=debug
        level: Option<String>,
        /// Of the publisher service
        #[arg(long)]
        publisher: bool,
    },
    /// The status of this node, again and again, with events a second
    Top {
        #[command(flatten)]
        target: Target,
        /// Time between two looks
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
        interval: Duration,
        /// End after so many looks
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// The publisher service of this host
    Publisher {
        #[command(subcommand)]
        command: Publisher,
    },
    /// Check configuration files and report all faults of them at once
    CheckConfig {
        /// The files; later ones win, as with the daemons' --config
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose configuration it is; by default the publisher's where a file is called publisher.toml, else
        /// the agent's
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

#[derive(Debug, Subcommand)]
enum Topics {
    /// The topics and how many rows are on each
    List {
        #[command(flatten)]
        target: Target,
        /// A JSON object a topic
        #[arg(long)]
        json: bool,
    },
    /// Subscribe to TOPIC
    Add {
        #[command(flatten)]
        target: Target,
        /// The topic
        topic: String,
    },
    /// Unsubscribe from TOPIC
    Remove {
        #[command(flatten)]
        target: Target,
        /// The topic
        topic: String,
    },
}

#[derive(Debug, Subcommand)]
enum Quarantine {
    /// The rows, with the reasons
    List {
        #[command(flatten)]
        target: Target,
        /// Only of this handler
        handler: Option<String>,
        /// A JSON object a row
        #[arg(long)]
        json: bool,
    },
    /// Give rows to their handler again
    Release {
        #[command(flatten)]
        target: Target,
        /// Only of this handler
        handler: Option<String>,
        /// Only of this table
        #[arg(long)]
        table: Option<String>,
        /// Only this key
        #[arg(long, requires = "table")]
        key: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Publisher {
    /// How it is: journal, workers, subscribers of each topic
    Status {
        #[command(flatten)]
        target: Target,
        /// The whole report as JSON
        #[arg(long)]
        json: bool,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    match (0.05..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("not within 0.05 and 3600".into()),
    }
}

/// The exit status is explained in the help.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Status { target, json } => status::run(&target, json),
        Command::Watch {
            target,
            table,
            topic,
            json,
        } => rows::watch(&target, table, topic, json),
        Command::Get {
            target,
            table,
            key,
            json,
        } => rows::get(&target, table, key, json),
        Command::Topics { command } => topics(command),
        Command::Resync { target, handler } => {
            let text = match &handler {
                Some(name) => format!("handler {name} starts over"),
                None => "every handler starts over".into(),
            };
            ask::done(&target, Wanted::Agent, &Request::Resync { handler }, |_| {
                text
            })
        }
        Command::Quarantine { command } => quarantine(command),
        Command::LogLevel {
            target,
            level,
            publisher,
        } => {
            let wanted = if publisher {
                Wanted::Publisher
            } else {
                Wanted::Agent
            };
            ask::done(&target, wanted, &Request::LogLevel { level }, |done| {
                done["level"].as_str().unwrap_or_default().to_owned()
            })
        }
        Command::Top {
            target,
            interval,
            count,
        } => top::run(&target, interval, count),
        Command::Publisher {
            command: Publisher::Status { target, json },
        } => service::run(&target, json),
        Command::CheckConfig { files, daemon } => check::check_config(files, daemon),
        Command::Keygen(args) => keys::keygen(&args),
        Command::Pending(args) => keys::pending(&args),
        Command::Authorise(args) => keys::authorise(&args),
        Command::Publish(args) => publish::run(&args),
    }
}

fn topics(command: Topics) -> ExitCode {
    let changed = |done: &serde_json::Value, yes: String, no: String| match done["changed"] {
        serde_json::Value::Bool(false) => no,
        _ => yes,
    };
    match command {
        Topics::List { target, json } => rows::topics(&target, json),
        Topics::Add { target, topic } => {
            let yes = format!("subscribed to {topic} until the agent starts again");
            let no = format!("{topic} was subscribed to already");
            let request = Request::TopicsAdd { topic };
            ask::done(&target, Wanted::Agent, &request, |done| {
                changed(done, yes, no)
            })
        }
        Topics::Remove { target, topic } => {
            let yes = format!("unsubscribed from {topic} until the agent starts again");
            let no = format!("{topic} was not subscribed to");
            let request = Request::TopicsRemove { topic };
            ask::done(&target, Wanted::Agent, &request, |done| {
                changed(done, yes, no)
            })
        }
    }
}

fn quarantine(command: Quarantine) -> ExitCode {
    match command {
        Quarantine::List {
            target,
            handler,
            json,
        } => rows::quarantine(&target, handler, json),
        Quarantine::Release {
            target,
            handler,
            table,
            key,
        } => {
            let request = Request::QuarantineRelease {
                handler,
                table,
                key,
            };
            ask::done(&target, Wanted::Agent, &request, |done| {
                format!("{} rows released", done["released"])
            })
        }
    }
}
