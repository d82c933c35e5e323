//! Current rows and topics to the database.

use redb::WriteTransaction;

use super::error::Fault;
use super::record;
use super::rows;
use super::state::State;
use super::store::{ROWS, TOPICS, row_key};
use crate::event::{Stamp, codec};
use crate::replica::RowKey;

/// Names of the rows that changed since they were last written.
pub(super) fn dirty_rows(state: &State) -> Vec<RowKey> {
    let (id, since) = (state.meta.id, state.meta.rows_seq);
    let changed = |stamp: Stamp| stamp.publisher == id && stamp.seq > since;
    let mut names = state.rows.keys_any(|row| row.stamp.is_none_or(changed));
    names.extend(state.peers.dirty.iter().cloned());
    names
}

/// Writes all rows and topics that changed since the last time.
pub(super) fn write_all_rows(transaction: &WriteTransaction, state: &State) -> Result<(), Fault> {
    write_rows(transaction, state, &dirty_rows(state))?;
    write_topics(transaction, state)
}

/// Writes the rows as they are now; those that are no more are removed.
pub(super) fn write_rows(
    transaction: &WriteTransaction,
    state: &State,
    names: &[RowKey],
) -> Result<(), Fault> {
    let mut table = transaction.open_table(ROWS)?;
    let (mut key, mut payload, mut value) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        row_key(&name.table, &name.key, &mut key);
        let Some(row) = state.rows.get_any(&name.table, &name.key) else {
            table.remove(key.as_slice())?;
            continue;
        };
        codec::encode(&rows::event(name, row), &mut payload);
        value.clear();
        if record::push(&row.topic, &payload, &mut value) {
            table.insert(key.as_slice(), value.as_slice())?;
        }
    }
    Ok(())
}

pub(super) fn write_topics(transaction: &WriteTransaction, state: &State) -> Result<(), Fault> {
    let mut table = transaction.open_table(TOPICS)?;
    let since = state.meta.rows_seq;
    for (topic, seq) in state.heads.iter().filter(|(_, seq)| **seq > since) {
        table.insert(&**topic, *seq)?;
    }
    Ok(())
}
