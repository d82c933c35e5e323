//! Follows one publisher on its reader's thread: the shell around [`super::recovery`].

mod line;
mod metrics;
mod rows;
mod shared;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::recovery::{Action, Input, Life, Note, Options, Recovery};
use crate::event::EventBatch;
use crate::event::hello::Hello;
use crate::handler::SyncReason;
use crate::pubsub::endpoint::{Defaults, Endpoint, Host, Transport};
use crate::pubsub::subscriber::Follow;
use crate::pubsub::{Callback, LinkChange, PubSubError, Source};
use crate::sync;
use crate::util::printable;
use crate::util::rate::RateLimit;

pub use line::{Line, SyncTransport, ZmqSync};
pub use metrics::RecoveryMetrics;
pub use rows::Rows;
pub use shared::{Followed, Shared};

/// Answers taken in one turn: the reader must come back to its link.
const ANSWERS: usize = 4;

/// How soon a change of positions is there for a checkpoint.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);

/// Topics shown that the publisher does not let this node have.
const FORBIDDEN: usize = 32;

/// Log lines about one publisher's recovery per [`LINES_INTERVAL`].
const LINES: u32 = 10;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

/// What makes followers.
pub struct Followers {
    /// Where events go.
    pub sink: Arc<dyn Callback>,
    /// Where rows are.
    pub rows: Arc<dyn Rows>,
    /// How to reach sync services.
    pub transport: Arc<dyn SyncTransport>,
    /// Bounds and times.
    pub options: Options,
    /// The time between two resyncs while a publisher is legacy; jittered.
    pub legacy_resync: Duration,
    /// What the followers share.
    pub shared: Arc<Shared>,
}

impl Callback for Followers {
    fn events(&self, source: &Source, events: EventBatch) {
        self.sink.events(source, events);
    }

    fn link(&self, source: &Source, change: LinkChange) {
        self.sink.link(source, change);
    }

    fn follow(&self, source: &Arc<Source>) -> Option<Box<dyn Follow>> {
        Some(Box::new(Follower {
            followed: self.shared.join(&source.uri),
            recovery: Recovery::new(self.options.clone(), self.shared.kept(), Rng::new()),
            source: Arc::clone(source),
            sink: Arc::clone(&self.sink),
            rows: Arc::clone(&self.rows),
            transport: Arc::clone(&self.transport),
            shared: Arc::clone(&self.shared),
            legacy_resync: self.legacy_resync,
            line: None,
            service: None,
            target: None,
            resync_due: None,
            life: None,
            positions_due: None,
            actions: Vec::new(),
            out: Vec::new(),
            lines: RateLimit::new(LINES, LINES_INTERVAL),
        }))
    }
}

struct Follower {
    recovery: Recovery,
    followed: Arc<Followed>,
    source: Arc<Source>,
    sink: Arc<dyn Callback>,
    rows: Arc<dyn Rows>,
    transport: Arc<dyn SyncTransport>,
    shared: Arc<Shared>,
    legacy_resync: Duration,
    line: Option<Box<dyn Line>>,
    /// The sync service as the hello names it.
    service: Option<String>,
    /// Where the reader's connection leads.
    target: Option<Endpoint>,
    /// The next periodic resync, while the publisher is legacy.
    resync_due: Option<Instant>,
    /// The publisher as it was shown last.
    life: Option<Life>,
    positions_due: Option<Instant>,
    actions: Vec<Action>,
    out: Vec<u8>,
    lines: RateLimit,
}

impl Follower {
    fn step(&mut self, input: Input, now: Instant) {
        let was = (self.recovery.is_in_sync(), self.recovery.is_legacy());
        self.recovery.step(input, now, &mut self.actions);
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.act(action, now);
        }
        self.actions = actions;
        self.positions_due.get_or_insert(now + POSITIONS_EVERY);
        if was != (self.recovery.is_in_sync(), self.recovery.is_legacy()) {
            self.show(now);
            self.shared.look(now);
        }
    }

    fn show(&mut self, now: Instant) {
        let standing = self.recovery.standing();
        let forbidden = self.recovery.forbidden(FORBIDDEN);
        self.followed.stands(standing, forbidden);
        if standing.life != self.life {
            self.life = standing.life;
            if let Some(other) = self.shared.twin(&self.source.uri, &standing) {
                self.followed.metrics.twins_total.inc();
                let what = "another address leads to a publisher with the same id";
                self.say(log::Level::Error, format_args!("{what}: {other}"), now);
            }
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Apply(events) => self.sink.events(&self.source, events),
            Action::Ask(tag, request) => {
                sync::request::encode(tag, &request, &mut self.out);
                if self.line.is_none() {
                    self.open(now);
                }
                if let Some(line) = &mut self.line
                    && let Err(error) = line.send(&self.out)
                {
                    self.say(log::Level::Error, format_args!("{error}"), now);
                    self.line = None;
                }
            }
            Action::Endpoint(service) => {
                self.service = service;
                self.line = None;
            }
            Action::Sweep(sweep) => {
                let topic = Arc::clone(&sweep.topic);
                let swept = self.rows.sweep(sweep);
                if swept > 0 {
                    self.followed.metrics.rows_swept_total.add(swept);
                    self.say(
                        log::Level::Info,
                        format_args!(
                            "{swept} rows of topic {} exist no longer",
                            printable::name(&topic, 64)
                        ),
                        now,
                    );
                }
            }
            Action::Topics(topics) => self.rows.topics(topics),
            Action::Resync(reason) => self.shared.resync(reason, Duration::ZERO, now),
            Action::Forbidden(topic) => {
                let topic = printable::name(&topic, 128);
                self.say(
                    log::Level::Error,
                    format_args!(
                        "it does not let this node have topic {topic}: no [[grant]] of the publisher \
                         names both; asked for again every minute"
                    ),
                    now,
                );
                self.show(now);
            }
            Action::Note(note) => {
                if note == Note::Unanswered {
                    // libzmq may have given the connection up for good.
                    self.line = None;
                }
                if let Some((level, line)) = self.followed.metrics.count(note) {
                    self.say(level, format_args!("{line}"), now);
                }
            }
        }
    }

    fn open(&mut self, now: Instant) {
        let Some(service) = &self.service else { return };
        let opened = match place(service, self.target.as_ref()) {
            Some(endpoint) => self.transport.open(&endpoint, &self.source.uri),
            None => {
                let service = printable::name(service, 128);
                self.say(
                    log::Level::Error,
                    format_args!("its sync service is at {service}, which is nowhere from here"),
                    now,
                );
                return;
            }
        };
        match opened {
            Ok(line) => self.line = Some(line),
            Err(error) => self.say(log::Level::Error, format_args!("{error}"), now),
        }
    }

    fn say(&self, level: log::Level, what: std::fmt::Arguments<'_>, now: Instant) {
        if let Some(permit) = self.lines.permit(now) {
            log::log!(level, "{}: {what}{permit}", self.source.uri);
        }
    }

    /// Takes one answer; `false` when none is waiting.
    fn receive(&mut self, now: Instant) -> bool {
        let Some(line) = &mut self.line else {
            return false;
        };
        let answer = match line.receive() {
            Ok(Some(bytes)) => sync::answer::decode(bytes),
            Ok(None) => return false,
            Err(error) => {
                self.line_broke(&error, now);
                return false;
            }
        };
        match answer {
            Ok((tag, answer)) => self.step(Input::Answer(tag, answer), now),
            Err(why) => {
                self.followed.metrics.bad_answers_total.inc();
                self.say(
                    log::Level::Error,
                    format_args!("an answer that cannot be read: {why}"),
                    now,
                );
            }
        }
        true
    }

    /// To be called when all answers that came were taken.
    fn look_at_line(&mut self, now: Instant) {
        if let Some(line) = &mut self.line
            && line.deadline().is_some_and(|due| now >= due)
            && let Err(error) = line.look(now)
        {
            self.line_broke(&error, now);
        }
    }

    /// What came in place of an answer is none.
    fn line_broke(&mut self, error: &PubSubError, now: Instant) {
        self.followed.metrics.bad_answers_total.inc();
        self.say(log::Level::Error, format_args!("{error}"), now);
        self.line = None;
        self.step(Input::Lost, now);
    }

    fn be_due(&mut self, now: Instant) {
        if self.recovery.deadline().is_some_and(|due| now >= due) {
            self.step(Input::Tick, now);
        }
        if self.positions_due.is_some_and(|due| now >= due) {
            self.positions_due = None;
            self.followed.has_come(self.recovery.positions());
            self.show(now);
        }
        if self.shared.deadline().is_some_and(|due| now >= due) {
            self.shared.look(now);
        }
        if self.resync_due.is_some_and(|due| now >= due) {
            self.resync_due = Some(now + jittered(self.legacy_resync));
            let reason = SyncReason::Requested;
            self.shared.resync(reason, self.legacy_resync / 2, now);
        }
    }
}

/// A third more or less, so that the agents of a cloud do not do the same at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(2.0 / 3.0 + fastrand::f64() * 2.0 / 3.0)
}

/// Where the sync service at `service` is for one who is connected to `target`: a service that is
/// bound to every address is at the one that the publisher was reached at. `None` for what cannot
/// be connected to without looking a name up.
fn place(service: &str, target: Option<&Endpoint>) -> Option<Endpoint> {
    let defaults = Defaults {
        transport: Transport::Tcp,
        port: 0,
    };
    match Endpoint::parse_bind(service, &defaults).ok()? {
        Endpoint::Tcp { port: 0, .. } => None,
        Endpoint::Tcp { host, port } => {
            let host = match (host, target) {
                (Host::Ip(ip), _) if !ip.is_unspecified() => Host::Ip(ip),
                (_, Some(Endpoint::Tcp { host, .. })) => host.clone(),
                _ => return None,
            };
            Some(Endpoint::Tcp { host, port })
        }
        ipc @ Endpoint::Ipc { .. } => matches!(target, Some(Endpoint::Ipc { .. })).then_some(ipc),
        _ => None,
    }
}

impl Follow for Follower {
    fn events(&mut self, events: EventBatch, now: Instant) {
        self.step(Input::Events(events), now);
    }

    fn hello(&mut self, hello: Hello, now: Instant) {
        self.resync_due = None;
        self.step(Input::Hello(hello), now);
        self.show(now);
    }

    fn link(&mut self, change: LinkChange, target: &Endpoint, now: Instant) {
        let input = match change {
            LinkChange::Up { again } => {
                self.target = Some(target.clone());
                Input::Up { again }
            }
            LinkChange::Down => {
                // What ended the one connection may have ended the other, and there may be nothing
                // that says so: a question on it would cost a whole `ask_timeout`.
                self.line = None;
                // In this order: nothing is asked, on a new line to the old address, that was lost.
                self.step(Input::Down, now);
                Input::Lost
            }
        };
        self.step(input, now);
        self.show(now);
    }

    fn legacy(&mut self, now: Instant) {
        self.step(Input::Legacy, now);
        self.resync_due = Some(match self.rows.has_store() {
            true => now,
            false => now + jittered(self.legacy_resync),
        });
        self.show(now);
    }

    fn begin_anew(&mut self, now: Instant) {
        self.line = None;
        self.actions.clear();
        self.step(Input::Anew, now);
        self.followed.has_come(self.recovery.positions());
        self.show(now);
    }

    fn topic(&mut self, topic: &str, wanted: bool, now: Instant) {
        let topic: Arc<str> = topic.into();
        self.shared.topic(&topic, wanted);
        if wanted {
            self.step(Input::Wanted(topic), now);
        } else {
            self.step(Input::Unwanted(Arc::clone(&topic)), now);
            self.followed.has_left(&topic);
        }
    }

    fn turn(&mut self, now: Instant) -> bool {
        self.be_due(now);
        for _ in 0..ANSWERS {
            if !self.receive(now) {
                self.look_at_line(now);
                return true;
            }
        }
        false
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref()?.fd()
    }

    fn deadline(&self) -> Option<Instant> {
        let due = [
            self.recovery.deadline(),
            self.positions_due,
            self.shared.deadline(),
            self.resync_due,
            self.line.as_ref().and_then(|line| line.deadline()),
        ];
        due.into_iter().flatten().min()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followed.has_come(self.recovery.positions());
        self.shared.leave(&self.source.uri, &self.followed);
    }
}
