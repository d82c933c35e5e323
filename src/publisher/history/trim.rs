//! The front of the journal.

use redb::{ReadableTable, WriteTransaction};

use super::error::Fault;
use super::state::State;
use super::store::{JOURNAL, Meta};
use super::{Moment, Options, record};

/// Blobs removed in one call, and their bytes (redb reads what it removes): a few milliseconds.
const SLICE: usize = 2_000;
const SLICE_BYTES: u64 = 8 << 20;

/// It is not looked for what is too old more often than this, microseconds.
pub(super) const TRIM_EVERY: u64 = 10_000_000;

/// Whether the journal has outgrown its bounds by a sixteenth: a full one would else be trimmed, in a
/// transaction, for every group. Where there is a transaction anyway, it is trimmed to its bounds.
pub(super) fn is_due(options: &Options, state: &State) -> bool {
    let beyond = |is: u64, bound: u64| is > bound.saturating_add(bound / 16);
    beyond(state.head + 1 - state.floor, options.max_events)
        || beyond(state.bytes, options.max_bytes)
}

/// Removes whole blobs from the front while the journal is too long, too large or too old.
pub(super) fn trim(
    options: &Options,
    state: &State,
    transaction: &WriteTransaction,
    meta: &Meta,
    now: Moment,
) -> Result<Trimmed, Fault> {
    let max_age = u64::try_from(options.max_age.as_micros()).unwrap_or(u64::MAX);
    let mut trimmed = Trimmed {
        floor: state.floor,
        bytes: state.bytes,
        again_at: u64::MAX,
        more: false,
    };
    let mut journal = transaction.open_table(JOURNAL)?;
    for count in 0.. {
        let Some((first, last, len)) = first_blob(&journal)? else {
            break;
        };
        let events = state.head + 1 - trimmed.floor;
        let expires = last.unix_micros.saturating_add(max_age);
        trimmed.again_at = expires.max(now.unix_micros.saturating_add(TRIM_EVERY));
        let over = events > options.max_events
            || trimmed.bytes > options.max_bytes
            || expires <= now.unix_micros;
        // What is not in the rows yet must stay; so must the newest blob, which proves the head.
        if !over || last.seq > meta.rows_seq || last.seq >= state.head {
            if last.seq >= state.head {
                // Nothing to trim before the next commit.
                trimmed.again_at = u64::MAX;
            }
            break;
        }
        if count >= SLICE || state.bytes - trimmed.bytes >= SLICE_BYTES {
            trimmed.more = true;
            break;
        }
        journal.remove(first)?;
        trimmed.floor = last.seq + 1;
        trimmed.bytes -= len.min(trimmed.bytes);
    }
    Ok(trimmed)
}

/// The journal after trimming.
pub(super) struct Trimmed {
    pub(super) floor: u64,
    pub(super) bytes: u64,
    /// When there is something to trim by age, unix microseconds; see `Chores::trim_at`.
    pub(super) again_at: u64,
    /// Whether it is still beyond its bounds.
    pub(super) more: bool,
}

/// Key, last stamp and length of the oldest blob.
fn first_blob(
    journal: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<(u64, crate::event::Stamp, u64)>, Fault> {
    let Some((first, blob)) = journal.first()? else {
        return Ok(None);
    };
    let last = record::last_stamp(blob.value())
        .ok_or_else(|| Fault::corrupt("a blob of the journal is cut short"))?;
    Ok(Some((first.value(), last, blob.value().len() as u64)))
}
