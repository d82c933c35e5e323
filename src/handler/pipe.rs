//! `module = "pipe"`: a long-lived child that is told of every change, in any language.
//!
//! The child reads JSON lines on its standard input and answers on its standard output
//! (`protocol.rs`; docs/handlers.md is its description). Up to `window` lines may be without an
//! answer. A row that the child refuses is a a late failure, which the lane treats like any other
//! failed row. A child that dies, breaks the protocol or answers nothing for `timeout` is the
//! handler's end ([`HandlerError::Lost`]): the lane makes a new one, and its child is told all
//! rows.
//!
//! The child is started by the first call, not by `build`, which may only be checking. There is no
//! thread beside the lane's: a child with nothing to do is looked after once a second.

mod child;
mod lines;
mod protocol;
mod window;

use std::time::{Duration, Instant};

use super::command::{self, process};
use super::{BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason};
use crate::event::{Event, EventBatch};
use crate::util::printable;
use crate::util::rate::RateLimit;
use crate::util::stop::StopToken;
use child::{Child, Said};
use protocol::Message;
use window::{Line, Window};

const WINDOW: usize = 64;
const MAX_WINDOW: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const MIN_TIME: Duration = Duration::from_millis(10);
const MAX_TIME: Duration = Duration::from_secs(3600);

/// Bytes that wait to be written before a call waits for the child.
const MAX_QUEUED: usize = 64 * 1024;
/// How long a call of `idle` waits for answers; new events wait as long at most.
const ANSWER_WAIT: Duration = Duration::from_millis(10);
/// Time between two looks after a child that has nothing to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Lines of the child's own log that are passed on per [`LOG_INTERVAL`].
const LOG_LINES: u32 = 100;
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes shown of one of them.
const MAX_SHOWN: usize = 1024;
/// Bytes shown of the last line on standard error in the report of a death.
const MAX_LAST_WORDS: usize = 256;

/// The registry's entry. Keys: `command` (required; program and arguments as a list),
/// `ping_interval` (seconds of silence before the child is asked whether it is there, 0.01 to 3600,
/// default 10), `timeout` (seconds within which it must answer, 0.01 to 3600, default 30), `window`
/// (lines that may be without an answer, 1 to 10000, default 64).
pub const MODULE: Module = Module {
    name: "pipe",
    about: "a long-lived child that reads changes as JSON lines and acknowledges them",
    keys: &["command", "ping_interval", "timeout", "window"],
    build,
};

struct Pipe {
    name: String,
    arguments: Vec<String>,
    size: usize,
    timeout: Duration,
    ping_interval: Duration,
    stop: StopToken,
    /// `None` before the first call and after its end.
    running: Option<Running>,
    in_sync: bool,
    late: Vec<(EventBatch, HandlerError)>,
    /// Lines without an answer when the child was last attended to.
    unanswered: usize,
    log_limit: RateLimit,
}

struct Running {
    child: Child,
    window: Window,
    /// The last line of its standard error, for the report of its death.
    last_words: String,
}

fn build(
    name: &str,
    settings: &Settings,
    stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    Ok(Box::new(Pipe::new(name, settings, stop)?))
}

impl Pipe {
    fn new(name: &str, settings: &Settings, stop: &StopToken) -> Result<Self, BuildError> {
        let arguments = command::required(settings)?;
        let timeout = settings.seconds("timeout", TIMEOUT, MIN_TIME, MAX_TIME)?;
        let ping_interval = settings.seconds("ping_interval", PING_INTERVAL, MIN_TIME, MAX_TIME)?;
        let size = settings.get("window")?.unwrap_or(WINDOW);
        if !(1..=MAX_WINDOW).contains(&size) {
            let why = format_args!("{size} is not between 1 and {MAX_WINDOW}");
            return Err(BuildError::setting("window", why));
        }
        process::check_kernel()?;
        Ok(Pipe {
            name: name.to_owned(),
            arguments,
            size,
            timeout,
            ping_interval,
            stop: stop.clone(),
            running: None,
            in_sync: false,
            late: Vec::new(),
            unanswered: 0,
            log_limit: RateLimit::new(LOG_LINES, LOG_INTERVAL),
        })
    }

    /// Sends a line once there is room for it. It is written by the time that the queue of the lane
    /// is empty, or that much has come together.
    fn send(&mut self, line: Line, text: impl Fn(u64) -> String) -> Result<(), HandlerError> {
        if self.stop.is_stopped() {
            return Err(HandlerError::Retry("stopped".into()));
        }
        if self.running.is_none() {
            self.start()?;
        }
        loop {
            let Some(running) = &mut self.running else {
                return Err(HandlerError::Lost("it has no child".into()));
            };
            if !running.window.is_full() && running.child.queued() < MAX_QUEUED {
                let seq = running.window.send(line, Instant::now());
                running.child.push(&text(seq));
                if running.window.is_full() {
                    self.exchange()?;
                }
                return Ok(());
            }
            self.exchange_until(Instant::now() + self.timeout)?;
        }
    }

    fn start(&mut self) -> Result<(), HandlerError> {
        let program = printable::text(&self.arguments[0], MAX_SHOWN);
        let mut child = Child::start(&self.arguments)
            .map_err(|error| HandlerError::Lost(format!("cannot start {program}: {error}")))?;
        child.push(&protocol::hello(&self.name, self.size));
        self.running = Some(Running {
            child,
            window: Window::new(self.size, self.timeout, Instant::now()),
            last_words: String::new(),
        });
        Ok(())
    }

    /// Waits until there is something to write or read, at most until `until`, and does it.
    fn exchange_until(&mut self, until: Instant) -> Result<(), HandlerError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let until = running.window.deadline().map_or(until, |at| at.min(until));
        running
            .child
            .wait(&self.stop, until)
            .map_err(|error| HandlerError::Lost(format!("cannot wait for its child: {error}")))?;
        self.exchange()
    }

    /// Writes and reads what can be without waiting, and acts on what the child says.
    fn exchange(&mut self) -> Result<(), HandlerError> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        // Taken out for the time being: on error it is dropped, and its group killed.
        self.attend(&mut running)?;
        self.running = Some(running);
        Ok(())
    }

    fn attend(&mut self, running: &mut Running) -> Result<(), HandlerError> {
        let said = running.child.exchange();
        let is_silent = said.is_empty();
        let mut fault = self.listen(said, running).err();
        if self.stop.is_stopped() {
            return Err(HandlerError::Retry("stopped".into()));
        }
        if is_silent && let Some(end) = running.child.dead() {
            // It may have said something between the look and its end.
            let said = running.child.exchange();
            fault = fault.or(self.listen(said, running).err()).or(Some(end));
        }
        match fault.or(running.window.overdue(Instant::now())) {
            Some(why) => Err(HandlerError::Lost(format!(
                "its child {why}{}",
                running.last_words
            ))),
            None => Ok(()),
        }
    }

    /// Acts on these lines.
    ///
    /// # Errors
    /// The child is at fault.
    fn listen(&mut self, said: Vec<Said>, running: &mut Running) -> Result<(), String> {
        for line in said {
            match line {
                Said::Out(line) => self.heard(&line, &mut running.window)?,
                Said::Err(line) => {
                    self.log(log::Level::Warn, &line);
                    if !line.trim().is_empty() {
                        let line = printable::text(line.trim(), MAX_LAST_WORDS);
                        running.last_words = format!("; its last words: {line}");
                    }
                }
            }
        }
        self.unanswered = running.window.len();
        Ok(())
    }

    fn heard(&mut self, line: &str, window: &mut Window) -> Result<(), String> {
        let now = Instant::now();
        match protocol::parse(line)? {
            Message::Hello(protocol::VERSION) => window.hello(now),
            Message::Hello(other) => {
                return Err(format!(
                    "speaks protocol {other}, not {}",
                    protocol::VERSION
                ));
            }
            Message::Ack(seq) => window.ack(seq, now)?,
            Message::Pong(seq) => window.pong(seq, now)?,
            Message::Nack { seq, reason, retry } => {
                self.late.extend(window.nack(seq, &reason, retry, now)?);
            }
            Message::Log(level, text) => self.log(level, &text),
        }
        Ok(())
    }

    fn log(&self, level: log::Level, text: &str) {
        if let Some(permit) = self.log_limit.permit(Instant::now()) {
            let text = printable::text(text, MAX_SHOWN);
            log::log!(level, "handler {}: {text}{permit}", self.name);
        }
    }
}

impl Handler for Pipe {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.in_sync = true;
        self.send(Line::Begin, |seq| {
            protocol::begin_sync(seq, reason.as_str())
        })
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let line = Line::Row([*event].into_iter().collect());
        let in_sync = self.in_sync;
        self.send(line, |seq| protocol::change(seq, event, in_sync))
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.in_sync = false;
        self.send(Line::End, protocol::end_sync)
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        self.exchange()?;
        let Some(running) = &self.running else {
            return Ok(None);
        };
        let is_asked = !running.window.is_empty() || !running.window.is_greeted();
        if is_asked || running.child.queued() > 0 {
            self.exchange_until(now + ANSWER_WAIT)?;
            return Ok(Some(Instant::now()));
        }
        let ping_at = running.window.heard() + self.ping_interval;
        if ping_at <= now {
            self.send(Line::Ping, protocol::ping)?;
            return Ok(Some(now));
        }
        Ok(Some(ping_at.min(now + LOOK_INTERVAL)))
    }

    fn late_failures(&mut self, tell: &mut dyn FnMut(&Event<'_>, HandlerError)) {
        for (event, error) in self.late.drain(..) {
            event.iter().for_each(|event| tell(&event, error.clone()));
        }
    }

    /// Ends the child's input and gives it half of the time to answer and to end by itself.
    fn close(&mut self, closing: Closing) -> Result<(), HandlerError> {
        let now = Instant::now();
        let until = now + closing.deadline.saturating_duration_since(now) / 2;
        while let Some(running) = &mut self.running
            && Instant::now() < until
        {
            running.child.finish();
            match self.exchange_until(until) {
                Ok(()) => {}
                // Its end is what is waited for.
                Err(_) if self.unanswered == 0 => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.unanswered {
            0 => Ok(()),
            n => Err(HandlerError::Retry(format!(
                "its child left {n} lines without an answer"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
