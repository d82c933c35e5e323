//! The thread of one publisher: owns its link, feeds its session, hands batches on.
//!
//! It waits for one thing only, [`Link::wait`] (or the bell while there is no link), and never for
//! a handler, a name server or a lock that is held for long.

mod acts;
#[cfg(test)]
mod panics;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::follow::Follow;
use super::intake::{Intake, Round};
use super::link::{Link, Transport};
use super::names::Names;
use super::resolve::Found;
use super::session::{Input, Session};
use crate::pubsub::api::{PubSubError, Source, SubscriberOptions};
use crate::pubsub::endpoint::Endpoint;
use crate::util::poll;
use crate::util::rate::RateLimit;
use crate::util::waker::{Commands, Inbox};

/// What others ask of a reader.
#[derive(Debug)]
pub enum Command {
    /// Subscribe to a topic.
    Subscribe(String),
    /// Unsubscribe from a topic.
    Unsubscribe(String),
    /// The look-up has ended.
    Found(Found),
    /// End.
    Stop,
}

/// What a reader is made of.
pub struct Parts {
    pub endpoint: Endpoint,
    pub source: Arc<Source>,
    pub transport: Arc<dyn Transport>,
    pub follow: Box<dyn Follow>,
    pub options: SubscriberOptions,
    pub topics: Vec<String>,
    pub inbox: Inbox<Command>,
    /// For look-ups to answer through.
    pub commands: Commands<Command>,
}

/// For how long what was pushed is still taken at the end: less than the reader is waited for.
const DRAIN_WITHIN: Duration = Duration::from_millis(300);

/// Log lines about one publisher's connection per [`LINES_INTERVAL`].
const LINES: u32 = 6;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

pub struct Reader {
    parts: Parts,
    session: Session,
    intake: Intake,
    link: Option<Box<dyn Link>>,
    names: Names,
    /// Where the last attempt led.
    target: Endpoint,
    /// Whether the link carries the bare prefixes that legacy publishers need.
    legacy_subscriptions: bool,
    /// Inputs not yet given to the session.
    inputs: Vec<Input>,
    /// Whether it begins again after a panic.
    anew: bool,
    lines: RateLimit,
}

impl Reader {
    pub fn new(mut parts: Parts) -> Self {
        let rng = parts.options.seed.map_or_else(Rng::new, Rng::with_seed);
        let mut intake = Intake::new(&parts.options, parts.transport.selects());
        let now = Instant::now();
        for topic in &parts.topics {
            intake.add_topic(topic);
            parts.follow.topic(topic, true, now);
        }
        Reader {
            session: Session::new(&parts.options, rng),
            intake,
            link: None,
            names: Names::new(parts.endpoint.clone()),
            target: parts.endpoint.clone(),
            legacy_subscriptions: false,
            inputs: vec![Input::Start],
            anew: false,
            lines: RateLimit::new(LINES, LINES_INTERVAL),
            parts,
        }
    }

    /// Runs until [`Command::Stop`].
    pub fn run(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            // libzmq's binding panics on error numbers it does not know. The publisher must not be
            // lost for it: begin again with a new link.
            log::error!(
                "{}: its reader panicked and begins again",
                self.parts.source.uri
            );
            self.link = None;
            self.inputs = vec![Input::Down, Input::Start];
            self.anew = true;
        }
        let selects = self.parts.transport.selects();
        if !selects && catch_unwind(AssertUnwindSafe(|| self.drain())).is_err() {
            let uri = &self.parts.source.uri;
            log::error!("{uri}: its reader panicked at the end; what was waiting is lost");
        }
        self.parts.source.metrics.live.set(0);
        self.parts.source.pulse.rest();
    }

    /// Hands on what is waiting already: who pushed it does not know whether it was taken, and does not
    /// send it again.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_WITHIN;
        loop {
            match self.receive() {
                Ok(true) => return,
                Ok(false) if Instant::now() < deadline => {}
                Ok(false) => {
                    let uri = &self.parts.source.uri;
                    log::warn!(
                        "{uri}: more is pushed than is taken; what waits at the end is lost"
                    );
                    return;
                }
                Err(error) => {
                    self.say(log::Level::Error, format_args!("{error}"));
                    return;
                }
            }
        }
    }

    fn serve(&mut self) {
        if self.anew {
            // A batch may have been taken and not handed on.
            self.parts.follow.begin_anew(Instant::now());
            self.anew = false;
        }
        loop {
            self.parts.source.pulse.beat();
            self.advance();
            if !self.take_commands() {
                return;
            }
            if !self.inputs.is_empty() {
                continue;
            }
            let drained = self.receive();
            let followed = self.parts.follow.turn(Instant::now());
            match drained {
                Ok(drained) if drained && followed => self.take_signals_and_wait(),
                Ok(_) => {}
                Err(error) => self.link_broke(&error),
            }
        }
    }

    /// Gives the session what has happened and does what it says.
    fn advance(&mut self) {
        loop {
            let now = Instant::now();
            if self.inputs.is_empty() && self.session.deadline().is_some_and(|due| now >= due) {
                self.inputs.push(Input::Tick);
            }
            let inputs = std::mem::take(&mut self.inputs);
            if inputs.is_empty() {
                return;
            }
            for input in inputs {
                for action in self.session.step(input, now) {
                    self.act(action);
                }
            }
        }
    }

    fn link_broke(&mut self, error: &PubSubError) {
        self.parts.source.metrics.connects_failed_total.inc();
        self.say(log::Level::Error, format_args!("{error}"));
        self.link = None;
        // Whichever fits; the other changes nothing.
        self.inputs.extend([Input::ConnectFailed, Input::Down]);
    }

    /// `false` when it is time to end.
    fn take_commands(&mut self) -> bool {
        // One at a time: a panic in one must not lose those behind it.
        while let Some(command) = self.next_command() {
            match command {
                Command::Subscribe(topic) => self.subscribe(topic),
                Command::Unsubscribe(topic) => self.unsubscribe(&topic),
                Command::Found(found) => self.found(found),
                Command::Stop => return false,
            }
        }
        true
    }

    fn next_command(&mut self) -> Option<Command> {
        self.parts.inbox.drain().next()
    }

    /// Hands on what is waiting; says whether the link is drained.
    fn receive(&mut self) -> Result<bool, PubSubError> {
        let Some(link) = &mut self.link else {
            return Ok(true);
        };
        let Round {
            events,
            heard,
            hello,
            drained,
        } = self.intake.receive(link.as_mut(), &self.parts.source)?;
        // First the session, so that the connection is announced before its first event.
        if hello.is_some() {
            self.inputs.push(Input::Hello);
        } else if heard {
            self.inputs.push(Input::Heard);
        }
        self.advance();
        if !events.is_empty() {
            self.parts.follow.events(events, Instant::now());
        }
        if let Some(hello) = hello {
            self.parts.follow.hello(*hello, Instant::now());
        }
        Ok(drained)
    }

    /// Called when the link is drained, so that a loss is seen after all that came before it.
    fn take_signals_and_wait(&mut self) {
        if let Err(error) = self.take_signals() {
            self.link_broke(&error);
        }
        if !self.inputs.is_empty() {
            return;
        }
        let due = [self.session.deadline(), self.parts.follow.deadline()];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let bell = self.parts.inbox.fd();
        let wakes = [bell, self.parts.follow.fd().unwrap_or(bell)];
        self.parts.source.pulse.rest();
        let waited = match &mut self.link {
            Some(link) => link.wait(wakes, timeout),
            None => match poll::readable(wakes, timeout) {
                Ok(_) => Ok(()),
                Err(error) => Err(PubSubError::System {
                    what: "cannot wait for commands".into(),
                    why: error.to_string(),
                }),
            },
        };
        if let Err(error) = waited {
            self.link_broke(&error);
        }
    }
}
