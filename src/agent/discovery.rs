//! Publishers that nobody configured: agents find them by the rows of table `publisher`.
//!
//! [`Discovery`] decides, and is pure. The hub only says which rows changed; [`Desk`], the owner's
//! end, reads their newest state from the hub's replica. So what counts is what the replica holds, in
//! whatever order publishers were heard, and by whatever way the rows came or went.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::pubsub::endpoint::{Defaults, Endpoint};
use crate::store::PublisherRow;
use crate::util::printable;
use crate::util::rate::RateLimit;

pub use desk::{Desk, Hint};
pub(super) use scout::scout;

mod desk;
mod scout;

/// Most publishers that are discovered, unless told otherwise.
pub const MAX_DISCOVERED: usize = 64;

/// Longest key of a row that is looked at, bytes. An id has 32.
pub const MAX_KEY: usize = 256;

/// Shown of foreign text, bytes.
const SHOWN: usize = 200;

crate::metrics! {
    /// What discovery counts.
    pub struct DiscoveryMetrics {
        publishers_discovered: Gauge = "Publishers followed because the table publisher names them.",
        publishers_added_total: Counter = "Publishers added by discovery.",
        publishers_dropped_total: Counter = "Publishers removed by discovery.",
        rows_refused_total: Counter = "Rows of table publisher without an address that can be used; ignored.",
        publishers_over_limit_total: Counter = "Rows of publishers beyond the limit of discovered ones; ignored until there is room.",
        rereads_total: Counter = "Times all rows were read again because more changed than could be noted.",
    }
}

/// What the subscriber is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Follow this publisher.
    Add(Endpoint),
    /// Follow it no longer.
    Remove(Endpoint),
}

/// Which publishers to follow beside those configured, which it never adds or removes.
#[derive(Debug)]
pub struct Discovery {
    defaults: Defaults,
    configured: BTreeSet<String>,
    /// Where each discovered publisher is, by its row's key: a delete does not tell. Two rows may
    /// name one address.
    found: BTreeMap<String, Endpoint>,
    max: usize,
    /// A row was ignored for want of room.
    passed_over: bool,
    limit: RateLimit,
    /// What it counts.
    pub metrics: DiscoveryMetrics,
}

impl Discovery {
    /// Nothing is discovered yet. `defaults` completes addresses; at most `max` are followed.
    pub fn new(defaults: Defaults, configured: &[Endpoint], max: usize) -> Self {
        Discovery {
            defaults,
            configured: configured.iter().map(Endpoint::to_string).collect(),
            found: BTreeMap::new(),
            max,
            passed_over: false,
            limit: RateLimit::new(5, Duration::from_secs(60)),
            metrics: DiscoveryMetrics::default(),
        }
    }

    /// The row `key` was set to `value`. A row that names no usable address is ignored: what was
    /// known of its publisher stays, for it may well be there still.
    pub fn set(&mut self, key: &str, value: &str, now: Instant) -> Vec<Step> {
        let endpoint = match self.endpoint(key, value) {
            Ok(endpoint) => endpoint,
            Err(why) => {
                self.metrics.rows_refused_total.inc();
                if let Some(permit) = self.limit.permit(now) {
                    let key = printable::name(key, SHOWN);
                    let why = printable::text(&why, 2 * SHOWN);
                    log::warn!("row {key} of table publisher is ignored: {why}{permit}");
                }
                return Vec::new();
            }
        };
        if self.found.get(key) == Some(&endpoint) {
            return Vec::new();
        }
        let mut steps = self.delete(key);
        if self.configured.contains(&endpoint.to_string()) {
            return steps;
        }
        if self.found.len() >= self.max {
            self.passed_over = true;
            self.metrics.publishers_over_limit_total.inc();
            if let Some(permit) = self.limit.permit(now) {
                let max = self.max;
                log::error!("{endpoint} is not followed: {max} are discovered already{permit}");
            }
            return steps;
        }
        if !self.follows(&endpoint) {
            steps.push(Step::Add(endpoint.clone()));
            self.metrics.publishers_added_total.inc();
        }
        self.found.insert(key.to_owned(), endpoint);
        self.count();
        steps
    }

    /// The row `key` is gone.
    pub fn delete(&mut self, key: &str) -> Vec<Step> {
        let Some(endpoint) = self.found.remove(key) else {
            return Vec::new();
        };
        self.count();
        if self.follows(&endpoint) {
            return Vec::new();
        }
        self.metrics.publishers_dropped_total.inc();
        vec![Step::Remove(endpoint)]
    }

    /// These are all rows there are.
    pub fn replace<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Instant,
    ) -> Vec<Step> {
        self.passed_over = false;
        let rows: BTreeMap<&str, &str> = rows.into_iter().collect();
        let gone = self
            .found
            .keys()
            .filter(|key| !rows.contains_key(key.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        let mut steps: Vec<Step> = gone.iter().flat_map(|key| self.delete(key)).collect();
        for (key, value) in rows {
            steps.extend(self.set(key, value, now));
        }
        steps
    }

    /// `endpoint` could not be added after all; its rows are as new when they change next.
    pub fn forget(&mut self, endpoint: &Endpoint) {
        self.found.retain(|_, found| found != endpoint);
        self.count();
    }

    /// `endpoint` was added by others before: it is theirs, as a configured one.
    pub fn leave_alone(&mut self, endpoint: &Endpoint) {
        self.configured.insert(endpoint.to_string());
        self.forget(endpoint);
    }

    /// From now on these are configured, and `defaults` completes addresses: those of them that were
    /// discovered are no longer. The rows are to be read again, for one that is no longer configured may be
    /// named by a row, and a row may mean another address.
    pub fn set_configured(&mut self, configured: &[Endpoint], defaults: &Defaults) {
        self.defaults = *defaults;
        self.configured = configured.iter().map(Endpoint::to_string).collect();
        for endpoint in configured {
            self.forget(endpoint);
        }
    }

    /// Whether rows were passed over for want of room and there is room now: then all are to be
    /// read again.
    pub fn has_room_again(&self) -> bool {
        self.passed_over && self.found.len() < self.max
    }

    fn follows(&self, endpoint: &Endpoint) -> bool {
        self.found.values().any(|found| found == endpoint)
    }

    fn count(&self) {
        let count = self.found.len() as u64;
        self.metrics.publishers_discovered.set(count);
    }

    fn endpoint(&self, key: &str, value: &str) -> Result<Endpoint, String> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err("its key is no publisher's id".into());
        }
        let row = PublisherRow::parse(value).ok_or("it is not a JSON object of a publisher")?;
        let uri = row.uri.ok_or("it has no uri")?;
        // Also refuses `*` and 0.0.0.0.
        Endpoint::parse_told(&uri, &self.defaults).map_err(|error| format!("its uri {error}"))
    }
}

#[cfg(test)]
mod tests;
