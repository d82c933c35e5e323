//! The monitors' thread: when what is looked at, and where it goes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, Sender, at, select};

use super::stale::StalePublisherMonitor;
use super::table::{Change, Rows, TableMonitor};
use super::{MonitorMetrics, MonitorOptions};
use crate::event::EventBatch;
use crate::publisher::lease::Keeper;
use crate::store::{NbStore, PUBLISHER_TABLE, StoreError};
use crate::util::printable;
use crate::util::pulse::Pulse;
use crate::util::rate::RateLimit;
use crate::util::stop::StopToken;

/// Most events in a batch.
const BATCH_EVENTS: usize = 256;

/// Text at which a batch is full, bytes.
const BATCH_BYTES: usize = 256 << 10;

/// The thread is to end.
struct Ended;

/// By what others see how the thread fares.
pub struct Told {
    pub metrics: Arc<MonitorMetrics>,
    pub pulse: Arc<Pulse>,
}

pub struct Worker {
    options: MonitorOptions,
    store: Arc<dyn NbStore>,
    events: Sender<EventBatch>,
    metrics: Arc<MonitorMetrics>,
    pulse: Arc<Pulse>,
    stop: StopToken,
    keeper: Keeper,
    stale: StalePublisherMonitor,
    /// By table; `None` before its first successful look.
    monitors: Vec<(String, Option<TableMonitor>)>,
    lease_due: Instant,
    limit: RateLimit,
    rng: fastrand::Rng,
}

impl Worker {
    pub fn new(
        options: MonitorOptions,
        store: Arc<dyn NbStore>,
        events: Sender<EventBatch>,
        told: Told,
        stop: StopToken,
    ) -> Self {
        let Told { metrics, pulse } = told;
        let keeper = Keeper::new(options.identity.clone());
        let mut monitors: Vec<(String, Option<TableMonitor>)> = Vec::new();
        for table in &options.tables {
            if !table.is_empty() && monitors.iter().all(|(known, _)| known != table) {
                monitors.push((table.clone(), None));
            }
        }
        Worker {
            stale: StalePublisherMonitor::new(keeper.lease().key(), options.publisher_timeout),
            rng: options
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            limit: RateLimit::new(2, Duration::from_secs(60)),
            lease_due: Instant::now(),
            keeper,
            monitors,
            options,
            store,
            events,
            metrics,
            pulse,
            stop,
        }
    }

    /// Runs until the stop.
    pub fn run(mut self) {
        let mut poll_due = Instant::now();
        loop {
            self.renew_if_due();
            if Instant::now() >= poll_due {
                if self.poll().is_err() {
                    return;
                }
                let jitter = 0.9 + 0.2 * self.rng.f64();
                poll_due = Instant::now() + self.options.poll_time.mul_f64(jitter);
            }
            let wake = poll_due.min(self.lease_due);
            self.pulse.rest();
            match self.stop.receiver().recv_deadline(wake) {
                Err(RecvTimeoutError::Timeout) | Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn renew_if_due(&mut self) {
        self.pulse.beat();
        if Instant::now() < self.lease_due {
            return;
        }
        let renewed = self
            .keeper
            .renew(self.store.as_ref(), &self.metrics, unix_now());
        let timeout = self.options.publisher_timeout;
        self.lease_due = Instant::now()
            + match renewed {
                Ok(()) => timeout / 3,
                Err(error) => {
                    self.metrics.lease_failures_total.inc();
                    self.complain("the lease is not renewed", &error);
                    // Often enough before it runs out.
                    timeout / 12
                }
            };
    }

    /// Looks at everything once.
    fn poll(&mut self) -> Result<(), Ended> {
        self.remove_stale();
        let mut doubted = 0;
        for place in 0..self.monitors.len() {
            // Between two tables, since each may take its time.
            if self.stop.is_stopped() {
                return Err(Ended);
            }
            self.renew_if_due();
            let Some((table, monitor)) = self.monitors.get_mut(place) else {
                continue;
            };
            let table = table.clone();
            self.metrics.polls_total.inc();
            self.pulse.beat();
            let look = Rows::read(self.store.as_ref(), &table);
            let changes = match look {
                Ok(rows) => {
                    self.metrics.rows_unsure_total.add(rows.unsure.len() as u64);
                    let known = &mut self.options.known;
                    let monitor = monitor.get_or_insert_with(|| TableMonitor::new(known(&table)));
                    if monitor.doubts(&rows) {
                        doubted += 1;
                        if let Some(permit) = self.limit.permit(Instant::now()) {
                            log::error!(
                                "table {}: the northbound store has no row of it, and {} are published: \
                                 they stay until it has one; is it the store that belongs to this \
                                 state_dir?{permit}",
                                printable::name(&table, 100),
                                monitor.len()
                            );
                        }
                    }
                    monitor.observe(Ok(rows))
                }
                Err(error) => {
                    self.metrics.polls_failed_total.inc();
                    let name = printable::name(&table, 100);
                    self.complain(&format!("table {name} is not read"), &error);
                    continue;
                }
            };
            self.publish(&table, &changes)?;
        }
        let rows: usize = self
            .monitors
            .iter()
            .map(|(_, m)| m.as_ref().map_or(0, TableMonitor::len))
            .sum();
        self.metrics.monitored_rows.set(rows as u64);
        self.metrics.tables_doubted.set(doubted);
        Ok(())
    }

    fn remove_stale(&mut self) {
        self.pulse.beat();
        let rows = match Rows::read(self.store.as_ref(), PUBLISHER_TABLE) {
            Ok(seen) => seen.rows,
            Err(error) => {
                self.metrics.polls_failed_total.inc();
                return self.complain("the leases of publishers are not read", &error);
            }
        };
        let verdicts = self.stale.observe(&rows, unix_now(), Instant::now());
        self.metrics
            .publishers_malformed
            .set(verdicts.malformed as u64);
        for (key, judged) in verdicts.stale {
            match self.remove(&key, &judged) {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.publishers_removed_total.inc();
                    let key = printable::name(&key, 100);
                    log::warn!("publisher {key} has not renewed its lease in time; removed");
                }
                Err(error) => self.complain("a stale publisher is not removed", &error),
            }
        }
    }

    /// Removes a row that is still what was judged. What is renewed at this very moment may be
    /// removed all the same; its publisher then writes it again at its next renewal.
    fn remove(&self, key: &str, judged: &str) -> Result<bool, StoreError> {
        self.pulse.beat();
        if self.store.get(PUBLISHER_TABLE, key)?.as_deref() != Some(judged) {
            return Ok(false);
        }
        self.store.delete(PUBLISHER_TABLE, key)
    }

    fn publish(&mut self, table: &str, changes: &[Change]) -> Result<(), Ended> {
        let mut batch = EventBatch::new();
        for change in changes {
            let event = change.event(table);
            if batch.len() >= BATCH_EVENTS || batch.text_len() >= BATCH_BYTES {
                self.send(std::mem::take(&mut batch))?;
            }
            batch.push(&event);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.send(batch)
    }

    /// Hands a batch on; waits for room, but not longer than until the stop, and keeps the lease.
    fn send(&mut self, batch: EventBatch) -> Result<(), Ended> {
        let count = batch.len() as u64;
        loop {
            self.renew_if_due();
            let due = at(self.lease_due);
            self.pulse.rest();
            select! {
                send(self.events, batch) -> sent => {
                    if sent.is_err() {
                        log::error!("nobody takes the monitors' events any more: they end");
                        return Err(Ended);
                    }
                    self.metrics.changes_published_total.add(count);
                    return Ok(());
                }
                recv(self.stop.receiver()) -> _ => return Err(Ended),
                recv(due) -> _ => {}
            }
        }
    }

    fn complain(&self, what: &str, error: &StoreError) {
        if let Some(permit) = self.limit.permit(Instant::now()) {
            log::warn!("{what}, which is tried again: {error}{permit}");
        }
    }
}

/// Time since the Unix epoch; none where the clock is before it.
fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
