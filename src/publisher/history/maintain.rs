//! Chores: rows to the database, the journal trimmed, what is too old forgotten.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::WriteTransaction;

use super::disk::Disk;
use super::error::Fault;
use super::flush::{dirty_rows, write_all_rows, write_rows, write_topics};
use super::state::State;
use super::store::{Meta, PRODUCERS, TOPICS};
use super::{History, HistoryError, Moment, Options, ProducerId, trim};
use crate::replica::RowKey;

/// Rows are written when this many events came since, which bounds the time of an opening, …
const FLUSH_EVENTS: u64 = 500_000;
/// … or at the latest after this time.
const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// Rows written in one call: a few milliseconds.
const SLICE: usize = 2_000;
/// How often all tombstones and producers are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Producers are remembered for this long, and this many.
const PRODUCER_SECS: u64 = 86_400;
const MAX_PRODUCERS: usize = 16_384;
/// Topics are remembered while the journal has events of them, and beyond that this many.
const MAX_TOPICS: usize = 100_000;

/// What [`History::maintain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Rows written to the database.
    pub rows: usize,
    /// Events trimmed from the journal.
    pub trimmed: u64,
    /// Tombstones and producers forgotten.
    pub expired: usize,
    /// Whether there is more to do at once; call again after the next commit.
    pub more: bool,
}

/// When chores were done and what of them is left.
#[derive(Debug)]
pub(super) struct Chores {
    swept: Option<Instant>,
    flushed: Instant,
    flush: Option<Flush>,
    /// Rows that were forgotten in memory, to be removed from the database.
    expired: Vec<RowKey>,
    producers: Vec<ProducerId>,
    /// When the oldest blob will be too old, unix microseconds; `u64::MAX` while there is no blob
    /// but the newest.
    pub(super) trim_at: u64,
}

/// Rows on their way to the database.
#[derive(Debug)]
struct Flush {
    upto: u64,
    rows: Vec<RowKey>,
}

impl Chores {
    pub(super) fn new(now: Moment) -> Self {
        Chores {
            swept: None,
            flushed: now.instant,
            flush: None,
            expired: Vec::new(),
            producers: Vec::new(),
            trim_at: 0,
        }
    }
}

impl History {
    /// Does what is due, a slice of it: to be called every second or so, and again after the next
    /// commit when it says that there is more. The journal may exceed its bounds until rows that
    /// only it holds are written, and always keeps its newest blob.
    pub fn maintain(&mut self, now: Moment) -> Result<Maintained, HistoryError> {
        self.disk()?;
        let mut done = Maintained::default();
        self.sweep(now, &mut done);
        self.begin_flush(now);
        let topics = self.topics_to_forget();
        let idle = self.chores.flush.is_none()
            && self.chores.producers.is_empty()
            && topics.is_empty()
            && !self.trim_due(now);
        if idle {
            return Ok(done);
        }
        let result = match &mut self.disk {
            Some(disk) => {
                let mut work = Work {
                    options: &self.options,
                    state: &mut self.state,
                    chores: &mut self.chores,
                    done: &mut done,
                };
                work.run(disk, &topics, now)
            }
            None => Err(Fault::Stuck("not open".into())),
        };
        result.map_err(|fault| self.fail(fault))?;
        Ok(done)
    }

    /// Writes all rows, marks the clean end, and waits for the disk whatever the durability. After
    /// an error the end is not clean, which costs at most a higher incarnation.
    pub fn close(mut self) -> Result<(), HistoryError> {
        self.disk()?;
        let path = self.options.path.clone();
        self.sync.set(true);
        let Some(disk) = self.disk.take() else {
            return Ok(());
        };
        let state = &mut self.state;
        // Also the rest of a flush under way: it may hold names of rows that are no more.
        let mut names = std::mem::take(&mut self.chores.expired);
        names.extend(
            self.chores
                .flush
                .take()
                .into_iter()
                .flat_map(|flush| flush.rows),
        );
        let closed = disk.close(|transaction| {
            write_rows(transaction, state, &names)?;
            write_all_rows(transaction, state)?;
            state.meta.rows_seq = state.head;
            state.meta.clean = true;
            state.meta.write(transaction)
        });
        closed.map_err(|fault| fault.at(&path))
    }

    /// Forgets tombstones and producers that are too old, in memory.
    fn sweep(&mut self, now: Moment, done: &mut Maintained) {
        let chores = &mut self.chores;
        let recent = |at: Instant| now.instant.saturating_duration_since(at) < SWEEP_EVERY;
        if chores.swept.is_some_and(recent) && self.state.producers.len() <= MAX_PRODUCERS {
            return;
        }
        chores.swept = Some(now.instant);
        let before = chores.expired.len();
        if let Some(limit) = now.instant.checked_sub(self.options.tombstone_ttl) {
            let expired = &mut chores.expired;
            let index = &mut self.state.index;
            self.state.rows.expire_each(limit, |name, topic| {
                index.forgotten(&name, topic);
                expired.push(name);
            });
        }
        done.expired += chores.expired.len() - before;
        self.state.index.trimmed(self.state.floor);
        let producers = &mut self.state.producers;
        let mut oldest = now.unix_secs().saturating_sub(PRODUCER_SECS);
        if producers.len() > MAX_PRODUCERS {
            let mut times: Vec<u64> = producers.values().map(|last| last.unix_secs).collect();
            let excess = times.len() - MAX_PRODUCERS;
            let (_, limit, _) = times.select_nth_unstable(excess);
            oldest = oldest.max(*limit);
        }
        let mut excess = producers.len().saturating_sub(MAX_PRODUCERS);
        producers.retain(|id, last| {
            // Of those heard in the same second, only as many as must go.
            let keep = last.unix_secs > oldest || (last.unix_secs == oldest && excess == 0);
            if !keep {
                excess = excess.saturating_sub(1);
                chores.producers.push(*id);
            }
            keep
        });
        done.expired += chores.producers.len();
    }

    /// Begins to write rows when it is due, or when the journal cannot be trimmed before.
    fn begin_flush(&mut self, now: Moment) {
        let (state, chores) = (&self.state, &self.chores);
        if chores.flush.is_some() {
            return;
        }
        let behind = state.head - state.meta.rows_seq;
        let waited = now.instant.saturating_duration_since(chores.flushed);
        let merged = state.peers.dirty.len();
        let changed = behind > 0 || merged > 0 || !chores.expired.is_empty();
        let due = changed && waited >= FLUSH_EVERY;
        let blocks = behind > 0 && state.floor > state.meta.rows_seq && self.trim_due(now);
        if !(due
            || blocks
            || behind + merged as u64 >= FLUSH_EVENTS
            || chores.expired.len() >= SLICE)
        {
            return;
        }
        let mut rows = dirty_rows(state);
        rows.append(&mut self.chores.expired);
        self.state.peers.dirty = HashSet::new();
        self.chores.flush = Some(Flush {
            upto: self.state.head,
            rows,
        });
    }

    fn trim_due(&self, now: Moment) -> bool {
        match self.chores.trim_at {
            u64::MAX => false,
            at => trim::is_due(&self.options, &self.state) || now.unix_micros >= at,
        }
    }

    /// Topics beyond the bound, of which the journal has no event.
    fn topics_to_forget(&self) -> Vec<(Arc<str>, u64)> {
        let state = &self.state;
        if state.heads.len() <= MAX_TOPICS {
            return Vec::new();
        }
        let limit = state.floor.min(state.meta.rows_seq);
        let old = state.heads.iter().filter(|(_, seq)| **seq < limit);
        let mut old: Vec<_> = old.map(|(topic, seq)| (topic.clone(), *seq)).collect();
        old.sort_unstable_by_key(|(_, seq)| *seq);
        old.truncate(state.heads.len() - MAX_TOPICS * 9 / 10);
        old
    }
}

/// One transaction of chores.
struct Work<'a> {
    options: &'a Options,
    state: &'a mut State,
    chores: &'a mut Chores,
    done: &'a mut Maintained,
}

impl Work<'_> {
    fn run(
        &mut self,
        disk: &mut Disk,
        topics: &[(Arc<str>, u64)],
        now: Moment,
    ) -> Result<(), Fault> {
        let mut meta = self.state.meta.clone();
        let trimmed = disk.transact(|transaction| {
            self.write(transaction, topics, &mut meta, now)?;
            trim::trim(self.options, self.state, transaction, &meta, now)
        })?;
        // Only now is it so.
        self.state.meta = meta;
        for (topic, _) in topics {
            self.state.heads.remove(topic);
        }
        self.done.trimmed = trimmed.floor - self.state.floor;
        self.state.floor = trimmed.floor;
        self.state.bytes = trimmed.bytes;
        self.chores.trim_at = trimmed.again_at;
        self.done.more |= self.chores.flush.is_some() || trimmed.more;
        Ok(())
    }

    fn write(
        &mut self,
        transaction: &WriteTransaction,
        topics: &[(Arc<str>, u64)],
        meta: &mut Meta,
        now: Moment,
    ) -> Result<(), Fault> {
        if let Some(flush) = &mut self.chores.flush {
            let slice = flush.rows.split_off(flush.rows.len().saturating_sub(SLICE));
            write_rows(transaction, self.state, &slice)?;
            self.done.rows = slice.len();
            if flush.rows.is_empty() {
                write_topics(transaction, self.state)?;
                meta.rows_seq = flush.upto;
                self.chores.flush = None;
                self.chores.flushed = now.instant;
            }
        }
        if !topics.is_empty() {
            let mut table = transaction.open_table(TOPICS)?;
            for (topic, seq) in topics {
                table.remove(&**topic)?;
                meta.forgotten = meta.forgotten.max(*seq);
            }
        }
        if !self.chores.producers.is_empty() {
            let mut table = transaction.open_table(PRODUCERS)?;
            for id in self.chores.producers.drain(..) {
                table.remove(&id)?;
            }
        }
        match *meta == self.state.meta {
            true => Ok(()),
            false => meta.write(transaction),
        }
    }
}
