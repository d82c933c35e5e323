//! Whether the agent's parts are well, and since when: looked at now and then by its owner.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Agent;
use crate::dispatch::lane::LaneState;
use crate::util::pulse::{Pulse, Watched};

/// How a publisher's connection or a handler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All as it should be.
    Well,
    /// Connected to a publisher that says no hello: losses cannot be seen.
    Legacy,
    /// Connected, and not all that the publisher has sent is here yet.
    Syncing,
    /// Connected, and all is here but topics that the publisher does not let this node have.
    Forbidden,
    /// The publisher is not connected.
    Down,
    /// The handler does not run and will be started again; or a thread has ended, and will not.
    Stopped,
    /// The handler has yet to be given rows.
    Behind,
    /// Something that the handler is to do failed and has yet to work.
    Failing,
    /// A call of the handler runs longer than its time limit; it was told to end.
    Late,
    /// The thread works on one thing for too long.
    Stuck,
}

impl State {
    /// One word for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Well => "ok",
            State::Legacy => "legacy",
            State::Syncing => "syncing",
            State::Forbidden => "forbidden",
            State::Down => "down",
            State::Stopped => "stopped",
            State::Behind => "behind",
            State::Failing => "failing",
            State::Late => "late",
            State::Stuck => "stuck",
        }
    }

    /// Why the agent is not in step, to follow the name of the part; `None` when it is.
    fn reason(self) -> Option<&'static str> {
        match self {
            State::Well | State::Legacy => None,
            State::Syncing => Some("is not in sync yet"),
            State::Forbidden => Some("does not let this node have all topics it wants"),
            State::Down => Some("is not connected"),
            State::Stopped => Some("does not run"),
            State::Behind => Some("has yet to be given rows"),
            State::Failing => Some("fails"),
            State::Late => Some("has a call that runs too long"),
            State::Stuck => Some("is stuck"),
        }
    }
}

/// What is known of one part.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// What failed last, of a handler that fails.
    why: Option<String>,
    watched: Watched,
}

/// How the whole is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the agent is not in step, a line each; empty when it is.
    pub reasons: Vec<String>,
    /// How many threads are stuck.
    pub stuck: usize,
}

impl Health {
    /// Whether the agent is in step.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Remembers what was seen of each part.
#[derive(Debug, Default)]
pub struct Vigil {
    publishers: BTreeMap<String, Seen>,
    handlers: BTreeMap<String, Seen>,
    /// Other threads.
    threads: BTreeMap<String, Seen>,
}

impl Vigil {
    /// Looks at everything. A thread that works on one thing for `stuck_after` is stuck.
    pub fn look(&mut self, agent: &Agent, stuck_after: Duration, now: Instant) -> Health {
        let sources = agent.sources();
        let followed: BTreeMap<_, _> = agent.followed().into_iter().collect();
        let publishers = sources.iter().map(|source| {
            let followed = followed.get(&source.uri);
            let standing = followed.map(|followed| followed.standing());
            let in_sync = standing.is_none_or(|standing| standing.in_sync);
            let forbidden = standing
                .is_some_and(|standing| (1..=standing.forbidden).contains(&standing.behind));
            let state = match (source.metrics.live.get(), source.metrics.legacy.get()) {
                (0, _) => State::Down,
                (_, 0) if in_sync => State::Well,
                (_, 0) if forbidden => State::Forbidden,
                (_, 0) => State::Syncing,
                _ => State::Legacy,
            };
            (source.uri.as_str(), state, &source.pulse)
        });
        see(&mut self.publishers, publishers, stuck_after, now);
        let mut errors = Vec::new();
        let lanes = agent.lanes().iter().map(|lane| {
            let handle = lane.handle();
            let status = handle.status();
            let state = match status.state {
                // It may be behind for that reason.
                LaneState::Running if status.failing => State::Failing,
                LaneState::Running if status.behind => State::Behind,
                LaneState::Running => State::Well,
                LaneState::Stuck(_) => State::Late,
                LaneState::Starting
                | LaneState::Pausing(_)
                | LaneState::Waiting(_)
                | LaneState::Ended => State::Stopped,
            };
            let why = status.last_error.filter(|_| state == State::Failing);
            errors.push(why.map(|error| error.text));
            (lane.name(), state, handle.pulse())
        });
        see(&mut self.handlers, lanes, stuck_after, now);
        for (lane, why) in agent.lanes().iter().zip(errors) {
            if let Some(seen) = self.handlers.get_mut(lane.name()) {
                seen.why = why;
            }
        }
        let resting = Pulse::default();
        let threads = agent.threads().map(|(name, runs, pulse)| {
            let state = if runs { State::Well } else { State::Stopped };
            (name, state, pulse.unwrap_or(&resting))
        });
        see(&mut self.threads, threads, stuck_after, now);
        self.health(now)
    }

    /// What is known of the publisher at `uri`.
    pub fn publisher(&self, uri: &str) -> Option<&Seen> {
        self.publishers.get(uri)
    }

    /// What is known of the handler `name`.
    pub fn handler(&self, name: &str) -> Option<&Seen> {
        self.handlers.get(name)
    }

    fn health(&self, now: Instant) -> Health {
        let mut health = Health::default();
        if self.publishers.is_empty() {
            health.reasons.push("there is no publisher".into());
        }
        for (what, parts) in [
            ("publisher", &self.publishers),
            ("handler", &self.handlers),
            ("thread", &self.threads),
        ] {
            for (name, seen) in parts {
                health.stuck += usize::from(seen.state == State::Stuck);
                if let Some(why) = seen.state.reason() {
                    let time = now.saturating_duration_since(seen.since).as_secs();
                    let mut line = format!("{what} {name} {why}, for {time} s");
                    if let (State::Failing, Some(error)) = (seen.state, &seen.why) {
                        line.push_str(&format!(": {error}"));
                    }
                    health.reasons.push(line);
                }
            }
        }
        health
    }
}

/// Notes the states of parts and forgets those that are no more.
fn see<'a>(
    known: &mut BTreeMap<String, Seen>,
    parts: impl Iterator<Item = (&'a str, State, &'a Pulse)>,
    stuck_after: Duration,
    now: Instant,
) {
    let mut old = std::mem::take(known);
    for (name, state, pulse) in parts {
        let mut seen = old.remove(name).unwrap_or_else(|| Seen {
            state,
            since: now,
            why: None,
            watched: Watched::new(pulse, now),
        });
        let state = match seen.watched.stuck_for(pulse, now) >= stuck_after {
            true => State::Stuck,
            false => state,
        };
        if seen.state != state {
            seen.state = state;
            seen.since = now;
        }
        known.insert(name.to_owned(), seen);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::agent::follower::ZmqSync;
    use crate::agent::{Parts, RecoveryParts, checkpoint, recovery};
    use crate::pubsub::SubscriberOptions;
    use crate::pubsub::driver::memory::MemoryNetwork;

    #[test]
    fn what_is_wrong_is_told_with_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut vigil, limit) = (Vigil::default(), Duration::from_secs(10));
        assert_eq!(vigil.health(start).reasons, ["there is no publisher"]);
        let (reader, lane) = (Pulse::default(), Pulse::default());
        let mut look = |publisher, handler, now| {
            let publishers = [("tcp://a:1", publisher, &reader)];
            see(&mut vigil.publishers, publishers.into_iter(), limit, now);
            let handlers = [("log", handler, &lane)];
            see(&mut vigil.handlers, handlers.into_iter(), limit, now);
            vigil.health(now)
        };
        look(State::Down, State::Behind, at(0));
        let health = look(State::Down, State::Behind, at(3));
        assert_eq!(
            health.reasons,
            [
                "publisher tcp://a:1 is not connected, for 3 s",
                "handler log has yet to be given rows, for 3 s"
            ]
        );
        assert!(look(State::Legacy, State::Well, at(4)).is_ready());
        // At work on one thing.
        lane.beat();
        assert!(look(State::Well, State::Well, at(5)).is_ready());
        assert!(look(State::Well, State::Well, at(14)).is_ready());
        let health = look(State::Well, State::Well, at(15));
        assert_eq!((health.stuck, health.reasons.len()), (1, 1));
        assert_eq!(health.reasons, ["handler log is stuck, for 0 s"]);
        lane.rest();
        assert!(look(State::Well, State::Well, at(16)).is_ready());
    }

    /// Such a thread ends by a panic.
    #[test]
    fn a_thread_that_ended_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::start(Parts {
            driver: Box::new(MemoryNetwork::new()),
            subscriber: SubscriberOptions::default(),
            publishers: Vec::new(),
            discovery: None,
            topics: Vec::new(),
            recovery: Some(RecoveryParts {
                transport: Arc::new(ZmqSync::new(&zmq::Context::new(), None)),
                options: recovery::Options::default(),
                sync_timeout: Duration::ZERO,
                legacy_resync: Duration::from_secs(600),
                northbound: None,
                checkpoint: Some(checkpoint::Options {
                    folder: folder.path().into(),
                    every: Duration::from_secs(600),
                }),
            }),
            handlers: Vec::new(),
            stop_timeout: Duration::from_secs(1),
        })
        .unwrap();
        let (mut vigil, limit) = (Vigil::default(), Duration::from_secs(600));
        let mut reasons = || vigil.look(&agent, limit, Instant::now()).reasons;
        assert_eq!(reasons(), ["there is no publisher"]);
        agent.checkpoints.as_ref().unwrap().break_down();
        let until = Instant::now() + Duration::from_secs(20);
        let missed = |reason: &String| reason.starts_with("thread checkpoint does not run");
        while !reasons().iter().any(missed) {
            assert!(Instant::now() < until, "{:?}", reasons());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
