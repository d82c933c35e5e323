//! Opening: read what is there, decide whether it goes on without a break, say so durably.

use std::path::Path;

use super::aside;
use super::backend::SyncSwitch;
use super::disk::Disk;
use super::error::Fault;
use super::record::Records;
use super::state::State;
use super::store::{self, JOURNAL, Meta};
use super::tail::Tail;
use super::{Durability, History, HistoryError, Moment, Options, flush, identity};

/// How far seq leaps when the incarnation rises on kept rows: numbers that were given away and lost
/// with the end of the journal are never given a second time, so that an agent's old position
/// cannot be taken for a new one.
const LEAP: u64 = 1 << 40;

/// What an earlier life in this process has proved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    /// The incarnation it used.
    pub(super) incarnation: u64,
    /// The last seq it gave away.
    pub(super) head: u64,
    /// Whether a write failed since, so that the kernel's copy of the file is not to be trusted.
    pub(super) failed: bool,
    /// Whether the file is another than the one that was written: a copy, or a backup.
    pub(super) copied: bool,
    /// Whether the tail may lack what was written last.
    pub(super) lost: bool,
}

/// Opens the database at `options.path` and reads it.
pub(super) fn open(
    options: &Options,
    sync: &SyncSwitch,
    now: Moment,
    past: Past,
) -> Result<(Disk, State), HistoryError> {
    let path = &options.path;
    // Whatever the setting, what an opening decides is on the disk before anything is sent.
    sync.set(true);
    let opened = match attempt(options, sync, now, past) {
        Err(Fault::Corrupt(what)) => {
            let aside = aside::take(path, aside::DAMAGED, now)?;
            log::error!(
                "{}: {what}; moved to {}, starting a new history without rows",
                path.display(),
                aside.display()
            );
            attempt(options, sync, now, past).map_err(|fault| fault.at(path))?
        }
        other => other.map_err(|fault| fault.at(path))?,
    };
    let (disk, mut state) = match opened {
        Opened::Ours(both) => *both,
        Opened::OfAnother(kept) => {
            let aside = aside::take(path, aside::OF_ANOTHER, now)?;
            log::warn!(
                "{}: belongs to publisher {}; moved to {}, starting a new history",
                path.display(),
                hex(&kept),
                aside.display()
            );
            match attempt(options, sync, now, past).map_err(|fault| fault.at(path))? {
                Opened::Ours(both) => *both,
                Opened::OfAnother(_) => {
                    return Err(Fault::corrupt("its id changed while opening").at(path));
                }
            }
        }
    };
    state.begun_anew = aside::has_damaged(path).map_err(|fault| fault.at(path))?;
    sync.set(options.durability == Durability::Sync);
    Ok((disk, state))
}

enum Opened {
    Ours(Box<(Disk, State)>),
    OfAnother([u8; 16]),
}

fn attempt(options: &Options, sync: &SyncSwitch, now: Moment, past: Past) -> Result<Opened, Fault> {
    let drop_cache = past.failed && options.durability == Durability::Sync;
    let database = store::open(
        &options.path,
        sync,
        drop_cache,
        #[cfg(test)]
        options.faults.clone(),
    )?;
    let here = identity::place(&options.path)?;
    let read = store::unpanicked(|| {
        let transaction = database.begin_write()?;
        let kept = Meta::read(&transaction)?;
        if let (Some(kept), Some(id)) = (&kept, options.id)
            && kept.id != id
        {
            transaction.abort()?;
            return Ok(Err(kept.id));
        }
        let noted = store::read_place(&transaction)?;
        let moved = noted.is_some_and(|noted| !identity::is_there(&noted, &here));
        let past = Past {
            copied: options.notice_copies && moved,
            ..past
        };
        let (mut tail, lost) = open_tail(&transaction, kept.as_ref(), options, drop_cache)?;
        let past = Past { lost, ..past };
        let mut state = match kept {
            Some(kept) => resume(&transaction, kept, options, now, past)?,
            None => State::new(first(options, now, past)?),
        };
        state.copied = past.copied;
        store::write_place(&transaction, &here)?;
        state.meta.clean = false;
        state.meta.boot = options.boot;
        state.meta.durability = options.durability;
        state.meta.write(&transaction)?;
        store::write_tail(&transaction, tail.next())?;
        transaction.commit()?;
        tail.restart();
        if lost {
            tail.begin()?;
        }
        Ok(Ok((tail, state)))
    })?;
    Ok(match read {
        Ok((tail, state)) => Opened::Ours(Box::new((Disk { database, tail }, state))),
        Err(kept) => Opened::OfAnother(kept),
    })
}

/// Opens the tail and brings it to the database, where it is read like all the rest. Also gives
/// whether its end may be lost.
fn open_tail(
    transaction: &redb::WriteTransaction,
    kept: Option<&Meta>,
    options: &Options,
    drop_cache: bool,
) -> Result<(Tail, bool), Fault> {
    let known = store::read_tail(transaction)?;
    let needed = known.is_some() && kept.is_some_and(|kept| !kept.clean);
    let (mut tail, mut lost) = Tail::open(options, known, needed, drop_cache)?;
    // Both names: the database says from now on that there is a tail.
    sync_folder(&options.path)?;
    let blob = tail.blobs().iter().next();
    let first = blob.and_then(|(_, blob)| Records::new(blob).next());
    if let (Some(first), Some(kept)) = (first, kept) {
        let head = store::journal_head(transaction)?.unwrap_or(kept.base);
        let stamp = first.stamp;
        let next = (kept.id, kept.incarnation, head + 1);
        if (stamp.publisher, stamp.incarnation, stamp.seq) != next {
            // It is another's, as when one of the two was restored.
            tail.discard();
            lost = true;
        }
    }
    if lost {
        tail.mark_anew()?;
    }
    tail.store(transaction)?;
    Ok((tail, lost))
}

/// A history that begins now.
fn first(options: &Options, now: Moment, past: Past) -> Result<Meta, Fault> {
    let id = match options.id {
        Some(id) => id,
        None => identity::own_id(&options.path)?,
    };
    let incarnation = (now.unix_micros / 1000).max(past.incarnation + 1);
    Ok(Meta {
        id,
        incarnation,
        complete_since: incarnation,
        base: past.head,
        rows_seq: past.head,
        forgotten: past.head,
        boot: options.boot,
        durability: options.durability,
        clean: false,
    })
}

/// Reads a kept history. Everything that was sent had been journalled before, so it goes on where
/// the journal ends, if the journal is known to have kept its end.
fn resume(
    transaction: &redb::WriteTransaction,
    kept: Meta,
    options: &Options,
    now: Moment,
    past: Past,
) -> Result<State, Fault> {
    let same_boot = kept.boot.is_some() && kept.boot == options.boot;
    let whole = kept.clean || kept.durability == Durability::Sync || same_boot;
    let mut state = State::load(transaction, kept, now)?;
    // A commit that was acknowledged earlier in this process must be there, whatever the disk said.
    if whole && state.head >= past.head && !past.copied && !past.lost {
        return Ok(state);
    }
    let (was, head) = (state.meta.incarnation, state.head.max(past.head));
    flush::write_all_rows(transaction, &state)?;
    transaction.open_table(JOURNAL)?.retain(|_, _| false)?;
    let meta = &mut state.meta;
    meta.incarnation = (now.unix_micros / 1000).max(was.max(past.incarnation) + 1);
    // Rows of the lost end may be out there that are not known here.
    meta.complete_since = meta.incarnation;
    meta.base = head + LEAP;
    meta.rows_seq = meta.base;
    state.index.emptied();
    (state.head, state.floor, state.bytes) = (meta.base, meta.base + 1, 0);
    let (path, id, new) = (options.path.display(), hex(&meta.id), meta.incarnation);
    match past.copied {
        false => log::warn!(
            "{path}: the end of the journal may be lost; incarnation rises from {was} to {new}"
        ),
        true => log::error!(
            "{path}: this is a copy, or was restored from one; incarnation rises from {was} to \
             {new}. If the original still publishes, two publishers now have the id {id}: stop \
             this one and set publisher_id"
        ),
    }
    Ok(state)
}

impl History {
    /// Opens the history at `options.path`, or begins one. Id, incarnation and that the end was not
    /// clean are on the disk when this returns. Takes time in proportion to the journal: about a
    /// second per GiB after an unclean end, as redb then verifies all its pages.
    pub fn open(options: Options, now: Moment) -> Result<Self, HistoryError> {
        let sync = SyncSwitch::new(true);
        let (disk, state) = open(&options, &sync, now, Past::default())?;
        if state.begun_anew {
            log::warn!(
                "{path}: begun anew after a damaged one; not authoritative until {path}.{}-* is moved \
                 away and this is started again",
                aside::DAMAGED,
                path = options.path.display(),
            );
        }
        Ok(History::with(options, sync, disk, state, now))
    }
}

/// Makes the files' names as durable as their contents.
fn sync_folder(path: &Path) -> Result<(), Fault> {
    let folder = std::fs::File::open(aside::folder(path)).map_err(Fault::Io)?;
    folder.sync_all().map_err(Fault::Io)
}

fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}
