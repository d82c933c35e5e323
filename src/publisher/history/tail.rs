//! The newest part of the journal: in memory, and in a file that is only appended to.
//!
//! A commit of the database writes eight pages or more however small the group; an entry here is one
//! write, and one fdatasync where it must outlast a power cut. When it is full, or the database is
//! written anyway, all of it is moved there in one transaction, which also raises the generation: then
//! the file is written from its beginning again. Until that transaction is committed nothing in the
//! file is touched, so that each event is in the one or in the other whatever happens between, and
//! whatever the file proves is there for the next opening too.
//!
//! The file belongs to the database beside it, whose lock protects it too.

mod blobs;
mod entry;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::WriteTransaction;
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::Fault;
use super::record::Records;
use super::state::Map;
use super::store::{self, JOURNAL, PRODUCERS};
use super::{Durability, Moment, Options, ProducerId};
use entry::Entries;

pub(super) use blobs::{Blobs, Cutter, Run};

use blobs::BLOB;

/// How large the file becomes, and about how much memory is kept. Moving that much takes the
/// publisher some 5 ms, and what the disk needs where it is waited for.
pub(super) const BYTES: u64 = 4 << 20;

/// What the file begins with; its mark follows. One without it is not ours, or was never whole.
const MAGIC: &[u8; 16] = b"fanfare tail \0\0\x02";
/// What it began with before there were marks.
const UNMARKED: &[u8; 16] = b"fanfare tail \0\0\x01";
/// Where the first entry stands: all begin with a block of the disk if they are to.
const HEAD: u64 = 4096;
/// A block of the disk.
const BLOCK: usize = 4096;

/// Which of all tails one is: made at random whenever the file is begun, and kept in its head and in
/// the database. Without it a file that another database began anew, and in which nothing is left of
/// what this one promised, would look like one in which nothing was.
pub(super) type Mark = [u8; 16];

/// What a database knows of its tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// It only rises.
    pub(super) generation: u64,
    /// `None` where the file was begun before there were marks.
    pub(super) mark: Option<Mark>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    synced: bool,
    limit: u64,
    generation: u64,
    mark: Option<Mark>,
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
    /// Opens the tail of a database that knows `known` of it. Where the database needs none, one is
    /// begun; else it is read. Also gives whether what was written last may be missing: then
    /// [`Tail::mark_anew`] and [`Tail::begin`] are to be called, this one not before the database
    /// knows.
    pub(super) fn open(
        options: &Options,
        known: Option<Known>,
        needed: bool,
        drop_cache: bool,
    ) -> Result<(Self, bool), Fault> {
        let generation = known.map_or_else(first_generation, |known| Ok(known.generation))?;
        let path = path(&options.path);
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).mode(0o600);
        let file = open.truncate(!needed).open(&path).map_err(of_tail)?;
        let mut tail = Tail {
            path,
            file,
            synced: options.durability == Durability::Sync,
            limit: options.tail_bytes,
            generation,
            mark: known.and_then(|known| known.mark),
            end: HEAD,
            blobs: Blobs::new(options.max_events),
            producers: Map::default(),
            scratch: Vec::new(),
            #[cfg(test)]
            faults: options.faults.clone(),
        };
        if !needed {
            tail.mark_anew()?;
            tail.begin()?;
            return Ok((tail, false));
        }
        if drop_cache {
            store::forget_pages(&tail.file, &tail.path);
        }
        let mut bytes = Vec::new();
        let read = tail.file.read_to_end(&mut bytes);
        read.map_err(of_tail)?;
        let whole = bytes.starts_with(&tail.head())
            && tail.read(bytes.get(HEAD as usize..).unwrap_or_default());
        Ok((tail, !whole))
    }

    /// Takes in what was written; whether that is all.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let mut entries = Entries::new(bytes, self.generation);
        for entry in entries.by_ref() {
            let mut records = Records::new(entry.records);
            if !records.by_ref().all(|record| self.blobs.push(&record)) || !records.is_whole() {
                return false;
            }
            for (id, number) in entry.producers() {
                self.producers.insert(id, (number, entry.unix_secs));
            }
        }
        entries.is_whole()
    }

    /// Begins the file anew, without a trace of what was in it.
    pub(super) fn begin(&self) -> Result<(), Fault> {
        let begun = self.file.set_len(0);
        let begun = begun.and_then(|()| self.write(&self.head(), 0));
        begun.and_then(|()| self.file.sync_all()).map_err(of_tail)
    }

    /// Makes it another than all before; the file has that once it is begun.
    pub(super) fn mark_anew(&mut self) -> Result<(), Fault> {
        self.mark = Some(random()?);
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        match &self.mark {
            Some(mark) => [&MAGIC[..], mark].concat(),
            None => UNMARKED.to_vec(),
        }
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
        let written = self.write(&self.scratch, self.end);
        written.and_then(|()| self.sync()).map_err(of_tail)?;
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
        store::write_tail(transaction, self.next())
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

    /// What the database is to know of the generation after this one.
    pub(super) fn next(&self) -> Known {
        Known {
            generation: self.generation + 1,
            mark: self.mark,
        }
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

/// Errors name the database; this says that it is not that file.
fn of_tail(error: io::Error) -> Fault {
    Fault::Io(io::Error::new(error.kind(), format!("its tail: {error}")))
}

/// A generation to begin with: at random, so that nothing a worker has published can look like an
/// entry of this file.
fn first_generation() -> Result<u64, Fault> {
    // Far from the end of the numbers.
    Ok(u64::from_be_bytes(random()?) >> 2)
}

fn random<const LEN: usize>() -> Result<[u8; LEN], Fault> {
    let mut bytes = [0; LEN];
    // Up to 256 bytes are given whole.
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| Fault::Io(errno.into()))?;
    Ok(bytes)
}

/// The file of the database at `database`.
pub(super) fn path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".tail");
    name.into()
}
