//! The thread of one publisher: owns its link, feeds its session, hands batches on.
//!
//! It waits for one thing only, [`Link::wait`] (or the bell while there is no link), and never for
//! a handler, a name server or a lock that is held for long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::follow::{Follow, Passing};
use super::intake::{Intake, Round};
use super::link::{Link, Signal, Transport};
use super::names::{Known, Names};
use super::resolve::Found;
use super::session::{Action, Input, Session};
use crate::event::topic::{self, HELLO};
use crate::pubsub::api::{Callback, PubSubError, Source, SubscriberOptions};
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
    pub callback: Arc<dyn Callback>,
    pub options: SubscriberOptions,
    pub topics: Vec<String>,
    pub inbox: Inbox<Command>,
    /// For look-ups to answer through.
    pub commands: Commands<Command>,
}

/// Log lines about one publisher's connection per [`LINES_INTERVAL`].
const LINES: u32 = 6;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

pub struct Reader {
    parts: Parts,
    session: Session,
    intake: Intake,
    follow: Box<dyn Follow>,
    link: Option<Box<dyn Link>>,
    names: Names,
    /// Where the last attempt led.
    target: Endpoint,
    /// Whether the link carries the bare prefixes that legacy publishers need.
    legacy_subscriptions: bool,
    /// Inputs not yet given to the session.
    inputs: Vec<Input>,
    lines: RateLimit,
}

impl Reader {
    pub fn new(parts: Parts) -> Self {
        let rng = parts.options.seed.map_or_else(Rng::new, Rng::with_seed);
        let mut intake = Intake::new(&parts.options, parts.transport.selects());
        let mut follow = parts
            .callback
            .follow(&parts.source)
            .unwrap_or_else(|| Box::new(Passing::new(&parts.callback, &parts.source)));
        let now = Instant::now();
        for topic in &parts.topics {
            intake.add_topic(topic);
            follow.topic(topic, true, now);
        }
        Reader {
            session: Session::new(&parts.options, rng),
            intake,
            follow,
            link: None,
            names: Names::new(parts.endpoint.clone()),
            target: parts.endpoint.clone(),
            legacy_subscriptions: false,
            inputs: vec![Input::Start],
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
        }
        self.parts.source.metrics.live.set(0);
        self.parts.source.pulse.rest();
    }

    fn serve(&mut self) {
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
            let followed = self.follow.turn(Instant::now());
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

    fn act(&mut self, action: Action) {
        let metrics = &self.parts.source.metrics;
        match action {
            Action::Resolve => self.resolve(),
            Action::Open => self.open(),
            Action::Announce(change) => {
                use crate::pubsub::api::LinkChange::{Down, Up};
                match change {
                    Up { .. } => {
                        metrics.connects_total.inc();
                        metrics.live.set(1);
                        self.say(log::Level::Info, format_args!("connected"));
                    }
                    Down => {
                        metrics.disconnects_total.inc();
                        metrics.live.set(0);
                        self.say(log::Level::Warn, format_args!("connection lost"));
                    }
                }
                self.follow.link(change, &self.target, Instant::now());
            }
            Action::DropLegacySubscriptions => {
                metrics.legacy.set(0);
                self.drop_legacy_subscriptions();
            }
            // Workers of this host say no hello either, and nobody expects one of them.
            Action::TreatAsLegacy if !self.parts.transport.selects() => {}
            Action::TreatAsLegacy => {
                self.follow.legacy(Instant::now());
                metrics.legacy.set(1);
                self.say(
                    log::Level::Info,
                    format_args!("sends no hello: treated as legacy"),
                );
            }
            Action::CountSilence => {
                metrics.silences_total.inc();
                self.say(log::Level::Warn, format_args!("silent for too long"));
            }
            Action::CountRefusal => {
                metrics.refusals_total.inc();
                self.say(
                    log::Level::Error,
                    format_args!(
                        "refused: the handshake broke off, the peer may speak another protocol"
                    ),
                );
            }
            Action::CountTimeout => {
                metrics.connects_failed_total.inc();
                let limit = self.parts.options.connect_timeout;
                self.say(
                    log::Level::Warn,
                    format_args!("not connected within {limit:?}"),
                );
            }
        }
    }

    fn say(&self, level: log::Level, what: std::fmt::Arguments<'_>) {
        if let Some(permit) = self.lines.permit(Instant::now()) {
            log::log!(level, "{}: {what}{permit}", self.parts.source.uri);
        }
    }

    fn resolve(&mut self) {
        let commands = match self.parts.commands.try_clone() {
            Ok(commands) => commands,
            Err(error) => return self.found(Err(error.to_string())),
        };
        let answer = move |found| {
            if !commands.send(Command::Found(found)) {
                log::debug!("a look-up ended after its reader");
            }
        };
        match self.names.resolve(answer) {
            Known::Now => self.inputs.push(Input::Resolved),
            Known::Later => {}
            Known::Failed(why) => self.found(Err(why)),
        }
    }

    fn found(&mut self, found: Found) {
        if let Err(why) = &found {
            self.say(log::Level::Warn, format_args!("name not resolved: {why}"));
        }
        if self.names.found(found) {
            self.inputs.push(Input::Resolved);
        } else {
            self.parts.source.metrics.connects_failed_total.inc();
            self.inputs.push(Input::ResolveFailed);
        }
    }

    fn open(&mut self) {
        self.target = self.names.target();
        self.legacy_subscriptions = !self.session.is_fanfare();
        let opened = self
            .parts
            .transport
            .open(&self.target, &self.parts.source.uri)
            .and_then(|mut link| {
                link.subscribe(&terminated(HELLO))?;
                for topic in &self.parts.topics {
                    link.subscribe(&terminated(topic))?;
                    if self.legacy_subscriptions {
                        link.subscribe(topic.as_bytes())?;
                    }
                }
                Ok(link)
            });
        match opened {
            Ok(link) => self.link = Some(link),
            Err(error) => self.link_broke(&error),
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
        let commands: Vec<Command> = self.parts.inbox.drain().collect();
        for command in commands {
            match command {
                Command::Subscribe(topic) => self.subscribe(topic),
                Command::Unsubscribe(topic) => self.unsubscribe(&topic),
                Command::Found(found) => self.found(found),
                Command::Stop => return false,
            }
        }
        true
    }

    fn subscribe(&mut self, topic: String) {
        self.intake.add_topic(&topic);
        self.follow.topic(&topic, true, Instant::now());
        let legacy = self.legacy_subscriptions;
        self.with_link(|link| {
            link.subscribe(&terminated(&topic))?;
            if legacy {
                link.subscribe(topic.as_bytes())
            } else {
                Ok(())
            }
        });
        self.parts.topics.push(topic);
    }

    fn unsubscribe(&mut self, topic: &str) {
        self.intake.remove_topic(topic);
        self.follow.topic(topic, false, Instant::now());
        self.parts.topics.retain(|known| known != topic);
        let legacy = self.legacy_subscriptions;
        self.with_link(|link| {
            link.unsubscribe(&terminated(topic))?;
            if legacy {
                link.unsubscribe(topic.as_bytes())
            } else {
                Ok(())
            }
        });
    }

    fn drop_legacy_subscriptions(&mut self) {
        if std::mem::take(&mut self.legacy_subscriptions) {
            let topics = self.parts.topics.clone();
            self.with_link(|link| {
                topics
                    .iter()
                    .try_for_each(|t| link.unsubscribe(t.as_bytes()))
            });
        }
    }

    fn with_link(&mut self, act: impl FnOnce(&mut dyn Link) -> Result<(), PubSubError>) {
        if let Some(link) = &mut self.link
            && let Err(error) = act(link.as_mut())
        {
            self.link_broke(&error);
        }
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
            self.follow.events(events, Instant::now());
        }
        if let Some(hello) = hello {
            self.follow.hello(*hello, Instant::now());
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
        let due = [self.session.deadline(), self.follow.deadline()];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let bell = self.parts.inbox.fd();
        let wakes = [bell, self.follow.fd().unwrap_or(bell)];
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

    fn take_signals(&mut self) -> Result<(), PubSubError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(signal) = link.signal()? {
            let metrics = &self.parts.source.metrics;
            let input = match signal {
                Signal::Up => Input::Up,
                Signal::Down => Input::Down,
                Signal::ConnectFailed(why) => {
                    metrics.connects_failed_total.inc();
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::warn!("{}: not connected: {why}{permit}", self.parts.source.uri);
                    }
                    Input::ConnectFailed
                }
                Signal::TurnedAway(count) => {
                    metrics.refusals_total.add(count);
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::warn!(
                            "{}: {count} connections not taken, of users who are not in \
                             socket_users{permit}",
                            self.parts.source.uri
                        );
                    }
                    continue;
                }
                Signal::Refused(why) => {
                    metrics.refusals_total.inc();
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::error!("{}: refused: {why}{permit}", self.parts.source.uri);
                    }
                    Input::Refused
                }
            };
            self.inputs.push(input);
        }
        Ok(())
    }
}

/// A topic as a subscription to Fanfare publishers names it.
fn terminated(name: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(name.len() + 1);
    topic::write_frame(name, &mut frame);
    frame
}
