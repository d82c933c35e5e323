//! What was missed of one publisher, and how it is fetched: a pure state machine, without socket,
//! clock or thread.
//!
//! ```text
//!              first chunk                last chunk, digest right
//!   Unknown ───────────────────▶ Loading ──────────────────────────▶ Replaying ◀── prev > last, ── Live
//!      ▲                            │                                 │     │       hello newer     ▲
//!      │ higher incarnation,        │ lapsed, bad                gone │     │ nothing left          │
//!      └── chain does not hold ◀────┴─────────────────────────────────┘     └───────────────────────┘
//! ```
//!
//! Each topic has a position: the seq of the last event that was applied. An event of a topic follows
//! it exactly when its `prev` is the position. What comes while a topic is not live is held, and may
//! be let go when there is too much of it: what was let go leaves a break in the chain, which is
//! found like any other loss.
//!
//! A topic that is live may still lack the last events: nothing follows them that would show it.
//! Hellos tell (what they list, and that a hello itself was missed), and so does a round of `HEADS`
//! after each reconnection, and from time to time.

mod action;
mod answers;
mod asks;
mod events;
mod hellos;
mod input;
mod listing;
mod lives;
mod standing;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use crate::handler::SyncReason;

pub use action::{Action, Note, Sweep, name_hash};
use asks::Asks;
pub use input::{Input, Options};
use listing::Listing;
pub use standing::{Life, Positions, Standing};
use topic::Topic;

/// Its order depends on nothing but what was put in, so that simulations repeat. The names are the
/// operator's: nobody can make them collide.
type Topics = HashMap<Arc<str>, Topic, foldhash::quality::FixedState>;

/// The recovery of one publisher.
#[derive(Debug)]
pub struct Recovery {
    options: Options,
    rng: Rng,
    life: Option<Life>,
    /// Positions of earlier lives of this program, by publisher.
    kept: Vec<Positions>,
    topics: Topics,
    asks: Asks,
    connected: bool,
    legacy: bool,
    /// Whether there is a sync service.
    service: Option<String>,
    /// The publisher's head as of the last hello; what is before it is accounted for, by claims or by
    /// a round of heads.
    covered: u64,
    /// Whether a round of heads is needed.
    round_due: bool,
    /// Whether something may have been missed that a round of heads has not cleared up yet. A round
    /// that is only due from time to time is no reason for doubt.
    unsure: bool,
    /// Answers still to come in the round that is under way.
    round: usize,
    /// Whether a hello came since it was connected.
    greeted: bool,
    heads_due: Option<Instant>,
    held_bytes: usize,
    /// When the last hello came, and when all that was claimed by then was there.
    hello_at: Option<Instant>,
    proved: Option<Instant>,
    /// Topics that are not live.
    behind: usize,
    listing: Listing,
}

impl Recovery {
    /// Nothing is known but `kept`, the positions that a checkpoint holds.
    pub fn new(options: Options, kept: Vec<Positions>, rng: Rng) -> Self {
        Recovery {
            asks: Asks::new(&options, rng.clone()),
            options,
            rng,
            life: None,
            kept,
            topics: Topics::default(),
            connected: false,
            legacy: false,
            service: None,
            covered: 0,
            round_due: false,
            unsure: false,
            round: 0,
            greeted: false,
            heads_due: None,
            held_bytes: 0,
            hello_at: None,
            proved: None,
            behind: 0,
            listing: Listing::default(),
        }
    }

    /// When [`Input::Tick`] is wanted; `None`: not until something else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let heads = self.heads_due.filter(|_| self.can_ask());
        [heads, self.asks.deadline()].into_iter().flatten().min()
    }

    /// One step; what is to be done is added to `out`.
    pub fn step(&mut self, input: Input, now: Instant, out: &mut Vec<Action>) {
        match input {
            Input::Events(events) => return self.events(events, now, out),
            Input::Hello(hello) => self.hello(&hello, now, out),
            Input::Answer(tag, answer) => self.answer(tag, answer, now, out),
            Input::Up { again } => self.up(again, out),
            Input::Down => (self.connected, self.greeted) = (false, false),
            Input::Legacy => {
                self.legacy = true;
                self.asks.all_lost(now);
            }
            Input::Wanted(topic) => self.wanted(topic),
            Input::Unwanted(topic) => self.unwanted(&topic),
            Input::Lost => self.asks.all_lost(now),
            Input::Anew => self.anew(),
            Input::Tick => self.tick(now, out),
        }
        self.ask(now, out);
        self.prove();
    }

    fn up(&mut self, again: bool, out: &mut Vec<Action>) {
        // What was sent meanwhile is not here. The next hello says whether there was anything.
        (self.connected, self.greeted) = (true, false);
        self.ask_forbidden();
        if self.legacy && again {
            out.push(Action::Resync(SyncReason::Reconnected));
        }
    }

    fn wanted(&mut self, name: Arc<str>) {
        if self.topics.contains_key(&name) {
            return;
        }
        let topic = Topic::new(self.position(&name));
        let live = topic.is_live();
        self.topics.insert(Arc::clone(&name), topic);
        if live {
            self.doubt();
        } else {
            self.behind += 1;
            self.want(&name);
        }
    }

    fn unwanted(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.behind -= usize::from(!topic.is_live());
            self.held_bytes -= topic.held_bytes();
        }
        self.asks.cancel(name);
        // Its rows may be let go: if it is wanted again, it is loaded again.
        for kept in &mut self.kept {
            kept.topics.retain(|(topic, _)| **topic != *name);
        }
    }

    fn doubt(&mut self) {
        (self.unsure, self.round_due) = (true, true);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.can_ask() && self.heads_due.is_some_and(|due| now >= due) {
            // This finds what hellos cannot: a subscription that was lost. Where the last round is
            // still under way, the next one begins when it ends.
            self.round_due = true;
            self.put_off_heads(now);
            self.list_again();
        }
        for _ in 0..self.asks.wake(now) {
            out.push(Action::Note(Note::Unanswered));
        }
    }

    /// Whether there is nobody to ask: the publisher said so, or it stamps what it sends and says no
    /// hello, or none that can be read.
    fn is_blind(&self) -> bool {
        match self.legacy {
            true => self.life.is_some(),
            false => self.greeted && self.service.is_none(),
        }
    }

    fn can_ask(&self) -> bool {
        self.greeted && self.life.is_some() && self.service.is_some()
    }

    /// Whether all that the publisher is known to have sent is here.
    pub fn is_in_sync(&self) -> bool {
        if !self.connected {
            return false;
        }
        self.legacy || (self.greeted && !self.unsure && self.behind == 0 && !self.listing.is_open())
    }

    /// Whether it has said no hello for so long that it is taken for one that never does.
    pub fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// Notes since when it is proved to be current.
    fn prove(&mut self) {
        if self.is_in_sync() && !self.legacy {
            // What was claimed at the last hello is here; what was sent since may not be.
            self.proved = self.hello_at;
        }
    }
}

#[cfg(test)]
mod tests;
