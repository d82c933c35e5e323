//! One snapshot of one topic: its rows are named first, in slices, and cut into chunks; the chunks
//! are made in order as they are asked for, each once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::ask::{Ask, Position};
use super::cache::{Body, OVERHEAD};
use crate::replica::RowKey;
use crate::sync::{Answer, Digest, Packed, answer};

/// Where a chunk is cut, by what the rows take when they are named.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_ROWS: usize = 512;

/// What a name that waits for its chunk takes, bytes, about: it shares the history's texts.
const NAME: usize = 48;

#[derive(Debug)]
pub(super) struct Snapshot {
    topic: Arc<str>,
    position: Position,
    complete_since: u64,
    /// The name after which the next slice begins; `None` when all are named.
    naming: Option<RowKey>,
    /// What the last chunk of `plan` takes, while rows are named.
    last: usize,
    /// Names of the chunks that are not made yet.
    plan: VecDeque<Vec<RowKey>>,
    names: usize,
    made: Vec<Chunk>,
    bytes: usize,
    digest: Digest,
    /// Whether a question is under way.
    pub asking: bool,
    /// When it was last known to be the newest there can be.
    pub current: Instant,
    /// When it was last asked for.
    pub used: Instant,
}

#[derive(Debug)]
struct Chunk {
    body: Body,
    given: bool,
}

impl Snapshot {
    /// Begins one with the first slice of names.
    pub(super) fn new(
        topic: Arc<str>,
        position: Position,
        complete_since: u64,
        names: Vec<(RowKey, usize)>,
        more: bool,
        now: Instant,
    ) -> Self {
        let mut snapshot = Snapshot {
            topic,
            position,
            complete_since,
            naming: None,
            last: 0,
            // One chunk there is in any case: it says that there are no rows.
            plan: VecDeque::from([Vec::new()]),
            names: 0,
            made: Vec::new(),
            bytes: 0,
            digest: Digest::default(),
            asking: false,
            current: now,
            used: now,
        };
        snapshot.name(names, more);
        snapshot
    }

    /// Takes a slice of names.
    pub(super) fn name(&mut self, names: Vec<(RowKey, usize)>, more: bool) {
        let last = names.last().map(|(name, _)| name.clone());
        self.naming = last.filter(|_| more);
        self.names += names.len();
        for (name, bytes) in names {
            match self.plan.back_mut() {
                Some(chunk) if self.last + bytes <= CHUNK_BYTES && chunk.len() < CHUNK_ROWS => {
                    self.last += bytes;
                    chunk.push(name);
                }
                // The first row, whatever its size.
                Some(chunk) if chunk.is_empty() => {
                    self.last = bytes;
                    chunk.push(name);
                }
                _ => {
                    self.last = bytes;
                    self.plan.push_back(vec![name]);
                }
            }
        }
    }

    /// What is to be asked for those who want chunks up to `wanted`, and for the one after it.
    pub(super) fn ask(&mut self, wanted: Option<u32>) -> Option<Ask> {
        let wanted = wanted?.saturating_add(1) as usize;
        if self.asking {
            return None;
        }
        let topic = Arc::clone(&self.topic);
        let ask = match (&self.naming, self.plan.front()) {
            (Some(after), _) => Ask::Names {
                topic,
                after: Some(after.clone()),
                known: None,
                fresh: false,
            },
            (None, Some(names)) if self.made.len() <= wanted => Ask::Rows {
                topic,
                names: names.clone(),
            },
            _ => return None,
        };
        self.asking = true;
        Some(ask)
    }

    /// Takes the rows of the next chunk.
    pub(super) fn rows(&mut self, id: u64, rows: Packed) {
        let chunks = self.chunks();
        let Some(names) = self.plan.pop_front() else {
            return;
        };
        self.names -= names.len();
        self.digest.add(&rows);
        let total = self.plan.is_empty();
        let answer = Answer::Rows {
            id,
            chunk: self.made.len() as u32,
            chunks,
            incarnation: self.position.incarnation,
            seq: self.position.seq,
            complete_since: self.complete_since,
            total: total.then_some((self.digest.rows, self.digest.sum)),
            rows,
        };
        let mut body = Vec::new();
        answer::encode(0, &answer, &mut body);
        self.bytes += body.len() + OVERHEAD;
        self.made.push(Chunk {
            body: body.into(),
            given: false,
        });
    }

    /// A chunk that is made, and whether somebody was given it before.
    pub(super) fn chunk(&mut self, number: u32) -> Option<(Body, bool)> {
        let chunk = self.made.get_mut(number as usize)?;
        let given = std::mem::replace(&mut chunk.given, true);
        Some((Arc::clone(&chunk.body), given))
    }

    /// How many chunks it has; known when all rows are named.
    pub(super) fn chunks(&self) -> u32 {
        u32::try_from(self.made.len() + self.plan.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is no such chunk and never will be.
    pub(super) fn beyond(&self, chunk: u32) -> bool {
        self.naming.is_none() && chunk >= self.chunks()
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Where the topic stood when it was begun.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// What it takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.bytes + self.names * NAME
    }
}
