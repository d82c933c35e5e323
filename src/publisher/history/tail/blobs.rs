//! Records of the journal in the order of their numbers, cut into blobs.

use crate::publisher::history::record::Record;

/// Where a run of records is cut into blobs, bytes. redb keeps a blob in a page of the next power of
/// two, so this is a little below one.
pub(super) const BLOB: usize = (256 << 10) - 512;

/// The journal is trimmed by whole blobs: none holds more than this part of the events it keeps.
const PART: u64 = 8;

/// Decides which blob a record stands in.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::publisher::history) struct Cutter {
    /// First seq of the blob that is being filled.
    first: Option<u64>,
    fill: usize,
    /// Most records of a blob.
    most: u64,
}

impl Cutter {
    /// The first seq of the blob in which a record of `size` bytes stands; it is `seq` where a blob
    /// begins.
    pub(in crate::publisher::history) fn place(&mut self, seq: u64, size: usize) -> u64 {
        match self.first {
            Some(first) if self.fill + size <= BLOB && seq - first < self.most => {
                self.fill += size;
                first
            }
            _ => {
                *self = Cutter {
                    first: Some(seq),
                    fill: size,
                    ..*self
                };
                seq
            }
        }
    }
}

/// A run of records and where its blobs begin: the first seq of each and its offset. What stands
/// before the first one continues the blob that was being filled.
#[derive(Debug, Clone, Copy)]
pub(in crate::publisher::history) struct Run<'a> {
    pub(in crate::publisher::history) records: &'a [u8],
    pub(in crate::publisher::history) cuts: &'a [(u64, usize)],
    pub(in crate::publisher::history) cutter: Cutter,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::publisher::history) struct Blobs {
    records: Vec<u8>,
    cuts: Vec<(u64, usize)>,
    cutter: Cutter,
    /// Seq of the record that was pushed last.
    last: Option<u64>,
}

impl Blobs {
    /// None, of a journal that keeps so many events.
    pub(super) fn new(max_events: u64) -> Self {
        let cutter = Cutter {
            most: (max_events / PART).max(1),
            ..Cutter::default()
        };
        Blobs {
            cutter,
            ..Blobs::default()
        }
    }

    /// Where the next record would stand.
    pub(in crate::publisher::history) fn cutter(&self) -> Cutter {
        self.cutter
    }

    pub(in crate::publisher::history) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// The first seq; `u64::MAX` when there is none.
    pub(in crate::publisher::history) fn first(&self) -> u64 {
        self.cuts.first().map_or(u64::MAX, |(first, _)| *first)
    }

    /// The blobs and their first seqs.
    pub(in crate::publisher::history) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.after(0)
    }

    /// The blobs that hold what comes after `after`. The first one may begin before that.
    pub(in crate::publisher::history) fn after(
        &self,
        after: u64,
    ) -> impl Iterator<Item = (u64, &[u8])> {
        let next = after.saturating_add(1);
        let begun = self.cuts.partition_point(|(first, _)| *first <= next);
        let cuts = &self.cuts[begun.saturating_sub(1)..];
        let ends = cuts.iter().skip(1).map(|(_, start)| *start);
        let cuts = cuts.iter().zip(ends.chain([self.records.len()]));
        cuts.map(|((seq, start), end)| (*seq, &self.records[*start..end]))
    }

    /// The blob that begins with `first`.
    pub(in crate::publisher::history) fn get(&self, first: u64) -> Option<&[u8]> {
        let at = self.cuts.binary_search_by_key(&first, |(seq, _)| *seq);
        let at = at.ok()?;
        let end = self
            .cuts
            .get(at + 1)
            .map_or(self.records.len(), |(_, start)| *start);
        self.records.get(self.cuts[at].1..end)
    }

    /// Adds a record; `false` when it is not the next one.
    pub(super) fn push(&mut self, record: &Record<'_>) -> bool {
        let seq = record.stamp.seq;
        if self.last.is_some_and(|last| seq != last + 1) {
            return false;
        }
        self.last = Some(seq);
        if self.cutter.place(seq, record.raw.len()) == seq {
            self.cuts.push((seq, self.records.len()));
        }
        self.records.extend_from_slice(record.raw);
        true
    }

    /// Adds a run whose places were decided by [`Blobs::cutter`].
    pub(super) fn append(&mut self, run: Run<'_>) {
        let start = self.records.len();
        self.records.extend_from_slice(run.records);
        let cuts = run.cuts.iter().map(|(first, at)| (*first, start + at));
        self.cuts.extend(cuts);
        self.cutter = run.cutter;
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.cuts.clear();
        (self.cutter.first, self.last) = (None, None);
    }

    /// Gives back what it keeps beyond `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.records.shrink_to(bytes);
    }
}
