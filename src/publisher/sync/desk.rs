//! What becomes of a request: pure. It is told requests and what the history answers, and says what
//! to send and what to ask.

mod journal;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::admission::{Admission, Client, Limits};
use super::ask::{Ask, Told};
use super::cache::{Body, Key};
use super::shelf::Shelf;
use super::waiters::{Waiter, Waiters};
use super::{SyncMetrics, SyncOptions};
use crate::sync::request::BadRequest;
use crate::sync::{Answer, Malformed, Refusal, Request, SnapshotId, VERSION, answer};

/// Questions for heads, topics and replays that may wait for the history.
const QUESTIONS: usize = 512;

/// What the history is waited for when it cannot answer.
const BROKEN: Duration = Duration::from_millis(500);

/// Topics and how far the client has them.
type Heads = Vec<(String, u64)>;

/// What a question is for.
#[derive(Debug)]
enum Purpose {
    /// With the topics that the client may not have.
    Heads(Waiter, Heads),
    Topics(Waiter),
    Replay(Key),
    /// Whether the topic's newest snapshot will do, and the beginning of another where not.
    Begin(Arc<str>),
    Build(SnapshotId),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this to a client, with this tag.
    Send(Client, u64, Body),
    /// Ask the history, naming this ticket.
    Ask(u64, Ask),
}

/// See the module.
pub(super) struct Desk {
    admission: Admission,
    shelf: Shelf,
    /// Who waits for a piece of the journal that is being read.
    replays: HashMap<Key, Vec<Waiter>>,
    /// Who waits to know whether a topic's newest snapshot will do.
    beginning: HashMap<Arc<str>, Vec<Waiter>>,
    /// Who waits for a chunk that is not made yet.
    chunks: HashMap<SnapshotId, Vec<(u32, Waiter)>>,
    next_snapshot: SnapshotId,
    tickets: HashMap<u64, Purpose>,
    next_ticket: u64,
    questions: usize,
    waiters: Waiters,
    incarnation: u64,
    actions: Vec<Action>,
    rng: Rng,
    metrics: Arc<SyncMetrics>,
}

impl Desk {
    pub(super) fn new(
        options: &SyncOptions,
        metrics: Arc<SyncMetrics>,
        now: Instant,
        mut rng: Rng,
    ) -> Self {
        let limits = Limits {
            places: options.max_snapshots,
            rate: options.snapshot_rate,
        };
        Desk {
            admission: Admission::new(limits, now, rng.fork()),
            shelf: Shelf::new(options.cache_bytes),
            replays: HashMap::new(),
            beginning: HashMap::new(),
            chunks: HashMap::new(),
            // So that one of another run is not taken for one of this.
            next_snapshot: rng.u64(..) | 1,
            tickets: HashMap::new(),
            next_ticket: 0,
            questions: 0,
            waiters: Waiters::default(),
            incarnation: 0,
            actions: Vec::new(),
            rng,
            metrics,
        }
    }

    /// What is to be done since the last call.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A client asks; `forbidden` are topics that it named and may not have.
    pub(super) fn request(
        &mut self,
        waiter: Waiter,
        (request, forbidden): (Request, Heads),
        now: Instant,
    ) {
        match request {
            Request::Heads {
                incarnation,
                topics,
            } => {
                self.metrics.sync_heads_total.inc();
                self.heads(waiter, incarnation, (topics, forbidden));
            }
            Request::Topics { after } => {
                self.metrics.sync_topics_total.inc();
                self.topics(waiter, after);
            }
            Request::Replay {
                incarnation,
                topic,
                after,
            } => {
                self.metrics.sync_replays_total.inc();
                let topic = topic.into();
                let key = Key {
                    incarnation,
                    topic,
                    after,
                };
                self.replay(waiter, key, now);
            }
            Request::Snapshot { topic, chunk: None } => {
                self.metrics.sync_snapshots_total.inc();
                self.begin(waiter, topic.into(), now);
            }
            Request::Snapshot {
                topic,
                chunk: Some((id, chunk)),
            } => {
                self.metrics.sync_chunks_total.inc();
                self.go_on(waiter, &topic, id, chunk, now);
            }
        }
    }

    /// A client sends what is no request.
    pub(super) fn malformed(&mut self, client: &[u8], error: BadRequest) {
        self.metrics.sync_refused_total.inc();
        let waiter = unknown(client, error.tag);
        let answer = match error.why {
            Malformed::Version(version) => Answer::Refused {
                code: Refusal::Version,
                reason: format!("version {version} is not spoken here; version {VERSION} is"),
            },
            why => Answer::Refused {
                code: Refusal::Malformed,
                reason: why.to_string(),
            },
        };
        self.answer(&waiter, &answer);
    }

    /// A client asks for a topic that it may not have.
    pub(super) fn forbid(&mut self, client: &[u8], tag: u64) {
        let waiter = unknown(client, tag);
        let answer = Answer::Refused {
            code: Refusal::Forbidden,
            reason: "no grant of the publisher gives this node the topic".into(),
        };
        self.answer(&waiter, &answer);
    }

    /// A client asks too often.
    pub(super) fn hurried(&mut self, client: &[u8], tag: u64) {
        self.metrics.sync_hurried_total.inc();
        let waiter = unknown(client, tag);
        self.retry(&waiter, BROKEN);
    }

    /// A client has yet to take what it was sent before.
    pub(super) fn unread(&mut self, client: &[u8], tag: u64) {
        let waiter = unknown(client, tag);
        self.retry(&waiter, BROKEN);
    }

    /// A client could not be sent its answer because it is not connected any more.
    pub(super) fn gone(&mut self, client: &[u8]) {
        self.admission.gone(client);
    }

    /// The history answers.
    pub(super) fn told(&mut self, ticket: u64, told: Told, now: Instant) {
        let Some(purpose) = self.tickets.remove(&ticket) else {
            return;
        };
        match purpose {
            Purpose::Heads(waiter, forbidden) => {
                self.questions -= 1;
                self.heads_told(&waiter, told, forbidden);
            }
            Purpose::Topics(waiter) => {
                self.questions -= 1;
                self.topics_told(&waiter, told);
            }
            Purpose::Replay(key) => {
                self.questions -= 1;
                self.replayed(key, told, now);
            }
            Purpose::Begin(topic) => self.begun(topic, told, now),
            Purpose::Build(id) => self.built(id, told, now),
        }
        self.shrink();
    }

    /// Time passes: to be called every second or so.
    pub(super) fn tick(&mut self, now: Instant) {
        let silent = self.admission.tick(now);
        self.metrics.sync_silent_total.add(silent as u64);
        self.shelf.cache.tick(self.incarnation, now);
        self.shrink();
        let metrics = &self.metrics;
        metrics
            .sync_clients_snapshot
            .set(self.admission.places() as u64);
        metrics
            .sync_clients_waiting
            .set(self.admission.waiting() as u64);
        metrics.sync_requests_waiting.set(self.waiters.all() as u64);
        metrics
            .sync_snapshots_kept
            .set(self.shelf.snapshots() as u64);
    }

    fn shrink(&mut self) {
        let (chunks, admission) = (&self.chunks, &self.admission);
        self.shelf
            .shrink(|id| chunks.contains_key(&id) || admission.wanted(id));
        let bytes = self.shelf.bytes() as u64;
        self.metrics.sync_cache_bytes.set(bytes);
    }

    fn question(&mut self, purpose: Purpose, ask: Ask) {
        if !matches!(purpose, Purpose::Begin(_) | Purpose::Build(_)) {
            self.questions += 1;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, purpose);
        self.actions.push(Action::Ask(ticket, ask));
    }

    /// Whether another request of the client may wait; tells it to come again where not.
    fn may_wait(&mut self, waiter: &Waiter) -> bool {
        let room = self.waiters.room(&waiter.client);
        if !room {
            self.retry(waiter, BROKEN);
        }
        room
    }

    /// Whether the history may be asked; tells the client to come again where not.
    fn may_ask(&mut self, waiter: &Waiter) -> bool {
        let room = self.questions < QUESTIONS;
        if !room {
            self.retry(waiter, BROKEN);
        }
        room
    }

    fn retry(&mut self, waiter: &Waiter, wait: Duration) {
        self.metrics.sync_retry_after_total.inc();
        // What is not jittered yet, is jittered here: a little more does no harm to the others.
        let wait = wait.mul_f64(1.0 + 0.2 * self.rng.f64());
        let millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.answer(waiter, &Answer::RetryAfter(millis.max(1)));
    }

    fn answer(&mut self, waiter: &Waiter, answer: &Answer) {
        self.send(waiter, encode(answer));
    }

    fn send(&mut self, waiter: &Waiter, body: Body) {
        let client = waiter.client.clone();
        self.actions.push(Action::Send(client, waiter.tag, body));
    }
}

/// Whom to answer where it does not matter whose connection it is.
fn unknown(client: &[u8], tag: u64) -> Waiter {
    Waiter {
        client: client.into(),
        owner: client.into(),
        address: None,
        tag,
    }
}

fn encode(answer: &Answer) -> Body {
    let mut out = Vec::new();
    answer::encode(0, answer, &mut out);
    out.into()
}
