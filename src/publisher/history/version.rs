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
    /// Where it stands; no part of the comparison.
    topic: &'a str,
    /// Whether it is of this publisher; no part of the comparison.
    ours: bool,
}

impl<'a> Content<'a> {
    /// The topic that an object in this state leaves when it next stands on `topic`.
    pub(super) fn leaves(&self, topic: &str) -> Option<&'a str> {
        (!self.deleted && self.topic != topic).then_some(self.topic)
    }

    /// The highest version that this state, which follows one of version `before`, is newer than. A delete
    /// may have the version of what it ends: then that of both.
    pub(super) fn above(&self, before: u64) -> u64 {
        before.max(self.version.saturating_sub(1))
    }
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
        topic: &row.topic,
        // One of a life that is not vouched for came back from another publisher.
        ours: row.stamp.is_some_and(|stamp| {
            stamp.publisher == state.meta.id && stamp.incarnation >= state.meta.complete_since
        }),
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
        topic: event.topic_or_all(),
        ours: true,
    };
    let Some(stored) = stored else {
        return Ok(content(given.unwrap_or(now.unix_micros)));
    };
    let Some(given) = given else {
        // Another publisher's delete may be of an object that left a topic: the version above it is then
        // that of the state that followed, which was not heard yet.
        let above = if stored.deleted && !stored.ours { 2 } else { 1 };
        // Another publisher's row, or one of an older journal, may have the highest number of all.
        return match stored.version.checked_add(above) {
            Some(next) => Ok(content(now.unix_micros.max(next))),
            None => Err(Outcome::Older {
                known: stored.version,
            }),
        };
    };
    let theirs = (given, deleted, event.value);
    if !deleted && given == stored.version && stored.leaves(event.topic_or_all()).is_some() {
        // The old topic's subscribers could be told only with a version that takes the object from
        // the new topic's as well. With the same value, too, it is not done: it stays where it is.
        return Err(Outcome::Older { known: given });
    }
    match theirs.cmp(&(stored.version, stored.deleted, stored.value)) {
        Ordering::Greater => Ok(content(given)),
        // What only another publisher has promised to keep is not acknowledged as done.
        Ordering::Equal if !stored.ours => Ok(content(given)),
        Ordering::Equal => Err(Outcome::Duplicate),
        Ordering::Less => Err(Outcome::Older {
            known: stored.version,
        }),
    }
}
