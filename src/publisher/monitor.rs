//! What a publisher service looks at from time to time: tables of the northbound store, whose
//! differences it publishes; the leases of other publishers; and its own.
//!
//! The decisions are pure ([`table`], [`stale`], [`super::lease`]); one thread runs them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::event::EventBatch;
use crate::store::NbStore;
use crate::util::pulse::Pulse;
use crate::util::stop::stop;
use crate::util::thread::{Ending, Handle, Thread};

use super::lease::Identity;

pub mod stale;
pub mod table;
mod worker;

/// How long the end of the thread is waited for; a store must not block for longer.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

crate::metrics! {
    /// What the monitors count.
    pub struct MonitorMetrics {
        polls_total: Counter = "Looks at a monitored table of the northbound store.",
        polls_failed_total: Counter = "Looks at a table that failed; repeated at the next poll.",
        rows_unsure_total: Counter = "Rows that were listed but could not be read twice; taken as unchanged.",
        changes_published_total: Counter = "Differences handed on to be published.",
        monitored_rows: Gauge = "Rows in the monitored tables.",
        tables_doubted: Gauge = "Monitored tables without any row since the start, of which rows are published; none is ended for that.",
        publishers_removed_total: Counter = "Rows of publishers that were gone; removed.",
        publishers_malformed: Gauge = "Rows of table publisher that make no sense; left alone.",
        lease_renewals_total: Counter = "Renewals of this publisher's lease.",
        lease_failures_total: Counter = "Renewals of the lease that failed; repeated soon.",
        lease_conflicts_total: Counter = "Times another publisher with this one's id was found at work.",
    }
}

/// What of a table is published already; `None` when nobody knows. Asked once per table, before
/// its first differences are found. See [`table::TableMonitor::new`].
pub type Known = Box<dyn FnMut(&str) -> Option<BTreeMap<String, String>> + Send>;

/// What the monitors do.
pub struct MonitorOptions {
    /// The tables whose differences are published. [`crate::store::PUBLISHER_TABLE`] is to be among
    /// them if agents are to discover publishers.
    pub tables: Vec<String>,
    /// Time between two looks; jittered by a tenth, so that publishers do not poll in step.
    pub poll_time: Duration,
    /// Age at which a publisher's lease has run out.
    pub publisher_timeout: Duration,
    /// Who this publisher is.
    pub identity: Identity,
    /// What is published already.
    pub known: Known,
    /// Seed of the jitter; `None` takes one from the system.
    pub seed: Option<u64>,
}

/// The running monitors. Dropping it stops them and waits for them, at most five seconds.
#[derive(Debug)]
pub struct Monitors {
    /// Their thread.
    pub thread: Handle,
    /// Whether it gets on: at work while it waits for the store.
    pub pulse: Arc<Pulse>,
    /// What they count.
    pub metrics: Arc<MonitorMetrics>,
}

impl Monitors {
    /// Starts their thread, which writes the lease and looks at every table at once, and then from
    /// time to time. Differences go to `events`; where it is full the thread waits, and meanwhile
    /// renews the lease but looks at nothing. An error of the store is logged, counted and tried
    /// again; it never ends the thread. Only a stop does, or the end of the receiver.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start(
        options: MonitorOptions,
        store: Arc<dyn NbStore>,
        events: Sender<EventBatch>,
    ) -> io::Result<Self> {
        let metrics = Arc::new(MonitorMetrics::default());
        let (stop, token) = stop()?;
        let pulse = Arc::<Pulse>::default();
        let told = worker::Told {
            metrics: Arc::clone(&metrics),
            pulse: Arc::clone(&pulse),
        };
        let thread = Thread::spawn("monitors", move || {
            worker::Worker::new(options, store, events, told, token).run();
        })?;
        let ending = Ending {
            tell: Box::new(move || drop(stop)),
            within: CLOSE_WITHIN,
            late: "the monitors do not end: the store blocks; left behind",
        };
        Ok(Monitors {
            thread: Handle::new(thread, ending),
            pulse,
            metrics,
        })
    }
}

#[cfg(test)]
mod tests;
