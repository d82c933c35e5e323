//! The database: its tables and what stands in them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, ReadableTable, TableDefinition, WriteTransaction};

use super::backend::{Backend, SyncSwitch};
use super::error::Fault;
use super::tail::Known;
use super::{Durability, PublisherId, record};

/// First seq of a blob → its records: a part of a large group, or many small ones.
pub(super) const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
/// Length of the table's name u32 | table | key → the record of the row's last event. Complete up
/// to `Meta::rows_seq`; rows changed since then may or may not be newer.
pub(super) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Topic → seq of its last event, complete up to `Meta::rows_seq`.
pub(super) const TOPICS: TableDefinition<'_, &str, u64> = TableDefinition::new("topics");
/// Producer → its last number and when it was heard, unix seconds.
pub(super) const PRODUCERS: TableDefinition<'_, [u8; 16], (u64, u64)> =
    TableDefinition::new("producers");
/// The encoded [`Meta`], beside it what later versions know more, and where the database was when it
/// was opened last.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Keys of [`META`]. The first versions had only one; where the others are missing, the publisher
/// vouches for nothing before now, and takes the database for its own.
const META_KEY: &str = "fanfare";
const COMPLETE_SINCE: &str = "complete_since";
/// See `identity::place`.
const PLACE_KEY: &str = "place";
/// The generation of the tail; see `tail`. It only rises.
const TAIL_KEY: &str = "tail";
/// Its mark; see `tail`. Missing while the tail is still one that was begun before there were marks.
pub(super) const MARK_KEY: &str = "tail_mark";
/// The layout of all tables. A database of a higher one is refused, not moved aside. The first one
/// knew no tail, and would have gone on without what stands in it.
const FORMAT: u32 = 2;
const FIRST_FORMAT: u32 = 1;
const META_LEN: usize = 4 + 16 + 4 * 8 + 16 + 3;

/// redb's page cache. Everything that is read often is held by the history itself.
const CACHE_BYTES: usize = 8 << 20;

/// What is known about the database as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) id: PublisherId,
    pub(super) incarnation: u64,
    /// The seq before the first one of an empty journal.
    pub(super) base: u64,
    /// See `History::complete_since`.
    pub(super) complete_since: u64,
    /// Position in the journal up to which `rows` and `topics` are complete.
    pub(super) rows_seq: u64,
    /// The highest seq of a topic that was forgotten; see `State::forgotten`.
    pub(super) forgotten: u64,
    /// The boot in which it was written.
    pub(super) boot: Option<[u8; 16]>,
    /// How it was written.
    pub(super) durability: Durability,
    /// Whether it was closed, and nothing has happened since.
    pub(super) clean: bool,
}

impl Meta {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_LEN);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&self.id);
        for number in [self.incarnation, self.base, self.rows_seq, self.forgotten] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.boot.unwrap_or_default());
        out.push(self.boot.is_some().into());
        out.push((self.durability == Durability::Sync).into());
        out.push(self.clean.into());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let odd = || Fault::corrupt("its meta entry has an unknown form");
        let (format, rest) = bytes.split_first_chunk::<4>().ok_or_else(odd)?;
        match u32::from_be_bytes(*format) {
            FIRST_FORMAT..=FORMAT => {}
            newer if newer > FORMAT => return Err(Fault::Newer(newer)),
            _ => return Err(odd()),
        }
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(odd)?;
        let (numbers, rest) = rest.split_first_chunk::<32>().ok_or_else(odd)?;
        let (boot, flags) = rest.split_first_chunk::<16>().ok_or_else(odd)?;
        let &[known, sync, clean] = flags else {
            return Err(odd());
        };
        let (numbers, _) = numbers.as_chunks::<8>();
        let number = |index: usize| u64::from_be_bytes(numbers[index]);
        Ok(Meta {
            id: *id,
            incarnation: number(0),
            complete_since: number(0),
            base: number(1),
            rows_seq: number(2),
            forgotten: number(3),
            boot: (known == 1).then_some(*boot),
            durability: match sync {
                1 => Durability::Sync,
                _ => Durability::Os,
            },
            clean: clean == 1,
        })
    }

    /// Reads the entry; `None` in a database in which none was ever written.
    pub(super) fn read(transaction: &WriteTransaction) -> Result<Option<Self>, Fault> {
        let table = transaction.open_table(META)?;
        let Some(entry) = table.get(META_KEY)? else {
            return Ok(None);
        };
        let mut meta = Meta::from_bytes(entry.value())?;
        if let Some(entry) = table.get(COMPLETE_SINCE)? {
            let bytes = entry.value().try_into();
            let bytes =
                bytes.map_err(|_| Fault::corrupt("since when it is complete is unknown"))?;
            meta.complete_since = u64::from_be_bytes(bytes);
        }
        Ok(Some(meta))
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Fault> {
        let mut table = transaction.open_table(META)?;
        table.insert(META_KEY, self.to_bytes().as_slice())?;
        table.insert(COMPLETE_SINCE, &self.complete_since.to_be_bytes()[..])?;
        Ok(())
    }
}

/// Where the database was; `None` when it was never noted.
pub(super) fn read_place(transaction: &WriteTransaction) -> Result<Option<Vec<u8>>, Fault> {
    let table = transaction.open_table(META)?;
    let entry = redb::ReadableTable::get(&table, PLACE_KEY)?;
    Ok(entry.map(|entry| entry.value().to_vec()))
}

/// Notes where the database is.
pub(super) fn write_place(transaction: &WriteTransaction, place: &[u8]) -> Result<(), Fault> {
    let mut table = transaction.open_table(META)?;
    table.insert(PLACE_KEY, place)?;
    Ok(())
}

/// What is known of the tail that goes with the database; `None` where there was never one. After a
/// clean end it needs none.
pub(super) fn read_tail(transaction: &WriteTransaction) -> Result<Option<Known>, Fault> {
    let table = transaction.open_table(META)?;
    let odd = || Fault::corrupt("which tail goes with it is unknown");
    let Some(entry) = redb::ReadableTable::get(&table, TAIL_KEY)? else {
        return Ok(None);
    };
    let generation = entry.value().try_into().map_err(|_| odd())?;
    let mark = match redb::ReadableTable::get(&table, MARK_KEY)? {
        Some(entry) => Some(entry.value().try_into().map_err(|_| odd())?),
        None => None,
    };
    Ok(Some(Known {
        generation: u64::from_be_bytes(generation),
        mark,
    }))
}

/// Notes which tail goes with the database.
pub(super) fn write_tail(transaction: &WriteTransaction, known: Known) -> Result<(), Fault> {
    let mut table = transaction.open_table(META)?;
    table.insert(TAIL_KEY, &known.generation.to_be_bytes()[..])?;
    if let Some(mark) = &known.mark {
        table.insert(MARK_KEY, &mark[..])?;
    }
    Ok(())
}

/// The seq of the last event in the journal.
pub(super) fn journal_head(transaction: &WriteTransaction) -> Result<Option<u64>, Fault> {
    let journal = transaction.open_table(JOURNAL)?;
    let Some((_, blob)) = journal.last()? else {
        return Ok(None);
    };
    let last = record::last_stamp(blob.value())
        .ok_or_else(|| Fault::corrupt("the last blob of the journal is cut short"))?;
    Ok(Some(last.seq))
}

/// The key of a row in [`ROWS`].
pub(super) fn row_key(table: &str, key: &str, out: &mut Vec<u8>) {
    out.clear();
    // A length before the name, not a mark after it: names may hold any byte.
    out.extend_from_slice(&u32::try_from(table.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(table.as_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// Opens the database, or makes an empty one. The file is locked for as long as it is open.
pub(super) fn open(
    path: &Path,
    sync: &SyncSwitch,
    drop_cache: bool,
    #[cfg(test)] faults: super::tests::faults::Faults,
) -> Result<Database, Fault> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Fault::Io)?;
    if drop_cache {
        forget_pages(&file, path);
    }
    let backend = Backend::new(
        file,
        sync.clone(),
        #[cfg(test)]
        faults,
    )?;
    unpanicked(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        Ok(builder.create_with_backend(backend)?)
    })
}

/// After a failed fsync the kernel holds pages that it believes are on the disk and that are not.
/// Reading them again from the disk lets be seen what is whole.
pub(super) fn forget_pages(file: &File, path: &Path) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed) {
        log::debug!("{}: fadvise: {error}", path.display());
    }
}

/// Runs `work` on a database that may be damaged: redb checks what it reads, but says itself that
/// an altered file may make it panic. That is damage found, not the end of the service.
pub(super) fn unpanicked<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::corrupt("reading it ended in a panic")))
}
