//! The connection to one publisher as a pure state machine: no socket, no clock, no thread.
//!
//! ```text
//!          Start                Resolved             Up
//!  Idle ─────────▶ Resolving ─────────▶ Connecting ──────▶ Live
//!                     ▲  │ failed, late     │ failed, late    │ Down, silence
//!                     │  ▼                  ▼  refused        ▼
//!                     └──────────────── Backoff ◀─────────────┘
//! ```
//!
//! libzmq's own reconnection is switched off: it gives up for ever after a refused handshake or a
//! protocol error, keeps the address it resolved first, and its back-off is not jittered per
//! agent. Every attempt opens a new link with a newly resolved address.
//!
//! The link of a lost connection stays open until the next attempt: what it received before the
//! loss is still to be read from it.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::api::{LinkChange, SubscriberOptions};
use crate::util::backoff::Backoff;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Begin.
    Start,
    /// The address is known.
    Resolved,
    /// The address could not be found.
    ResolveFailed,
    /// The link is connected and its handshake done.
    Up,
    /// The attempt to connect failed.
    ConnectFailed,
    /// The peer refused us, or does not speak our protocol.
    Refused,
    /// The connection is lost.
    Down,
    /// A message came.
    Heard,
    /// The publisher's heartbeat came: it is no legacy publisher.
    Hello,
    /// Time has passed; see [`Session::deadline`].
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Find the address; answer with `Resolved` or `ResolveFailed`.
    Resolve,
    /// Replace the link by a new one to the address found.
    Open,
    /// Tell the owner.
    Announce(LinkChange),
    /// The publisher has proved to be one of ours: the bare-prefix subscriptions, made for legacy
    /// publishers, are not needed.
    DropLegacySubscriptions,
    /// The publisher has said no hello in time: treat it as legacy.
    TreatAsLegacy,
    /// Subscribe to hellos anew: the subscription may have been lost.
    SubscribeToHellos,
    /// Count a silence.
    CountSilence,
    /// Count a handshake that broke off without a reason.
    CountRefusal,
    /// Count an attempt that did not end in time.
    CountTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Resolving {
        until: Instant,
    },
    Connecting {
        until: Instant,
    },
    /// `greeted`: when the last hello came, or hellos were subscribed to.
    Live {
        since: Instant,
        greeted: Instant,
    },
    Backoff {
        until: Instant,
    },
}

/// What kind of publisher it is, as far as it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Unknown,
    Legacy,
    Fanfare,
}

/// A connection that lasted this many shortest waits was a good one.
const STABLE_WAITS: u32 = 10;

/// Hellos that may be missed before a publisher counts as silent.
const SILENT_HELLOS: u32 = 3;

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    nature: Nature,
    connected_before: bool,
    backoff: Backoff,
    connect_timeout: Duration,
    legacy_detect: Duration,
    silence: Duration,
    stable: Duration,
}

impl Session {
    /// A session that waits for [`Input::Start`].
    pub fn new(options: &SubscriberOptions, rng: Rng) -> Self {
        Session {
            state: State::Idle,
            nature: Nature::Unknown,
            connected_before: false,
            backoff: Backoff::new(options.reconnect_min, options.reconnect_max, rng),
            connect_timeout: options.connect_timeout,
            legacy_detect: options.legacy_detect,
            silence: options.max_idle_time * SILENT_HELLOS,
            stable: options.reconnect_min * STABLE_WAITS,
        }
    }

    /// Whether the publisher says hello: then bare-prefix subscriptions are not made.
    pub fn is_fanfare(&self) -> bool {
        self.nature == Nature::Fanfare
    }

    /// When [`Input::Tick`] is wanted; `None`: not until something else happens.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.state, self.nature) {
            (State::Idle, _) => None,
            (
                State::Resolving { until } | State::Connecting { until } | State::Backoff { until },
                _,
            ) => Some(until),
            (State::Live { since, .. }, Nature::Unknown) => Some(since + self.legacy_detect),
            (State::Live { greeted, .. }, Nature::Legacy | Nature::Fanfare) => {
                Some(greeted + self.silence)
            }
        }
    }

    /// One step. Inputs that do not fit the state come from an attempt that was given up: they
    /// change nothing.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match (self.state, input) {
            (State::Idle, Input::Start) => self.resolve(now),
            (State::Resolving { .. }, Input::Resolved) => {
                let until = now + self.connect_timeout;
                self.state = State::Connecting { until };
                vec![Action::Open]
            }
            (State::Resolving { .. }, Input::ResolveFailed)
            | (State::Connecting { .. }, Input::ConnectFailed) => {
                let wait = self.backoff.wait();
                self.back_off(now + wait)
            }
            (State::Connecting { .. }, Input::Down) => {
                // Where the peer breaks the protocol within the handshake, libzmq says no more.
                let wait = self.backoff.wait_longest();
                self.back_off(now + wait);
                vec![Action::CountRefusal]
            }
            (State::Resolving { until } | State::Connecting { until }, Input::Tick)
                if now >= until =>
            {
                let wait = self.backoff.wait();
                self.back_off(now + wait);
                vec![Action::CountTimeout]
            }
            (State::Connecting { .. }, Input::Heard | Input::Hello) => {
                // Under load the link is never drained, and only then is its `Up` looked for.
                let mut actions = self.step(Input::Up, now);
                actions.extend(self.step(input, now));
                actions
            }
            (State::Connecting { .. }, Input::Up) => {
                self.state = State::Live {
                    since: now,
                    greeted: now,
                };
                let again = std::mem::replace(&mut self.connected_before, true);
                vec![Action::Announce(LinkChange::Up { again })]
            }
            (State::Connecting { .. }, Input::Refused) => {
                let wait = self.backoff.wait_longest();
                self.back_off(now + wait)
            }
            (State::Live { since, .. }, Input::Down | Input::Refused) => {
                self.lost(since, now);
                vec![Action::Announce(LinkChange::Down)]
            }
            (State::Live { since, .. }, Input::Hello) => {
                self.state = State::Live {
                    since,
                    greeted: now,
                };
                match std::mem::replace(&mut self.nature, Nature::Fanfare) {
                    Nature::Fanfare => vec![],
                    Nature::Unknown | Nature::Legacy => vec![Action::DropLegacySubscriptions],
                }
            }
            (State::Live { since, greeted }, Input::Tick) => self.live_tick(since, greeted, now),
            (State::Backoff { until }, Input::Tick) if now >= until => self.resolve(now),
            _ => vec![],
        }
    }

    fn live_tick(&mut self, since: Instant, greeted: Instant, now: Instant) -> Vec<Action> {
        let silent = now >= greeted + self.silence;
        let asked = State::Live {
            since,
            greeted: now,
        };
        match self.nature {
            Nature::Unknown if now >= since + self.legacy_detect => {
                self.nature = Nature::Legacy;
                self.state = asked;
                vec![Action::TreatAsLegacy, Action::SubscribeToHellos]
            }
            Nature::Legacy if silent => {
                self.state = asked;
                vec![Action::SubscribeToHellos]
            }
            // Other messages do not stand for hellos: without these a lost end is not found.
            Nature::Fanfare if silent => {
                // It may have been replaced by one that says no hello and needs other
                // subscriptions.
                self.nature = Nature::Unknown;
                self.lost(since, now);
                vec![Action::CountSilence, Action::Announce(LinkChange::Down)]
            }
            _ => vec![],
        }
    }

    fn resolve(&mut self, now: Instant) -> Vec<Action> {
        let until = now + self.connect_timeout;
        self.state = State::Resolving { until };
        vec![Action::Resolve]
    }

    fn back_off(&mut self, until: Instant) -> Vec<Action> {
        self.state = State::Backoff { until };
        vec![]
    }

    /// A connection that lasted begins a new series of attempts; one that was cut at once does
    /// not, or a publisher that accepts and drops us would be hammered.
    fn lost(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) >= self.stable {
            self.backoff.reset();
        }
        let wait = self.backoff.wait();
        self.back_off(now + wait);
    }
}

#[cfg(test)]
mod tests;
