//! Which of two states of an object is the newer one.

use std::cmp::Ordering;

use super::state::State;
use super::{Moment, Outcome};
use crate::event::{Action, Event};

/// What versions are compared with: the higher version wins, and of equal ones the higher content,
/// as in [`crate::replica::Replica::apply`].
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) version: u64,
    deleted: bool,
    value: Option<&'a str>,
}

/// A delete has no value, whatever came with it.
pub(super) fn normal<'a>(event: &Event<'a>) -> Event<'a> {
    Event {
        value: event.value.filter(|_| event.action != Action::Delete),
        ..*event
    }
}

pub(super) fn stored_content<'s>(state: &'s State, table: &str, key: &str) -> Option<Content<'s>> {
    let row = state.rows.get_any(table, key)?;
    Some(Content {
        version: row.stamp?.version,
        deleted: row.is_tombstone(),
        value: row.value.as_deref(),
    })
}

/// What the row would be, or why it stays as it is.
pub(super) fn judge<'a>(
    event: &Event<'a>,
    given: Option<u64>,
    stored: Option<Content<'_>>,
    now: Moment,
) -> Result<Content<'a>, Outcome> {
    let deleted = event.action == Action::Delete;
    let content = |version| Content {
        version,
        deleted,
        value: event.value,
    };
    let Some(stored) = stored else {
        return Ok(content(given.unwrap_or(now.unix_micros)));
    };
    let Some(given) = given else {
        return Ok(content(
            now.unix_micros.max(stored.version.saturating_add(1)),
        ));
    };
    let theirs = (given, deleted, event.value);
    match theirs.cmp(&(stored.version, stored.deleted, stored.value)) {
        Ordering::Greater => Ok(content(given)),
        Ordering::Equal => Err(Outcome::Duplicate),
        Ordering::Less => Err(Outcome::Older {
            known: stored.version,
        }),
    }
}
