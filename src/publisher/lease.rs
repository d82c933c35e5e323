//! The publisher's lease: its own row in the table `publisher`.
//!
//! It is renewed at a third of `publisher_timeout`, whatever the traffic, so that two renewals may
//! fail before anyone takes the publisher for gone. On a clean stop the row stays: agents would
//! otherwise drop the publisher, and with it what they know of its sequence, at every restart. If
//! it does not come back, the stale monitors of publishers that share its northbound store remove
//! the row. With a store on each host nobody does: what agents know of it came as an event, and an
//! operator publishes its end on another host (docs/operations.md, Scale).

use std::time::{Duration, Instant};

use crate::store::publisher_row::id_text;
use crate::store::{NbStore, PUBLISHER_TABLE, PublisherRow, StoreError};
use crate::util::printable;
use crate::util::rate::RateLimit;

use super::monitor::MonitorMetrics;

/// Shown of a foreign uri, bytes.
const SHOWN: usize = 200;

/// What the publisher says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id, the row's key.
    pub id: [u8; 16],
    /// Where agents connect to; not a wildcard, which agents refuse.
    pub uri: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// A random number of this process.
    pub instance: u64,
}

/// What the stored row means when it is looked at before a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As we wrote it.
    Ours,
    /// No row: the first start, or somebody removed it. It is written again.
    Absent,
    /// We have not written yet in this life: what stands there is from the one before.
    Former,
    /// It has our id and is not what we wrote: a second publisher with one id is at work.
    Foreign {
        /// The other's address, where it has one.
        uri: Option<String>,
        /// The other's incarnation, where it has one.
        incarnation: Option<u64>,
    },
    /// We wrote it and it cannot be read any more: somebody else wrote nonsense.
    Spoiled,
}

/// The rule and its memory; knows no clock and no store.
#[derive(Debug)]
pub struct Lease {
    identity: Identity,
    key: String,
    written: bool,
}

impl Lease {
    /// A lease that was not written yet.
    pub fn new(identity: Identity) -> Self {
        Lease {
            key: id_text(&identity.id),
            identity,
            written: false,
        }
    }

    /// The row's key: the id as 32 hexadecimal digits.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the stored row means.
    pub fn judge(&self, stored: Option<&str>) -> Finding {
        let Some(value) = stored else {
            return Finding::Absent;
        };
        if !self.written {
            return Finding::Former;
        }
        let Some(row) = PublisherRow::parse(value) else {
            return Finding::Spoiled;
        };
        let ours = row.uri.as_deref() == Some(self.identity.uri.as_str())
            && row.incarnation == Some(self.identity.incarnation)
            && row.instance == Some(self.identity.instance);
        if ours {
            return Finding::Ours;
        }
        Finding::Foreign {
            uri: row.uri,
            incarnation: row.incarnation,
        }
    }

    /// The row's value at `now`, time since the Unix epoch.
    pub fn value(&self, now: Duration) -> String {
        let row = PublisherRow {
            id: Some(self.key.clone()),
            uri: Some(self.identity.uri.clone()),
            // Milliseconds are enough, and keep the text short.
            last_activity_timestamp: Some(now.as_millis() as f64 / 1000.0),
            incarnation: Some(self.identity.incarnation),
            instance: Some(self.identity.instance),
        };
        row.to_json()
    }

    /// The row is in the store.
    pub fn written(&mut self) {
        self.written = true;
    }
}

/// Keeps the lease in a store.
#[derive(Debug)]
pub struct Keeper {
    lease: Lease,
    limit: RateLimit,
}

impl Keeper {
    /// Keeps a lease for `identity`.
    pub fn new(identity: Identity) -> Self {
        Keeper {
            lease: Lease::new(identity),
            limit: RateLimit::new(1, Duration::from_secs(60)),
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Looks at the row, says what is wrong with it, and writes it anew. A second publisher with
    /// our id does not keep us from writing: both then see each other, and both say so.
    ///
    /// # Errors
    /// The store's; to be tried again well before the lease runs out.
    pub fn renew(
        &mut self,
        store: &dyn NbStore,
        metrics: &MonitorMetrics,
        now: Duration,
    ) -> Result<(), StoreError> {
        let stored = store.get(PUBLISHER_TABLE, self.lease.key())?;
        match self.lease.judge(stored.as_deref()) {
            Finding::Ours | Finding::Former => {}
            Finding::Absent => {
                if self.lease.written {
                    log::warn!("the lease of this publisher was removed; it is written again");
                }
            }
            Finding::Spoiled => self.conflict(metrics, "its lease was overwritten"),
            Finding::Foreign { uri, incarnation } => {
                let uri = uri.unwrap_or_default();
                let who = format!(
                    "a second publisher has this id: incarnation {}, uri {}",
                    incarnation.map_or_else(|| "none".to_owned(), |number| number.to_string()),
                    printable::name(&uri, SHOWN)
                );
                self.conflict(metrics, &who);
            }
        }
        store.set(PUBLISHER_TABLE, self.lease.key(), &self.lease.value(now))?;
        self.lease.written();
        metrics.lease_renewals_total.inc();
        Ok(())
    }

    fn conflict(&self, metrics: &MonitorMetrics, what: &str) {
        metrics.lease_conflicts_total.inc();
        if let Some(permit) = self.limit.permit(Instant::now()) {
            log::error!("publisher {}: {what}{permit}", self.lease.key());
        }
    }
}

#[cfg(test)]
mod tests;
