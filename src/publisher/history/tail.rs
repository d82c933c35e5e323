//! The newest part of the journal: in memory, and in a file that is only appended to.
//!
//! A commit of the database writes eight pages or more however small the group; an entry here is one
//! write, and one fdatasync where it must outlast a power cut. From time to time all of it is moved
//! to the database in one transaction, which also raises the generation: then the file is written
//! from its beginning again. Until that transaction is committed nothing in the file is touched, so
//! that each event is in the one or in the other whatever happens between.
//!
//! The file belongs to the database beside it, whose lock protects it too.

mod blobs;
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

pub(super) use blobs::{Blobs, Cutter, Run};

use blobs::BLOB;

/// How large the file becomes, and about how much memory is kept. Moving that much takes the
/// publisher some 5 ms.
pub(super) const BYTES: u64 = 4 << 20;

/// What the file begins with. One without it is not ours, or was never whole.
const MAGIC: &[u8; 16] = b"fanfare tail \0\0\x01";
/// Where the first entry stands: all begin with a block of the disk if they are to.
const HEAD: u64 = 4096;
/// A block of the disk.
const BLOCK: usize = 4096;

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
    blobs: Blobs,
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
            blobs: Blobs::default(),
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
            let mut records = Records::new(entry.records);
            records.by_ref().for_each(|record| self.blobs.push(&record));
            if !records.is_whole() {
                return false;
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
        self.blobs.clear();
        self.producers.clear();
    }

    /// What is in it.
    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Whether it should be moved when there is time.
    pub(super) fn is_large(&self) -> bool {
        2 * (self.end - HEAD) >= self.limit.saturating_sub(HEAD)
    }

    /// Takes a group: `false` when it did not go to the file, and then all must be moved before it
    /// counts as written. After an error what is in the file is not known.
    pub(super) fn append(
        &mut self,
        run: Run<'_>,
        producers: &Map<ProducerId, u64>,
        now: Moment,
    ) -> Result<bool, Fault> {
        // A group that is as large as a blob costs the database no more than it must.
        let small = run.records.len() < BLOB;
        let written = small && self.write_entry(run.records, producers, now)?;
        self.blobs.append(run);
        let last = producers
            .iter()
            .map(|(id, number)| (*id, (*number, now.unix_secs())));
        self.producers.extend(last);
        Ok(written)
    }

    /// Writes a group to the file; `false` when it has no room.
    fn write_entry(
        &mut self,
        records: &[u8],
        producers: &Map<ProducerId, u64>,
        now: Moment,
    ) -> Result<bool, Fault> {
        // A write that is torn by a power cut must not harm what was promised before it.
        let align = if self.synced { BLOCK } else { 8 };
        let span = entry::encode(
            self.generation,
            now.unix_secs(),
            producers.iter().map(|(id, number)| (*id, *number)),
            records,
            align,
            &mut self.scratch,
        );
        let end = span.map(|span| self.end + span);
        let Some(end) = end.filter(|end| *end <= self.limit) else {
            return Ok(false);
        };
        self.write(&self.scratch, self.end).map_err(Fault::Io)?;
        self.sync().map_err(Fault::Io)?;
        self.end = end;
        Ok(true)
    }

    /// Brings all of it to the database, of which it is a part no more once that is committed: then
    /// [`Tail::moved`] is to be called.
    pub(super) fn store(&self, transaction: &WriteTransaction) -> Result<(), Fault> {
        if self.blobs.is_empty() {
            return Ok(());
        }
        let mut journal = transaction.open_table(JOURNAL)?;
        for (first, blob) in self.blobs.iter() {
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
        if !self.blobs.is_empty() {
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
        self.blobs.shrink_to(most);
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
