//! The newest part of the journal: in memory, and in a file that is only appended to.
//!
//! A commit of the database writes eight pages or more however small the group; an entry here is one
//! write, and one fdatasync where it must outlast a power cut. From time to time all of it is moved
//! to the database in one transaction, which also raises the generation: then the file is written
//! from its beginning again. Until that transaction is committed nothing in the file is touched, so
//! that each event is in the one or in the other whatever happens between.
//!
//! The file belongs to the database beside it, whose lock protects it too.

mod entry;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::WriteTransaction;

use super::error::Fault;
use super::record::Records;
use super::state::Map;
use super::store::{self, JOURNAL, PRODUCERS};
use super::{Durability, Moment, Options, ProducerId};
use entry::Entries;

/// Where a run of records is cut into blobs, bytes. redb keeps a blob in a page of the next power of
/// two, so this is a little below one.
const BLOB: usize = (256 << 10) - 512;

/// How large the file becomes, and about how much memory is kept. Moving that much takes the
/// publisher some 5 ms.
pub(super) const BYTES: u64 = 4 << 20;

/// What the file begins with. One without it is not ours, or was never whole.
const MAGIC: &[u8; 16] = b"fanfare tail \0\0\x01";
/// Where the first entry stands: all begin with a block of the disk if they are to.
const HEAD: u64 = 4096;
/// A block of the disk.
const BLOCK: usize = 4096;

/// Decides which blob a record stands in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cutter {
    /// First seq of the blob that is being filled.
    first: Option<u64>,
    fill: usize,
}

impl Cutter {
    /// The first seq of the blob in which a record of `size` bytes stands; it is `seq` where a blob
    /// begins.
    pub(super) fn place(&mut self, seq: u64, size: usize) -> u64 {
        match self.first {
            Some(first) if self.fill + size <= BLOB => {
                self.fill += size;
                first
            }
            _ => {
                *self = Cutter {
                    first: Some(seq),
                    fill: size,
                };
                seq
            }
        }
    }
}

/// A run of records and where its blobs begin: the first seq of each and its offset. What stands
/// before the first one continues the blob that was being filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) records: &'a [u8],
    pub(super) cuts: &'a [(u64, usize)],
    pub(super) cutter: Cutter,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    synced: bool,
    limit: u64,
    generation: u64,
    /// Where the next entry is written.
    end: u64,
    records: Vec<u8>,
    cuts: Vec<(u64, usize)>,
    cutter: Cutter,
    /// Their last numbers, and when.
    producers: Map<ProducerId, (u64, u64)>,
    scratch: Vec<u8>,
    #[cfg(test)]
    faults: super::tests::faults::Faults,
}

impl Tail {
    /// Opens the tail that was written in `generation` and reads it, or begins one. Also gives
    /// whether what was written last may be missing.
    pub(super) fn open(
        options: &Options,
        generation: Option<u64>,
        drop_cache: bool,
    ) -> Result<(Self, bool), Fault> {
        let path = path(&options.path);
        let mut begin = OpenOptions::new();
        begin.read(true).write(true).mode(0o600);
        let kept = match generation.map(|_| begin.open(&path)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                return Err(Fault::Io(error));
            }
            kept => kept.and_then(Result::ok),
        };
        let mut lost = generation.is_some() && kept.is_none();
        let file = match kept {
            Some(file) => file,
            None => begin
                .create(true)
                .truncate(true)
                .open(&path)
                .map_err(Fault::Io)?,
        };
        let mut tail = Tail {
            path,
            file,
            synced: options.durability == Durability::Sync,
            limit: options.tail_bytes,
            generation: generation.unwrap_or_default(),
            end: HEAD,
            records: Vec::new(),
            cuts: Vec::new(),
            cutter: Cutter::default(),
            producers: Map::default(),
            scratch: Vec::new(),
            #[cfg(test)]
            faults: options.faults.clone(),
        };
        if drop_cache {
            store::forget_pages(&tail.file, &tail.path);
        }
        let mut bytes = Vec::new();
        tail.file.read_to_end(&mut bytes).map_err(Fault::Io)?;
        match bytes.starts_with(MAGIC) {
            true => lost |= !tail.read(bytes.get(HEAD as usize..).unwrap_or_default()),
            false => {
                lost |= generation.is_some();
                tail.begin().map_err(Fault::Io)?;
            }
        }
        Ok((tail, lost))
    }

    /// Takes in what was written; whether that is all.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let mut entries = Entries::new(bytes, self.generation);
        for entry in entries.by_ref() {
            for record in Records::new(entry.records) {
                let (seq, size) = (record.stamp.seq, record.raw.len());
                if self.cutter.place(seq, size) == seq {
                    self.cuts.push((seq, self.records.len()));
                }
                self.records.extend_from_slice(record.raw);
            }
            for (id, number) in entry.producers() {
                self.producers.insert(id, (number, entry.unix_secs));
            }
        }
        entries.is_whole()
    }

    fn begin(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.write(MAGIC, 0)?;
        self.file.sync_all()
    }

    /// Forgets what was read: it does not go on where the database ends.
    pub(super) fn discard(&mut self) {
        self.records.clear();
        self.cuts.clear();
        self.producers.clear();
        self.cutter = Cutter::default();
    }

    /// Where the next record would stand.
    pub(super) fn cutter(&self) -> Cutter {
        self.cutter
    }

    /// The first seq; `u64::MAX` when it is empty.
    pub(super) fn first(&self) -> u64 {
        self.cuts.first().map_or(u64::MAX, |(first, _)| *first)
    }

    /// Whether it should be moved when there is time.
    pub(super) fn is_large(&self) -> bool {
        2 * (self.end - HEAD) >= self.limit.saturating_sub(HEAD)
    }

    /// The blobs and their first seqs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let ends = self.cuts.iter().skip(1).map(|(_, start)| *start);
        let ends = ends.chain([self.records.len()]);
        let cuts = self.cuts.iter().zip(ends);
        cuts.map(|((seq, start), end)| (*seq, &self.records[*start..end]))
    }

    /// The blob that begins with `first`.
    pub(super) fn blob(&self, first: u64) -> Option<&[u8]> {
        let at = self
            .cuts
            .binary_search_by_key(&first, |(first, _)| *first)
            .ok()?;
        let end = self
            .cuts
            .get(at + 1)
            .map_or(self.records.len(), |(_, start)| *start);
        self.records.get(self.cuts[at].1..end)
    }

    /// Takes a group: `false` when the file has no room for it, and then all must be moved before it
    /// counts as written. After an error what is in the file is not known.
    pub(super) fn append(
        &mut self,
        run: Run<'_>,
        producers: &Map<ProducerId, u64>,
        now: Moment,
    ) -> Result<bool, Fault> {
        // A write that is torn by a power cut must not harm what was promised before it.
        let align = if self.synced { BLOCK } else { 8 };
        let unix_secs = now.unix_secs();
        let span = entry::encode(
            self.generation,
            unix_secs,
            producers.iter().map(|(id, number)| (*id, *number)),
            run.records,
            align,
            &mut self.scratch,
        );
        let fits = span
            .map(|span| self.end + span)
            .filter(|end| *end <= self.limit);
        if let Some(end) = fits {
            self.write(&self.scratch, self.end).map_err(Fault::Io)?;
            self.sync().map_err(Fault::Io)?;
            self.end = end;
        }
        let start = self.records.len();
        self.records.extend_from_slice(run.records);
        self.cuts
            .extend(run.cuts.iter().map(|(first, at)| (*first, start + at)));
        self.cutter = run.cutter;
        let last = producers
            .iter()
            .map(|(id, number)| (*id, (*number, unix_secs)));
        self.producers.extend(last);
        Ok(fits.is_some())
    }

    /// Brings all of it to the database, of which it is a part no more once that is committed: then
    /// [`Tail::moved`] is to be called.
    pub(super) fn store(&self, transaction: &WriteTransaction) -> Result<(), Fault> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        let mut journal = transaction.open_table(JOURNAL)?;
        for (first, blob) in self.blobs() {
            journal.insert(first, blob)?;
        }
        if !self.producers.is_empty() {
            let mut producers = transaction.open_table(PRODUCERS)?;
            for (id, last) in &self.producers {
                producers.insert(id, *last)?;
            }
        }
        store::write_tail(transaction, Some(self.next_generation()))
    }

    /// It is in the database.
    pub(super) fn moved(&mut self) {
        if !self.cuts.is_empty() {
            self.restart();
        }
    }

    /// Begins the next generation, which the database knows.
    pub(super) fn restart(&mut self) {
        self.discard();
        self.generation += 1;
        self.end = HEAD;
        // A large group may have been taken that did not fit.
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX);
        self.records.shrink_to(most);
        self.scratch.shrink_to(most);
    }

    /// Removes what was written later than the database knows, so that it is not met again.
    pub(super) fn cut(&self) -> Result<(), Fault> {
        self.file.set_len(HEAD).map_err(Fault::Io)
    }

    /// The generation after this one.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Removes the file, which the database does not need any more.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            // The next opening begins it anew.
            log::debug!("{}: not removed: {error}", self.path.display());
        }
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_append(bytes.len())?;
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_append_sync()?;
        match self.synced {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }
}

/// The file of the database at `database`.
pub(super) fn path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".tail");
    name.into()
}
