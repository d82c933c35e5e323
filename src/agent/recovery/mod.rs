//! What was missed of one publisher, and how it is fetched: a pure state machine, without socket,
//! clock or thread (design §5).
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

mod answers;
mod asks;
mod events;
mod listing;
mod standing;
mod topic;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::event::EventBatch;
use crate::event::hello::{Hello, topic_hash};
use crate::handler::SyncReason;
use crate::replica::{Row, RowKey};
use crate::sync::{Answer, Request};

use asks::Asks;
use listing::Listing;
pub use standing::{Life, Positions, Standing};
use topic::Topic;

/// Bounds and times of a recovery.
#[derive(Debug, Clone)]
pub struct Options {
    /// An answer that takes longer is given up, and asked for again.
    pub ask_timeout: Duration,
    /// Questions that may be under way at once.
    pub in_flight: usize,
    /// Events that may be held while what is before them is fetched, bytes, for all topics together.
    pub held_bytes: usize,
    /// The time between two rounds of `HEADS`; up to a third is added or taken off, at random.
    pub heads_every: Duration,
    /// First and longest wait before something that failed is asked for again.
    pub retry_min: Duration,
    /// See `retry_min`.
    pub retry_max: Duration,
    /// Whether the publisher is followed on every topic it has, not only on those that are wanted: it
    /// is asked which there are. At most so many; 0: only those that are wanted.
    pub all_topics: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ask_timeout: Duration::from_secs(10),
            in_flight: 4,
            held_bytes: 16 << 20,
            heads_every: Duration::from_secs(45),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(30),
            all_topics: 0,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Connected.
    Up {
        /// Whether it was connected before.
        again: bool,
    },
    /// The connection is lost.
    Down,
    /// The heartbeat.
    Hello(Hello),
    /// The publisher says no hello, so that nobody can be asked for what is missing.
    Legacy,
    /// Events, in the order in which they came.
    Events(EventBatch),
    /// A topic is subscribed to.
    Wanted(Arc<str>),
    /// It is no longer.
    Unwanted(Arc<str>),
    /// An answer to [`Action::Ask`].
    Answer(u64, Answer),
    /// What came in place of an answer is none: whatever is under way will not be answered.
    Lost,
    /// What was told, or was to be done, may be lost in part: nothing is known of any topic. A new
    /// connection is made.
    Anew,
    /// Time has passed; see [`Recovery::deadline`].
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Hand these on: they are next, or are rows of a snapshot.
    Apply(EventBatch),
    /// Send this question to the sync service.
    Ask(u64, Request),
    /// The sync service is at this endpoint now, as the hello names it; `None`: there is none.
    Endpoint(Option<String>),
    /// Remove the rows that a complete snapshot lacks.
    Sweep(Sweep),
    /// Subscribe to these, which the publisher has; they are wanted from now on.
    Topics(Vec<Arc<str>>),
    /// All handlers must start over: what a legacy publisher sent meanwhile is unknown.
    Resync(SyncReason),
    /// Count and log it.
    Note(Note),
    /// Log that the publisher does not let this node have this topic.
    Forbidden(Arc<str>),
}

/// A complete snapshot of a topic, by what it holds.
#[derive(Debug)]
pub struct Sweep {
    /// Who made it.
    pub life: Life,
    /// Of which topic.
    pub topic: Arc<str>,
    /// Only rows that the publisher stamped in this or a later incarnation are vouched for.
    pub complete_since: u64,
    /// Rows stamped after this are newer than the snapshot.
    pub seq: u64,
    /// The rows it has, by [`name_hash`].
    pub has: std::collections::HashSet<u64>,
}

impl Sweep {
    /// Whether this row exists no longer.
    pub fn ends(&self, name: &RowKey, row: &Row) -> bool {
        let life = self.life;
        row.topic == self.topic
            && row.stamp.is_some_and(|stamp| {
                // A row of a later incarnation may have come through another publisher that has it.
                let newer = (stamp.incarnation, stamp.seq) > (life.incarnation, self.seq);
                stamp.publisher == life.publisher
                    && stamp.incarnation >= self.complete_since
                    && !newer
            })
            && !self.has.contains(&name_hash(&name.table, &name.key))
    }
}

/// What an operator wants to hear of, and counters count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Events of a topic were missed.
    Gap,
    /// Events came that are applied already.
    Duplicate,
    /// A chain of events that cannot be: the topic is loaded anew.
    BrokenChain,
    /// A replay is complete, with so many events.
    Replayed(u64),
    /// The journal no longer has what was missed.
    Gone,
    /// A snapshot is complete, with so many rows.
    Loaded(u64),
    /// A snapshot was not what its digest says.
    BadDigest,
    /// An answer did not fit what was asked, or held what is no event.
    BadAnswer,
    /// A question was not answered in time; whoever asks the service for us is to begin anew, since
    /// no answer to what is under way is waited for any more.
    Unanswered,
    /// The service asked for patience.
    AskedToWait,
    /// The service refused a question.
    Refused(crate::sync::Refusal),
    /// An event could not be held; it will be fetched.
    NotHeld,
    /// Something of a lower incarnation: an old message, or two publishers with one id.
    LowerIncarnation,
    /// The publisher has begun a new incarnation.
    NewIncarnation,
    /// Another publisher answers at this address.
    OtherPublisher,
    /// Something was missed and there is no sync service to ask.
    CannotRepair,
    /// The publisher has more topics than are followed.
    TopicNotFollowed,
}

/// A name of a row within a sweep. A collision keeps a row that should go, so it is wide and seeded.
pub fn name_hash(table: &str, key: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    static SEED: std::sync::LazyLock<foldhash::quality::RandomState> =
        std::sync::LazyLock::new(Default::default);
    let mut hasher = SEED.build_hasher();
    hasher.write(table.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// Publishers whose positions are kept.
const MAX_KEPT: usize = 64;

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

    /// The kept position of `name` in the publisher's present life.
    fn position(&self, name: &str) -> Option<u64> {
        let life = self.life?;
        let kept = self.kept.iter().find(|kept| kept.life == life)?;
        kept.topics
            .iter()
            .find(|(topic, _)| **topic == *name)
            .map(|(_, last)| *last)
    }

    /// Another publisher is here. The one before may come back, as where two share an address; its
    /// service is not to be asked in the meantime.
    fn part(&mut self) {
        self.greeted = false;
        let Some(positions) = self.positions() else {
            return;
        };
        let publisher = positions.life.publisher;
        self.kept.retain(|kept| kept.life.publisher != publisher);
        if self.kept.len() >= MAX_KEPT {
            self.kept.remove(0);
        }
        self.kept.push(positions);
    }

    /// The publisher is in this life; `false` when what says so is out of date.
    fn meet(&mut self, life: Life, out: &mut Vec<Action>) -> bool {
        if self.life == Some(life) {
            return true;
        }
        let of_same = |known: &Life| known.publisher == life.publisher;
        // A checkpoint may hold two of its lives: they were followed at two addresses.
        let known = self.kept.iter().map(|kept| kept.life).chain(self.life);
        let highest = known.filter(of_same).map(|known| known.incarnation).max();
        match highest.map(|highest| life.incarnation.cmp(&highest)) {
            Some(Ordering::Less) => {
                out.push(Action::Note(Note::LowerIncarnation));
                return false;
            }
            Some(Ordering::Greater) => out.push(Action::Note(Note::NewIncarnation)),
            Some(Ordering::Equal) | None => {}
        }
        if self.life.is_some_and(|known| !of_same(&known)) {
            out.push(Action::Note(Note::OtherPublisher));
            self.part();
        }
        self.life = Some(life);
        self.begin();
        true
    }

    /// A step may have ended in the middle of anything, and what it had to hand on with it.
    fn anew(&mut self) {
        (self.connected, self.greeted) = (false, false);
        let life = self.life;
        self.kept.retain(|kept| Some(kept.life) != life);
        self.begin();
    }

    /// Begins with what is kept of this life, on all topics.
    fn begin(&mut self) {
        self.covered = 0;
        (self.unsure, self.round_due, self.round) = (false, false, 0);
        self.asks.forget();
        self.listing = Listing::default();
        self.list();
        let names: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        self.topics.clear();
        (self.behind, self.held_bytes) = (0, 0);
        for name in names {
            self.wanted(name);
        }
    }

    fn hello(&mut self, hello: &Hello, now: Instant, out: &mut Vec<Action>) {
        let life = Life {
            publisher: hello.publisher,
            incarnation: hello.incarnation,
        };
        if !self.meet(life, out) {
            return;
        }
        // The link is read on after the connection was lost: what it held says nothing of now.
        self.greeted = self.connected;
        let was_legacy = std::mem::replace(&mut self.legacy, false);
        self.hello_at = Some(now);
        let service = Some(hello.sync_endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
        if service != self.service {
            self.asks.all_lost(now);
            self.service = service;
            out.push(Action::Endpoint(self.service.clone()));
            self.load_holed();
        } else if was_legacy && self.service.is_some() {
            self.load_holed();
        }
        // Where a hello was missed, what it listed is not known; nor what this one leaves out. The
        // first one of all lists nothing that was before it.
        let tells_all = hello.since <= self.covered && !hello.overflow;
        // Its state is older than what it sent. There is nothing to be had, but it is to hear of it.
        let went_back = hello.head < self.covered;
        if went_back || (hello.head != self.covered && !tells_all) {
            self.doubt();
            self.list();
        }
        self.covered = self.covered.max(hello.head);
        if self.heads_due.is_none() {
            self.put_off_heads(now);
        }
        let recent: HashMap<u64, u64> = hello.recent.iter().copied().collect();
        let names = self.topics.keys();
        let moved: Vec<(Arc<str>, u64)> = names
            .filter_map(|name| Some((Arc::clone(name), *recent.get(&topic_hash(name))?)))
            .collect();
        if moved.len() < recent.len() {
            self.list();
        }
        for (name, last) in moved {
            self.claim(&name, last, out);
        }
    }

    /// There is nobody to ask for what is missing, nor whether anything is.
    fn go_blind(&mut self, out: &mut Vec<Action>) {
        for topic in self.topics.values_mut() {
            if !self.unsure && topic.is_live() {
                continue;
            }
            self.behind -= usize::from(!topic.is_live());
            self.held_bytes -= topic.held_bytes();
            out.push(Action::Note(Note::CannotRepair));
            let held = topic.go_blind();
            if !held.is_empty() {
                out.push(Action::Apply(held));
            }
        }
        (self.unsure, self.round_due) = (false, false);
    }

    /// There is somebody to ask now: what was passed over before is loaded.
    fn load_holed(&mut self) {
        let holed = self.topics.iter().filter(|(_, topic)| topic.holed);
        let holed: Vec<Arc<str>> = holed.map(|(name, _)| Arc::clone(name)).collect();
        for name in holed {
            if let Some(topic) = self.topics.get_mut(&name) {
                self.behind += usize::from(topic.is_live());
                // What it was followed up to, with holes, says nothing of what is here.
                topic.restart();
                self.want(&name);
            }
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
