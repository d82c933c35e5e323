//! `fanfare publish`: hands events to the publisher service of this host and says what became of
//! them.

mod lines;
mod progress;
mod report;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::publisher::PublisherHandle;
use super::{CONFIG_FAULT, logging};
use crate::config::{Known, PUBLISHER_KEYS, Sources, load_publisher};
use crate::event::Event;
use crate::handler::registry::Registry;
use crate::publisher::client::{ClientError, ClientOptions, PublisherClient};
use crate::publisher::submit::{MAX_VERSION, check};

use self::lines::{Line, lines};
use self::report::Report;

/// What is published, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A FILE is read and checked as a whole first; when any line of it is bad, all such lines are told \
and nothing is published. Of a pipe, bad lines are told and left out, and count as refused.

With pub_sub_use_multiproc = false, and without --socket, events do not go through the service: this \
command binds the network address and opens the journal itself, and no other process of the host may \
have them meanwhile.

Exit status: 0 when every event was acknowledged, 1 when any was refused or not acknowledged in \
time, 2 when nothing was published because of the command line or a bad line.")]
pub(super) struct PublishArgs {
    /// The table of the object
    #[arg(long, required_unless_present = "from", requires = "key")]
    table: Option<String>,
    /// The object's key within its table
    #[arg(long, requires = "table")]
    key: Option<String>,
    /// The object's new value, JSON in practice
    #[arg(long, requires = "table", required_unless_present_any = ["from", "delete"])]
    value: Option<String>,
    /// The object is deleted
    #[arg(long, requires = "table", conflicts_with = "value")]
    delete: bool,
    /// Who gets it; by default everyone
    #[arg(long, requires = "table")]
    topic: Option<String>,
    /// The object's version; an event older than what is known is refused
    #[arg(long, requires = "table", value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..=MAX_VERSION))]
    event_version: Option<u64>,
    /// Publish the events in FILE, one JSON object a line; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "table")]
    from: Option<PathBuf>,
    /// The service's publisher_multiproc_socket; by default the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Read FILE instead of the publisher's default configuration; may be repeated
    #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
    config: Vec<PathBuf>,
    /// Give up when nothing is acknowledged for this long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    match (0.1..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("not within 0.1 and 86400".into()),
    }
}

/// How often waiting is broken off to show progress and refusals.
const TICK: Duration = Duration::from_millis(100);

/// Events handed over between two looks at what became of them: far fewer than the refusals that
/// the client keeps.
const LOOK_EVERY: u64 = 1000;

/// Bad lines of a file that are told.
const BAD_LINES: usize = 20;

/// Publishes and reports.
pub(super) fn run(args: &PublishArgs) -> ExitCode {
    let mut report = Report::new(io::stderr().is_terminal());
    let status = match publish(args, &mut report) {
        Ok(()) => report.status(),
        Err(why) => {
            logging::tell(format_args!("nothing was published: {why}"));
            return ExitCode::from(CONFIG_FAULT);
        }
    };
    match writeln!(io::stdout(), "{report}") {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Publishes all there is; an error when nothing was sent because of how we were called.
fn publish(args: &PublishArgs, report: &mut Report) -> Result<(), String> {
    let publisher = open(args)?;
    let mut sender = Sender {
        client: &publisher,
        report,
        timeout: args.timeout,
        unseen: 0,
    };
    match &args.from {
        None => sender.one(args)?,
        Some(path) => sender.all(path)?,
    }
    sender.finish();
    Ok(())
}

/// The way that the command line names, else the configured one.
fn open(args: &PublishArgs) -> Result<PublisherHandle, String> {
    let options = |socket: &Path| ClientOptions {
        // Waiting is done here, in short steps.
        send_timeout: TICK,
        linger: Duration::ZERO,
        ..ClientOptions::beside(socket)
    };
    if let Some(path) = &args.socket {
        return Ok(PublisherHandle::through(options(path)));
    }
    let modules = Registry::builtin();
    let sources = Sources::system(args.config.clone(), Vec::new());
    match load_publisher(&sources, &Known::new(&modules)) {
        Ok(config) => {
            let options = options(&config.publisher_multiproc_socket);
            PublisherHandle::open_with(&config, options).map_err(|error| error.to_string())
        }
        Err(faults) if !args.config.is_empty() => Err(faults.to_string()),
        // Who publishes need not be allowed to read the service's configuration.
        Err(_) => Ok(PublisherHandle::through(options(default_socket().as_ref()))),
    }
}

fn default_socket() -> &'static str {
    let key = PUBLISHER_KEYS
        .iter()
        .find(|key| key.name == "publisher_multiproc_socket");
    key.map_or("", |key| key.default.trim_matches('"'))
}

struct Sender<'a> {
    client: &'a PublisherClient,
    report: &'a mut Report,
    timeout: Duration,
    /// Events handed over since the last look.
    unseen: u64,
}

impl Sender<'_> {
    fn one(&mut self, args: &PublishArgs) -> Result<(), String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (table, key, value) = (text(&args.table), text(&args.key), text(&args.value));
        let event = match args.delete {
            true => Event::delete(&table, &key),
            false => Event::set(&table, &key, &value),
        };
        let event = Event {
            topic: args.topic.as_deref(),
            ..event
        };
        check(&event, args.event_version).map_err(|(_, reason)| reason)?;
        self.hand_over(&event, args.event_version, None)
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    fn all(&mut self, path: &Path) -> Result<(), String> {
        let cannot = |error: io::Error| format!("{}: {error}", path.display());
        let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path).map_err(cannot)?;
            if file.metadata().map_err(cannot)?.is_file() {
                self.report.expect(check_file(path)?);
            }
            Box::new(BufReader::new(file))
        };
        for line in lines(input) {
            let Line { number, event } = line;
            let event = match event {
                Ok(event) => event,
                Err(why) => {
                    self.report.bad_line(number, &why);
                    continue;
                }
            };
            match self.hand_over(&event.event(), event.version(), Some(number)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(ClientError::Event { reason, .. }) => self.report.bad_line(number, &reason),
                Err(error) if self.report.is_empty() => return Err(error.to_string()),
                Err(error) => {
                    self.report.give_up(&error.to_string());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Hands one event to the client; `false` when nothing was acknowledged for too long.
    fn hand_over(
        &mut self,
        event: &Event<'_>,
        version: Option<u64>,
        line: Option<u64>,
    ) -> Result<bool, ClientError> {
        let begin = Instant::now();
        loop {
            match self.client.publish(event, version) {
                Ok(number) => {
                    self.report.sent(number, line);
                    self.unseen += 1;
                    if self.unseen >= LOOK_EVERY {
                        self.look();
                    }
                    return Ok(true);
                }
                Err(ClientError::SpoolFull { .. }) => {
                    self.look();
                    if self.report.idle_since().max(begin).elapsed() >= self.timeout {
                        return Ok(false);
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Waits for what is on its way.
    fn finish(&mut self) {
        let begin = Instant::now();
        while self
            .client
            .flush(TICK)
            .is_ok_and(|summary| summary.pending > 0)
        {
            self.look();
            if self.report.idle_since().max(begin).elapsed() >= self.timeout {
                break;
            }
        }
        self.look();
        self.report.end(self.timeout, self.client.trouble());
    }

    fn look(&mut self) {
        self.unseen = 0;
        // The refusals after the summary, so that none that it counts is missing.
        let summary = self.client.summary();
        self.report
            .look(summary, &self.client.refusals(), self.client.trouble());
    }
}

/// Counts the events of a file; an error when a line of it is bad.
fn check_file(path: &Path) -> Result<u64, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut events, mut bad) = (0, 0);
    for Line { number, event } in lines(BufReader::new(file)) {
        match event {
            Ok(_) => events += 1,
            Err(why) => {
                bad += 1;
                if bad <= BAD_LINES {
                    logging::tell(format_args!("{}:{number}: {why}", path.display()));
                }
            }
        }
    }
    match bad {
        0 => Ok(events),
        1 => Err(format!("{} has a bad line", path.display())),
        _ => Err(format!("{} has {bad} bad lines", path.display())),
    }
}
