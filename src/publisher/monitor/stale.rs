//! Which publishers are gone; pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::store::PublisherRow;
use crate::util::printable;

/// Malformed rows that are remembered as logged. Above that, all are forgotten and may be logged
/// once more.
const MAX_LOGGED: usize = 1024;

/// What a publisher's row says of its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It lives.
    Fresh,
    /// It was last active longer ago than `publisher_timeout`.
    Stale,
    /// It cannot be said: the row is left alone.
    Malformed(&'static str),
}

/// Judges one row by its timestamp. A little in the future is a clock that is ahead and counts as
/// fresh; more than `timeout` is no time at all, or the row could never become stale.
pub fn standing(value: &str, now_unix: Duration, timeout: Duration) -> Standing {
    let Some(row) = PublisherRow::parse(value) else {
        return Standing::Malformed("it is not a JSON object of a publisher");
    };
    let Some(at) = row.last_activity_timestamp else {
        return Standing::Malformed("it has no last_activity_timestamp");
    };
    let age = now_unix.as_secs_f64() - at;
    let timeout = timeout.as_secs_f64();
    if at < 0.0 {
        Standing::Malformed("its last_activity_timestamp is negative")
    } else if age < -timeout {
        Standing::Malformed("its last_activity_timestamp is far in the future")
    } else if age > timeout {
        Standing::Stale
    } else {
        Standing::Fresh
    }
}

/// Finds publishers that are gone.
///
/// A row that was seen to change within the last `publisher_timeout` has a living publisher,
/// whatever time it says: were it not for this, a publisher whose own clock jumps ahead would
/// remove all others at once.
#[derive(Debug)]
pub struct StalePublisherMonitor {
    own: String,
    timeout: Duration,
    /// By key: the value last seen, and when it was last seen to have changed.
    seen: HashMap<String, (String, Option<Instant>)>,
    logged: HashSet<String>,
}

/// What one look at the table leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Keys of rows to remove, with the value that was judged.
    pub stale: Vec<(String, String)>,
    /// How many rows are malformed.
    pub malformed: usize,
}

impl StalePublisherMonitor {
    /// A monitor that never removes the row `own`, its own publisher's.
    pub fn new(own: &str, timeout: Duration) -> Self {
        StalePublisherMonitor {
            own: own.to_owned(),
            timeout,
            seen: HashMap::new(),
            logged: HashSet::new(),
        }
    }

    /// Judges the rows of the table. `now_unix` is since the Unix epoch, `now` is by a clock that
    /// does not jump. A malformed row is logged once, not at each look.
    pub fn observe(
        &mut self,
        rows: &BTreeMap<String, String>,
        now_unix: Duration,
        now: Instant,
    ) -> Verdicts {
        self.seen.retain(|key, _| rows.contains_key(key));
        self.logged.retain(|key| rows.contains_key(key));
        let mut verdicts = Verdicts::default();
        for (key, value) in rows {
            let changed = self.changed(key, value, now);
            if key.eq_ignore_ascii_case(&self.own) {
                continue;
            }
            match standing(value, now_unix, self.timeout) {
                Standing::Malformed(why) => {
                    verdicts.malformed += 1;
                    self.tell(key, why);
                    continue;
                }
                Standing::Stale => {
                    let alive =
                        changed.is_some_and(|at| now.saturating_duration_since(at) <= self.timeout);
                    if !alive {
                        verdicts.stale.push((key.clone(), value.clone()));
                    }
                }
                Standing::Fresh => {}
            }
            self.logged.remove(key);
        }
        verdicts
    }

    /// When the row was last seen to change.
    fn changed(&mut self, key: &str, value: &str, now: Instant) -> Option<Instant> {
        match self.seen.get_mut(key) {
            None => {
                self.seen.insert(key.to_owned(), (value.to_owned(), None));
                None
            }
            Some((old, at)) => {
                if old != value {
                    value.clone_into(old);
                    *at = Some(now);
                }
                *at
            }
        }
    }

    fn tell(&mut self, key: &str, why: &str) {
        if self.logged.contains(key) {
            return;
        }
        if self.logged.len() >= MAX_LOGGED {
            self.logged.clear();
        }
        self.logged.insert(key.to_owned());
        let key = printable::name(key, 100);
        log::warn!("row {key} of table publisher is left alone: {why}");
    }
}

#[cfg(test)]
mod tests;
