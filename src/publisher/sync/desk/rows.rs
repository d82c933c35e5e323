//! Snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BROKEN, Desk, Purpose};
use crate::publisher::sync::ask::{Ask, Told};
use crate::publisher::sync::snapshot::Snapshot;
use crate::publisher::sync::waiters::Waiter;
use crate::sync::{Answer, Refusal, SnapshotId};

/// A snapshot is given to whoever asks within this time, whatever this publisher has sent since: that
/// is replayed.
const FRESH: Duration = Duration::from_secs(1);

/// The same, whatever rows of other publishers have changed, which is not replayed: who loads it is as
/// one who loaded it so much earlier. A topic that others change all the time is not read anew for
/// each client that comes.
const SETTLED: Duration = Duration::from_millis(100);

impl Desk {
    pub(super) fn begin(&mut self, waiter: Waiter, topic: Arc<str>, now: Instant) {
        if !self.may_wait(&waiter) {
            return;
        }
        let newest = self.shelf.newest(&topic);
        let age = newest.map(|(_, newest)| now.saturating_duration_since(newest.current));
        let fresh = age.is_some_and(|age| age < FRESH);
        let settled = newest
            .filter(|_| age.is_some_and(|age| age < SETTLED))
            .map(|(id, _)| id);
        let known = newest.map(|(_, newest)| newest.position());
        if !fresh && self.is_full() {
            return self.retry(&waiter, BROKEN);
        }
        if let Err(wait) = self.admission.begin(&waiter, now) {
            return self.retry(&waiter, wait);
        }
        self.metrics.sync_admitted_total.inc();
        self.waiters.wait(&waiter);
        if let Some(id) = settled {
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
            fresh,
        };
        self.question(Purpose::Begin(topic), ask);
    }

    /// A client that has a place is given the first chunk of this snapshot.
    fn join(&mut self, waiter: Waiter, id: SnapshotId, now: Instant) {
        self.admission.joined(&waiter, id, now);
        self.chunks.entry(id).or_default().push((0, waiter));
        self.pump(id, now);
    }

    pub(super) fn go_on(
        &mut self,
        waiter: Waiter,
        topic: &str,
        id: SnapshotId,
        chunk: u32,
        now: Instant,
    ) {
        let snapshot = self.shelf.get(id);
        let Some(snapshot) = snapshot.filter(|snapshot| **snapshot.topic() == *topic) else {
            self.admission.ended(&waiter, id, now);
            self.metrics.sync_lapsed_total.inc();
            return self.answer(&waiter, &Answer::Lapsed);
        };
        if snapshot.beyond(chunk) {
            let chunks = snapshot.chunks();
            return self.no_chunk(&waiter, chunk, chunks);
        }
        if !self.may_wait(&waiter) {
            return;
        }
        if let Err(wait) = self.admission.goes_on(&waiter, (id, chunk), now) {
            return self.retry(&waiter, wait);
        }
        self.waiters.wait(&waiter);
        self.chunks.entry(id).or_default().push((chunk, waiter));
        self.pump(id, now);
    }

    fn no_chunk(&mut self, waiter: &Waiter, chunk: u32, chunks: u32) {
        self.metrics.sync_refused_total.inc();
        let answer = Answer::Refused {
            code: Refusal::Malformed,
            reason: format!("there is no chunk {chunk} of {chunks}"),
        };
        self.answer(waiter, &answer);
    }

    /// Gives the chunks that are made, and has the next ones made.
    fn pump(&mut self, id: SnapshotId, now: Instant) {
        let waiters = self.chunks.remove(&id).unwrap_or_default();
        let wanted = waiters.iter().map(|(chunk, _)| *chunk).max();
        let (mut ready, mut left, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        let looked = self.shelf.with(id, |snapshot| {
            snapshot.used = now;
            for (chunk, waiter) in waiters {
                match snapshot.chunk(chunk) {
                    Some((body, given)) => ready.push((chunk, waiter, body, given)),
                    None if snapshot.beyond(chunk) => odd.push((chunk, waiter)),
                    None => left.push((chunk, waiter)),
                }
            }
            (snapshot.chunks(), snapshot.ask(wanted))
        });
        let Some((chunks, ask)) = looked else {
            return;
        };
        if let Some(ask) = ask {
            self.question(Purpose::Build(id), ask);
        }
        if !left.is_empty() {
            self.chunks.insert(id, left);
        }
        for (chunk, waiter) in odd {
            self.waiters.done(&waiter);
            self.no_chunk(&waiter, chunk, chunks);
        }
        for (chunk, waiter, body, given) in ready {
            self.waiters.done(&waiter);
            self.metrics.sync_shared_total.add(given.into());
            if chunk + 1 == chunks {
                self.admission.ended(&waiter, id, now);
            }
            self.send(&waiter, body);
        }
    }

    /// Whether all room is taken by what is being fetched, which cannot be dropped: another snapshot is
    /// begun when there is room for it.
    fn is_full(&self) -> bool {
        let chunks = self.chunks.keys().copied();
        self.shelf.full_of(self.admission.open().chain(chunks))
    }

    pub(super) fn begun(&mut self, topic: Arc<str>, told: Told, now: Instant) {
        // The newest one was thought to do, and does not: a peer has changed the topic meanwhile.
        let full = self.is_full();
        let waiters = self.beginning.remove(&topic).unwrap_or_default();
        let known = self.shelf.newest(&topic).map(|(id, _)| id);
        let id = match (told, known) {
            (Told::Unmoved, Some(id)) => {
                self.shelf.with(id, |snapshot| snapshot.current = now);
                id
            }
            (Told::WillDo, Some(id)) => id,
            (
                Told::Names {
                    position,
                    complete_since,
                    names,
                    more,
                },
                _,
            ) if !full => {
                self.incarnation = position.incarnation;
                let id = self.next_snapshot;
                self.next_snapshot = id.wrapping_add(1);
                let snapshot = Snapshot::new(topic, position, complete_since, names, more, now);
                self.shelf.put(id, snapshot);
                id
            }
            _ => {
                for waiter in waiters {
                    self.waiters.done(&waiter);
                    self.admission.failed(&waiter, now);
                    self.retry(&waiter, BROKEN);
                }
                return;
            }
        };
        for waiter in waiters {
            self.join(waiter, id, now);
        }
    }

    pub(super) fn built(&mut self, id: SnapshotId, told: Told, now: Instant) {
        let taken = self.shelf.with(id, |snapshot| {
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
                _ => return false,
            }
            true
        });
        match taken {
            Some(true) => self.pump(id, now),
            Some(false) => self.lapse(id, now),
            None => {}
        }
    }

    /// A snapshot cannot be gone on with: who is in the middle of it begins anew.
    fn lapse(&mut self, id: SnapshotId, now: Instant) {
        self.shelf.forget(id);
        for (chunk, waiter) in self.chunks.remove(&id).unwrap_or_default() {
            self.waiters.done(&waiter);
            self.admission.ended(&waiter, id, now);
            if chunk == 0 {
                // It has nothing of it yet, and may not even know its name.
                self.retry(&waiter, BROKEN);
            } else {
                self.metrics.sync_lapsed_total.inc();
                self.answer(&waiter, &Answer::Lapsed);
            }
        }
    }
}
