//! What becomes of a request: pure. It is told requests and what the history answers, and says what
//! to send and what to ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::admission::{Admission, Client, Limits};
use super::ask::{Ask, Told};
use super::cache::{Body, Cache, Key};
use super::snapshot::Snapshot;
use super::{SyncMetrics, SyncOptions};
use crate::sync::request::BadRequest;
use crate::sync::{Answer, Malformed, Refusal, Request, SnapshotId, VERSION, answer};

/// A snapshot is given to whoever asks within this time, whatever has moved since. What did is
/// replayed.
const FRESH: Duration = Duration::from_secs(1);

/// For how long the last events of a topic are given to those who ask for them, whatever has come
/// since: they ask again from where those end.
const TAIL: Duration = Duration::from_millis(50);

/// Requests of one client, and of all, that may wait for the history.
const CLIENT_WAITING: usize = 16;
const ALL_WAITING: usize = 16_384;

/// Questions for heads and replays that may wait for the history.
const QUESTIONS: usize = 512;

/// What the history is waited for when it cannot answer.
const BROKEN: Duration = Duration::from_millis(500);

/// Who waits for an answer.
#[derive(Debug, Clone)]
struct Waiter {
    client: Client,
    tag: u64,
}

/// What a question is for.
#[derive(Debug)]
enum Purpose {
    Heads(Waiter),
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

pub(super) struct Desk {
    cache_bytes: usize,
    admission: Admission,
    cache: Cache,
    /// Who waits for a piece of the journal that is being read.
    replays: HashMap<Key, Vec<Waiter>>,
    /// Who waits to know whether a topic's newest snapshot will do.
    beginning: HashMap<Arc<str>, Vec<Waiter>>,
    snapshots: HashMap<SnapshotId, Snapshot>,
    /// Who waits for a chunk that is not made yet.
    chunks: HashMap<SnapshotId, Vec<(u32, Waiter)>>,
    newest: HashMap<Arc<str>, SnapshotId>,
    next_snapshot: SnapshotId,
    tickets: HashMap<u64, Purpose>,
    next_ticket: u64,
    questions: usize,
    /// How many requests of a client wait for the history.
    waiting: HashMap<Client, usize>,
    all_waiting: usize,
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
            cache_bytes: options.cache_bytes,
            admission: Admission::new(limits, now, rng.fork()),
            cache: Cache::default(),
            replays: HashMap::new(),
            beginning: HashMap::new(),
            snapshots: HashMap::new(),
            chunks: HashMap::new(),
            newest: HashMap::new(),
            // So that one of another run is not taken for one of this.
            next_snapshot: rng.u64(..) | 1,
            tickets: HashMap::new(),
            next_ticket: 0,
            questions: 0,
            waiting: HashMap::new(),
            all_waiting: 0,
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

    /// A client asks.
    pub(super) fn request(&mut self, client: &[u8], tag: u64, request: Request, now: Instant) {
        let waiter = Waiter {
            client: client.into(),
            tag,
        };
        match request {
            Request::Heads {
                incarnation,
                topics,
            } => {
                self.metrics.sync_heads_total.inc();
                if self.may_wait(&waiter) && self.may_ask(&waiter) {
                    self.wait(&waiter);
                    let ask = Ask::Heads {
                        incarnation,
                        topics,
                    };
                    self.question(Purpose::Heads(waiter), ask);
                }
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
        let waiter = Waiter {
            client: client.into(),
            tag: error.tag,
        };
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

    fn replay(&mut self, waiter: Waiter, key: Key, now: Instant) {
        if let Some(body) = self.cache.get(&key, now) {
            self.metrics.sync_shared_total.inc();
            self.send(&waiter, body);
            return;
        }
        if !self.may_wait(&waiter) {
            return;
        }
        if let Some(others) = self.replays.get_mut(&key) {
            others.push(waiter.clone());
            self.metrics.sync_shared_total.inc();
            self.wait(&waiter);
            return;
        }
        if !self.may_ask(&waiter) {
            return;
        }
        self.wait(&waiter);
        self.replays.insert(key.clone(), vec![waiter]);
        let ask = Ask::Replay {
            incarnation: key.incarnation,
            topic: Arc::clone(&key.topic),
            after: key.after,
        };
        self.question(Purpose::Replay(key), ask);
    }

    fn begin(&mut self, waiter: Waiter, topic: Arc<str>, now: Instant) {
        if !self.may_wait(&waiter) {
            return;
        }
        let newest = self.newest.get(&topic).copied();
        let newest = newest.and_then(|id| Some((id, self.snapshots.get(&id)?)));
        let fresh = newest
            .filter(|(_, newest)| now.saturating_duration_since(newest.current) < FRESH)
            .map(|(id, _)| id);
        let known = newest.map(|(_, newest)| newest.position());
        // What is being fetched cannot be dropped; another is begun when there is room for it.
        if fresh.is_none() && self.bytes_wanted() >= self.cache_bytes {
            return self.retry(&waiter, BROKEN);
        }
        if let Err(wait) = self.admission.begin(&waiter.client, now) {
            return self.retry(&waiter, wait);
        }
        self.metrics.sync_admitted_total.inc();
        self.wait(&waiter);
        if let Some(id) = fresh {
            return self.join(waiter, id, now);
        }
        if let Some(others) = self.beginning.get_mut(&topic) {
            others.push(waiter);
            return;
        }
        self.beginning.insert(Arc::clone(&topic), vec![waiter]);
        let ask = Ask::Names {
            topic: Arc::clone(&topic),
            after: None,
            known,
        };
        self.question(Purpose::Begin(topic), ask);
    }

    /// A client that has a place is given the first chunk of this snapshot.
    fn join(&mut self, waiter: Waiter, id: SnapshotId, now: Instant) {
        self.admission.goes_on(&waiter.client, id, now);
        self.chunks.entry(id).or_default().push((0, waiter));
        self.pump(id, now);
    }

    fn go_on(&mut self, waiter: Waiter, topic: &str, id: SnapshotId, chunk: u32, now: Instant) {
        let snapshot = self.snapshots.get(&id);
        let Some(snapshot) = snapshot.filter(|snapshot| **snapshot.topic() == *topic) else {
            self.admission.ended(&waiter.client, id, now);
            self.metrics.sync_lapsed_total.inc();
            return self.answer(&waiter, &Answer::Lapsed);
        };
        if snapshot.beyond(chunk) {
            let chunks = snapshot.chunks();
            return self.no_chunk(&waiter, chunk, chunks);
        }
        if self.may_wait(&waiter) {
            self.wait(&waiter);
            self.admission.goes_on(&waiter.client, id, now);
            self.chunks.entry(id).or_default().push((chunk, waiter));
            self.pump(id, now);
        }
    }

    fn no_chunk(&mut self, waiter: &Waiter, chunk: u32, chunks: u32) {
        self.metrics.sync_refused_total.inc();
        let answer = Answer::Refused {
            code: Refusal::Malformed,
            reason: format!("there is no chunk {chunk} of {chunks}"),
        };
        self.answer(waiter, &answer);
    }

    /// A client could not be sent its answer because it is not connected any more.
    pub(super) fn gone(&mut self, client: &[u8]) {
        self.admission.gone(client);
    }

    /// Gives the chunks that are made, and has the next ones made.
    fn pump(&mut self, id: SnapshotId, now: Instant) {
        let Some(snapshot) = self.snapshots.get_mut(&id) else {
            return;
        };
        snapshot.used = now;
        let waiters = self.chunks.remove(&id).unwrap_or_default();
        let wanted = waiters.iter().map(|(chunk, _)| *chunk).max();
        let (mut ready, mut left, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, waiter) in waiters {
            match snapshot.chunk(chunk) {
                Some((body, given)) => {
                    self.metrics.sync_shared_total.add(given.into());
                    ready.push((waiter, body, chunk + 1 == snapshot.chunks()));
                }
                None if snapshot.beyond(chunk) => odd.push((chunk, waiter)),
                None => left.push((chunk, waiter)),
            }
        }
        let chunks = snapshot.chunks();
        if let Some(ask) = snapshot.ask(wanted) {
            self.question(Purpose::Build(id), ask);
        }
        if !left.is_empty() {
            self.chunks.insert(id, left);
        }
        for (chunk, waiter) in odd {
            self.done(&waiter);
            self.no_chunk(&waiter, chunk, chunks);
        }
        for (waiter, body, last) in ready {
            self.done(&waiter);
            if last {
                self.admission.ended(&waiter.client, id, now);
            }
            self.send(&waiter, body);
        }
    }

    /// The history answers.
    pub(super) fn told(&mut self, ticket: u64, told: Told, now: Instant) {
        let Some(purpose) = self.tickets.remove(&ticket) else {
            return;
        };
        match purpose {
            Purpose::Heads(waiter) => {
                self.questions -= 1;
                self.done(&waiter);
                match told {
                    Told::Heads {
                        incarnation,
                        head,
                        behind,
                    } => {
                        self.incarnation = incarnation;
                        let answer = Answer::Heads {
                            incarnation,
                            head,
                            behind,
                        };
                        self.answer(&waiter, &answer);
                    }
                    _ => self.retry(&waiter, BROKEN),
                }
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

    fn replayed(&mut self, key: Key, told: Told, now: Instant) {
        let waiters = self.replays.remove(&key).unwrap_or_default();
        waiters.iter().for_each(|waiter| self.done(waiter));
        let answer = match told {
            Told::Events {
                incarnation,
                upto,
                last,
                events,
            } => Answer::Events {
                incarnation,
                upto,
                last,
                events,
            },
            Told::Gone { incarnation } => {
                self.incarnation = incarnation;
                Answer::Gone { incarnation }
            }
            _ => {
                for waiter in waiters {
                    self.retry(&waiter, BROKEN);
                }
                return;
            }
        };
        let body = encode(&answer);
        for waiter in waiters {
            self.send(&waiter, Arc::clone(&body));
        }
        if let Answer::Events {
            incarnation,
            upto,
            last,
            events,
        } = answer
        {
            self.incarnation = incarnation;
            // A piece that others follow stays as it is. The last one may grow, and that there is
            // none is never kept: whoever asks has a reason to.
            if !events.is_empty() {
                self.metrics.sync_built_total.inc();
                let until = (upto >= last).then_some(now + TAIL);
                self.cache.put(key, body, until, now);
            }
        }
    }

    fn begun(&mut self, topic: Arc<str>, told: Told, now: Instant) {
        let waiters = self.beginning.remove(&topic).unwrap_or_default();
        let known = self.newest.get(&topic).copied();
        let id = match (told, known) {
            (Told::Unmoved, Some(id)) if self.snapshots.contains_key(&id) => {
                if let Some(snapshot) = self.snapshots.get_mut(&id) {
                    snapshot.current = now;
                }
                id
            }
            (
                Told::Names {
                    position,
                    complete_since,
                    names,
                    more,
                },
                _,
            ) => {
                self.incarnation = position.incarnation;
                let id = self.next_snapshot;
                self.next_snapshot = id.wrapping_add(1);
                let topic_of = Arc::clone(&topic);
                let snapshot = Snapshot::new(topic_of, position, complete_since, names, more, now);
                self.snapshots.insert(id, snapshot);
                self.newest.insert(topic, id);
                id
            }
            _ => {
                for waiter in waiters {
                    self.done(&waiter);
                    self.admission.ended(&waiter.client, 0, now);
                    self.retry(&waiter, BROKEN);
                }
                return;
            }
        };
        for waiter in waiters {
            self.join(waiter, id, now);
        }
    }

    fn built(&mut self, id: SnapshotId, told: Told, now: Instant) {
        let Some(snapshot) = self.snapshots.get_mut(&id) else {
            return;
        };
        snapshot.asking = false;
        let own = snapshot.position().incarnation;
        match told {
            Told::Names {
                position,
                names,
                more,
                ..
            } if position.incarnation == own => snapshot.name(names, more),
            Told::Rows { incarnation, rows } if incarnation == own => {
                snapshot.rows(id, rows);
                self.metrics.sync_built_total.inc();
            }
            // The history was lost or cannot be read, or the rows have outgrown the chunk.
            _ => return self.lapse(id, now),
        }
        self.pump(id, now);
    }

    /// A snapshot cannot be gone on with: who is in the middle of it begins anew.
    fn lapse(&mut self, id: SnapshotId, now: Instant) {
        self.forget(id);
        for (_, waiter) in self.chunks.remove(&id).unwrap_or_default() {
            self.done(&waiter);
            self.admission.ended(&waiter.client, id, now);
            self.metrics.sync_lapsed_total.inc();
            self.answer(&waiter, &Answer::Lapsed);
        }
    }

    fn forget(&mut self, id: SnapshotId) {
        if let Some(snapshot) = self.snapshots.remove(&id)
            && self.newest.get(snapshot.topic()) == Some(&id)
        {
            self.newest.remove(snapshot.topic());
        }
    }

    /// Time passes: to be called every second or so.
    pub(super) fn tick(&mut self, now: Instant) {
        let silent = self.admission.tick(now);
        self.metrics.sync_silent_total.add(silent as u64);
        self.cache.tick(self.incarnation, now);
        self.shrink();
        let metrics = &self.metrics;
        metrics
            .sync_clients_snapshot
            .set(self.admission.places() as u64);
        metrics
            .sync_clients_waiting
            .set(self.admission.waiting() as u64);
        metrics.sync_snapshots_kept.set(self.snapshots.len() as u64);
    }

    /// Whether somebody is in the middle of it.
    fn wanted(&self, id: SnapshotId) -> bool {
        self.chunks.contains_key(&id) || self.admission.wanted(id)
    }

    fn bytes_wanted(&self) -> usize {
        let wanted = self.snapshots.iter().filter(|(id, _)| self.wanted(**id));
        wanted.map(|(_, snapshot)| snapshot.bytes()).sum()
    }

    /// Drops snapshots that nobody will ask for, then what was not used for longest, down to the
    /// bound. What somebody is in the middle of stays.
    fn shrink(&mut self) {
        let idle = |desk: &Desk| -> Vec<(SnapshotId, Instant, bool)> {
            let all = desk.snapshots.iter();
            let idle = all.filter(|(id, _)| !desk.wanted(**id));
            let newest = |id, snapshot: &Snapshot| desk.newest.get(snapshot.topic()) == Some(id);
            idle.map(|(id, snapshot)| (*id, snapshot.used, newest(id, snapshot)))
                .collect()
        };
        let bytes = |desk: &Desk| -> usize {
            let snapshots = desk.snapshots.values().map(Snapshot::bytes);
            desk.cache.bytes() + snapshots.sum::<usize>()
        };
        // Superseded ones are few: one topic has at most one per second.
        for (id, _, newest) in idle(self) {
            if !newest {
                self.forget(id);
            }
        }
        while bytes(self) > self.cache_bytes {
            let snapshot = idle(self).into_iter().min_by_key(|(_, used, _)| *used);
            match (snapshot, self.cache.oldest()) {
                (Some((id, used, _)), oldest) if oldest.is_none_or(|oldest| used <= oldest) => {
                    self.forget(id);
                }
                (_, Some(oldest)) => self.cache.drop_upto(oldest),
                _ => break,
            }
        }
        self.metrics.sync_cache_bytes.set(bytes(self) as u64);
    }

    fn question(&mut self, purpose: Purpose, ask: Ask) {
        if matches!(purpose, Purpose::Heads(_) | Purpose::Replay(_)) {
            self.questions += 1;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, purpose);
        self.actions.push(Action::Ask(ticket, ask));
    }

    /// Whether another request of the client may wait; tells it to come again where not.
    fn may_wait(&mut self, waiter: &Waiter) -> bool {
        let own = self.waiting.get(&waiter.client).copied().unwrap_or(0);
        let room = own < CLIENT_WAITING && self.all_waiting < ALL_WAITING;
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

    fn wait(&mut self, waiter: &Waiter) {
        *self.waiting.entry(waiter.client.clone()).or_default() += 1;
        self.all_waiting += 1;
    }

    fn done(&mut self, waiter: &Waiter) {
        self.all_waiting -= 1;
        if let Some(count) = self.waiting.get_mut(&waiter.client) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&waiter.client);
            }
        }
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

fn encode(answer: &Answer) -> Body {
    let mut out = Vec::new();
    answer::encode(0, answer, &mut out);
    out.into()
}
