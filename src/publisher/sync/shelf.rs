//! What was made and may be asked for again: pieces of the journal and snapshots, within a bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::cache::{Cache, Key};
use super::snapshot::Snapshot;
use crate::sync::SnapshotId;

/// When the bound is reached, so much of it is kept, in tenths: that makes it worth the search.
const KEPT: usize = 9;

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    pub cache: Cache,
    snapshots: HashMap<SnapshotId, Snapshot>,
    snapshot_bytes: usize,
    newest: HashMap<Arc<str>, SnapshotId>,
    /// Snapshots that only those ask for who are in the middle of them.
    old: Vec<SnapshotId>,
    limit: usize,
}

/// What may be dropped.
enum Item {
    Piece(Key),
    Snapshot(SnapshotId),
}

impl Shelf {
    pub(super) fn new(limit: usize) -> Self {
        Shelf {
            cache: Cache::default(),
            snapshots: HashMap::new(),
            snapshot_bytes: 0,
            newest: HashMap::new(),
            old: Vec::new(),
            limit,
        }
    }

    /// How many snapshots there are.
    pub(super) fn snapshots(&self) -> usize {
        self.snapshots.len()
    }

    /// What all takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.cache.bytes() + self.snapshot_bytes
    }

    /// Whether these alone take all there is.
    pub(super) fn full_of(&self, ids: impl Iterator<Item = SnapshotId>) -> bool {
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let kept = ids.iter().filter_map(|id| self.snapshots.get(id));
        kept.map(Snapshot::bytes).sum::<usize>() >= self.limit
    }

    pub(super) fn get(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.get(&id)
    }

    /// Does something with a snapshot.
    pub(super) fn with<T>(
        &mut self,
        id: SnapshotId,
        work: impl FnOnce(&mut Snapshot) -> T,
    ) -> Option<T> {
        let snapshot = self.snapshots.get_mut(&id)?;
        self.snapshot_bytes -= snapshot.bytes();
        let done = work(snapshot);
        self.snapshot_bytes += snapshot.bytes();
        Some(done)
    }

    /// The newest snapshot of a topic.
    pub(super) fn newest(&self, topic: &str) -> Option<(SnapshotId, &Snapshot)> {
        let id = *self.newest.get(topic)?;
        Some((id, self.snapshots.get(&id)?))
    }

    /// Keeps a snapshot as the newest of its topic.
    pub(super) fn put(&mut self, id: SnapshotId, snapshot: Snapshot) {
        self.snapshot_bytes += snapshot.bytes();
        let topic = Arc::clone(snapshot.topic());
        self.old.extend(self.newest.insert(topic, id));
        self.snapshots.insert(id, snapshot);
    }

    /// Drops a snapshot.
    pub(super) fn forget(&mut self, id: SnapshotId) {
        if let Some(snapshot) = self.snapshots.remove(&id) {
            self.snapshot_bytes -= snapshot.bytes();
            if self.newest.get(snapshot.topic()) == Some(&id) {
                self.newest.remove(snapshot.topic());
            }
        }
    }

    /// Drops snapshots that nobody will ask for, and what was not used for longest where all is
    /// too much. What is `wanted`, because somebody is in the middle of it, stays.
    pub(super) fn shrink(&mut self, wanted: impl Fn(SnapshotId) -> bool) {
        let old = std::mem::take(&mut self.old);
        for id in old {
            match wanted(id) {
                true => self.old.push(id),
                false => self.forget(id),
            }
        }
        if self.bytes() <= self.limit {
            return;
        }
        let idle = self.snapshots.iter().filter(|(id, _)| !wanted(**id));
        let idle = idle.map(|(id, snapshot)| (snapshot.used, Item::Snapshot(*id)));
        let pieces = self.cache.used();
        let pieces = pieces.map(|(key, used)| (used, Item::Piece(key.clone())));
        let mut items: Vec<(Instant, Item)> = idle.chain(pieces).collect();
        items.sort_by_key(|(used, _)| *used);
        for (_, item) in items {
            if self.bytes() <= self.limit / 10 * KEPT {
                break;
            }
            match item {
                Item::Piece(key) => self.cache.remove(&key),
                Item::Snapshot(id) => self.forget(id),
            }
        }
    }
}
