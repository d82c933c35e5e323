//! `fanfare-publisher`: parse → wire → publish until told to stop → stop.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::{CONFIG_FAULT, DaemonArgs, STOP_MARGIN, logging};
use crate::config::{Known, PublisherConfig, load_publisher};
use crate::handler::registry::Registry;
use crate::publisher::json_line::JsonLine;
use crate::pubsub::{PublisherApi, PublisherOptions, registry};
use crate::util::shutdown;
use crate::util::thread::Thread;

/// Sends events to every subscribed agent.
#[derive(Debug, Parser)]
#[command(name = "fanfare-publisher", version)]
struct Args {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Publish the events in FILE, one JSON object a line; - for standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Exit status 0 after SIGTERM or SIGINT, 2 when the configuration must be mended, 1 when something
/// else keeps it from starting.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let modules = Registry::builtin();
    let config = match load_publisher(&args.daemon.sources(), &Known::new(&modules)) {
        Ok(config) => config,
        Err(faults) => {
            logging::tell(faults);
            return ExitCode::from(CONFIG_FAULT);
        }
    };
    super::logged(&args.daemon, &config.log_level, || {
        serve(&config, args.from.as_deref())
    })
}

fn serve(config: &PublisherConfig, from: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let requests = shutdown::requests(config.stop_timeout + STOP_MARGIN)?;
    let driver = registry::find(&config.pub_sub_driver)
        .ok_or_else(|| format!("there is no driver {}", config.pub_sub_driver))?;
    let driver = (driver.make)(&zmq::Context::new());
    let mut publisher = driver.publisher(&PublisherOptions {
        endpoint: config.bind.clone(),
        send_hwm: config.send_hwm,
        send_timeout: config.stop_timeout,
        linger: config.stop_timeout,
        subscriptions: false,
    })?;
    publisher.initialize()?;
    let mut lines = match from {
        Some(path) => read_lines(path)?,
        None => never(),
    };
    log::info!(
        "fanfare-publisher {} sends on {}",
        env!("CARGO_PKG_VERSION"),
        config.bind
    );
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    let mut sent: u64 = 0;
    loop {
        select! {
            recv(requests.stop) -> _ => break,
            recv(requests.reload) -> _ => {
                log::warn!("SIGHUP: this version reads its configuration at start only");
            }
            recv(lines) -> line => match line {
                Ok(line) => sent += u64::from(publish(config, publisher.as_mut(), &line)),
                Err(_) => {
                    log::info!("all lines are read");
                    lines = never();
                }
            },
        }
    }
    publisher.close();
    log::info!("stopped, {sent} events sent");
    Ok(())
}

/// Says whether the line was sent. A bad one costs nobody but itself.
fn publish(config: &PublisherConfig, publisher: &mut dyn PublisherApi, line: &Line) -> bool {
    let event = match &line.event {
        Ok(event) => event,
        Err(why) => {
            log::error!("line {}: {why}", line.number);
            return false;
        }
    };
    let everyone =
        (!config.enable_selective_topology_distribution).then_some(crate::event::SEND_ALL);
    match publisher.send_event(&event.event(), everyone) {
        Ok(()) => true,
        Err(why) => {
            log::error!("line {}: {why}", line.number);
            false
        }
    }
}

struct Line {
    number: u64,
    event: Result<JsonLine, String>,
}

/// Lines that may wait to be sent.
const WAITING: usize = 256;

/// Reads on a thread of its own: a pipe may be silent for ever, and signals must be heard.
fn read_lines(path: &Path) -> io::Result<Receiver<Line>> {
    let input: Box<dyn BufRead + Send> = match path.to_str() {
        Some("-") => Box::new(BufReader::new(io::stdin())),
        _ => Box::new(BufReader::new(File::open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?)),
    };
    let (sender, lines) = bounded(WAITING);
    Thread::spawn("lines", move || forward(input, &sender))?;
    Ok(lines)
}

fn forward(input: Box<dyn BufRead + Send>, sender: &Sender<Line>) {
    for (line, number) in input.lines().zip(1..) {
        let event = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => JsonLine::parse(&line).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if sender.send(Line { number, event }).is_err() {
            return;
        }
    }
}
