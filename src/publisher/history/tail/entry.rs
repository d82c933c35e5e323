//! Entries of the tail: one for each group of events, one after the other.
//!
//! An entry is: CRC-32 of all that follows up to the length of the body u32 | span u32 | length of
//! the body u32 | producers u32 | generation u64 | unix seconds u64 | body. The body is the producers
//! (id 16 bytes | number u64) and then the group's records as they stand in a blob. Numbers are
//! big-endian. The next entry begins a span, a multiple of 8, after this one: where a torn write must
//! not harm the entry before, the rest of a block is left as it is.
//!
//! The file is written over from its beginning again and again. What is left of earlier rounds is
//! told from what counts by the generation, which rises with each.

use crate::publisher::history::ProducerId;

/// What stands before the body, bytes.
const HEAD: usize = 32;
/// Bytes of one producer.
const PRODUCER: usize = 24;
/// Every entry begins at a multiple of this.
const STEP: usize = 8;
/// Generations further ahead than this are no generations.
const AHEAD: u64 = 1 << 32;

/// One group, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::publisher::history) struct Entry<'a> {
    generation: u64,
    /// When it was written.
    pub(super) unix_secs: u64,
    producers: &'a [u8],
    /// See `record`.
    pub(super) records: &'a [u8],
    span: usize,
}

impl<'a> Entry<'a> {
    /// The entry that `bytes` begin with, if its checksum holds and its generation is one of
    /// `generations`.
    fn parse(bytes: &'a [u8], generations: &std::ops::Range<u64>) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let (short, long) = head.split_at(16);
        let (short, long) = (short.as_chunks::<4>().0, long.as_chunks::<8>().0);
        let generation = u64::from_be_bytes(long[0]);
        if !generations.contains(&generation) {
            return None;
        }
        let length = |at: usize| usize::try_from(u32::from_be_bytes(short[at])).ok();
        let (span, len) = (length(1)?, length(2)?);
        let body = rest.get(..len)?;
        let (producers, records) = body.split_at_checked(length(3)?.checked_mul(PRODUCER)?)?;
        let whole = span >= HEAD + len && span.is_multiple_of(STEP);
        let sum = u32::from_be_bytes(short[0]);
        (whole && checksum(&bytes[4..HEAD + len]) == sum).then_some(Entry {
            generation,
            unix_secs: u64::from_be_bytes(long[1]),
            producers,
            records,
            span,
        })
    }

    /// Those whose events they are, and the last number of each.
    pub(super) fn producers(&self) -> impl Iterator<Item = (ProducerId, u64)> {
        self.producers.chunks_exact(PRODUCER).filter_map(|one| {
            let (id, number) = one.split_first_chunk::<16>()?;
            Some((*id, u64::from_be_bytes(number.try_into().ok()?)))
        })
    }
}

/// Makes the entry of a group; the next one begins at a multiple of `align`, which is one of 8,
/// counted from this one. `None` when a length does not fit its field.
pub(super) fn encode(
    generation: u64,
    unix_secs: u64,
    producers: impl Iterator<Item = (ProducerId, u64)>,
    records: &[u8],
    align: usize,
    out: &mut Vec<u8>,
) -> Option<u64> {
    out.clear();
    out.resize(HEAD, 0);
    let mut count = 0u32;
    for (id, number) in producers {
        out.extend_from_slice(&id);
        out.extend_from_slice(&number.to_be_bytes());
        count += 1;
    }
    out.extend_from_slice(records);
    let span = out.len().next_multiple_of(align);
    let (short_span, len) = (
        u32::try_from(span).ok()?,
        u32::try_from(out.len() - HEAD).ok()?,
    );
    for (at, number) in [short_span, len, count].into_iter().enumerate() {
        out[4 + 4 * at..8 + 4 * at].copy_from_slice(&number.to_be_bytes());
    }
    out[16..24].copy_from_slice(&generation.to_be_bytes());
    out[24..HEAD].copy_from_slice(&unix_secs.to_be_bytes());
    let sum = checksum(&out[4..]);
    out[..4].copy_from_slice(&sum.to_be_bytes());
    Some(span as u64)
}

/// The entries of one generation, in order; `is_whole` tells whether these were all.
#[derive(Debug)]
pub(in crate::publisher::history) struct Entries<'a> {
    rest: &'a [u8],
    generation: u64,
}

impl<'a> Entries<'a> {
    /// Those in `bytes`, the file without its head.
    pub(in crate::publisher::history) fn new(bytes: &'a [u8], generation: u64) -> Self {
        Entries {
            rest: bytes,
            generation,
        }
    }

    /// Asked at the end: whether nothing was written after the first entry that does not hold. The
    /// last one may have been torn, since nobody was told of it; if others came after, they were
    /// told of. A later generation says that the file is newer than what it was opened for.
    pub(in crate::publisher::history) fn is_whole(&self) -> bool {
        let generations = self.generation..self.generation.saturating_add(AHEAD);
        let mut rest = self.rest;
        while let Some(next) = rest.get(STEP..) {
            rest = next;
            if Entry::parse(rest, &generations).is_some() {
                return false;
            }
        }
        Entry::parse(self.rest, &generations).is_none()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let only = self.generation..self.generation.checked_add(1)?;
        let entry = Entry::parse(self.rest, &only)?;
        // The last one's span may go beyond the end of the file.
        self.rest = self.rest.get(entry.span..).unwrap_or_default();
        Some(entry)
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u64, number: u64, records: &[u8], align: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let producers = [([7; 16], number)].into_iter();
        let span = encode(generation, 9, producers, records, align, &mut out).unwrap();
        out.resize(span as usize, 0xee);
        out
    }

    /// The numbers that are read, and whether these were all.
    fn read(bytes: &[u8], generation: u64) -> (Vec<u64>, bool) {
        let mut entries = Entries::new(bytes, generation);
        let mut numbers = Vec::new();
        for entry in entries.by_ref() {
            assert_eq!(entry.unix_secs, 9);
            numbers.extend(entry.producers().map(|(_, number)| number));
        }
        (numbers, entries.is_whole())
    }

    #[test]
    fn what_is_written_is_read() {
        for align in [8, 512, 4096] {
            let mut file = entry(3, 1, b"first", align);
            assert_eq!(file.len() % align, 0);
            file.extend(entry(3, 2, &[5; 600], align));
            let last = file.len();
            file.extend(entry(3, 3, b"", align));
            assert_eq!(read(&file, 3), (vec![1, 2, 3], true));
            // Nothing was written after the last one's body.
            file.truncate(last + HEAD + PRODUCER);
            assert_eq!(read(&file, 3), (vec![1, 2, 3], true));
        }
    }

    proptest::proptest! {
        /// Whatever stands in the file, and wherever in it: nothing is taken for an entry, nothing is
        /// read beyond the end.
        #[test]
        fn garbage_is_no_entry(
            bytes in proptest::collection::vec(0..=255u8, 0..300),
            generation in 0..4u64,
            len in 0..=u32::MAX,
        ) {
            proptest::prop_assert_eq!(read(&bytes, generation), (vec![], true));
            let mut lying = entry(generation, 1, &bytes, 8);
            lying[8..12].copy_from_slice(&len.to_be_bytes());
            let (numbers, whole) = read(&lying, generation);
            proptest::prop_assert!(whole && numbers.len() <= 1);
        }
    }

    #[test]
    fn earlier_rounds_do_not_count() {
        let mut file = entry(4, 10, b"now", 8);
        file.extend(entry(3, 2, b"then", 8));
        assert_eq!(read(&file, 4), (vec![10], true));
        // Opened for an older round than was written last.
        assert_eq!(read(&file, 3), (vec![], false));
        assert_eq!(read(&file, 5), (vec![], true));
    }

    #[test]
    fn the_last_may_be_torn_but_none_before_it() {
        let parts = [
            entry(3, 1, b"one", 8),
            entry(3, 2, b"two", 8),
            entry(3, 3, b"three", 8),
        ];
        let file = parts.concat();
        let ends: Vec<_> = [parts[0].len(), parts[0].len() + parts[1].len()].into();
        for at in 0..file.len() {
            for bit in [0, 7] {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                let (numbers, whole) = read(&damaged, 3);
                let good = ends.iter().filter(|end| at >= **end).count();
                let padding = numbers.len() == 3;
                assert!(padding || numbers.len() == good, "byte {at}: {numbers:?}");
                assert_eq!(whole, good == 2 || padding, "byte {at}: {numbers:?}");
            }
            // Cut there.
            let (numbers, whole) = read(&file[..at], 3);
            assert!(numbers.len() <= 3 && whole, "cut at {at}: {numbers:?}");
        }
    }
}
