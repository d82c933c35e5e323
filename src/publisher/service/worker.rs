//! The service's thread: groups are taken, journalled, sent and answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use fastrand::Rng;

use super::network::{Network, Rights};
use super::stall::Stall;
use super::{Parts, ServiceMetrics};
use crate::event::EventBatch;
use crate::publisher::audience::Audience;
use crate::publisher::group::{Group, Rules};
use crate::publisher::heartbeat::Heartbeat;
use crate::publisher::history::{History, HistoryError, Moment, Outcome, Replay};
use crate::publisher::peers::{Inbox, PeersMetrics};
use crate::publisher::reach::Reach;
use crate::publisher::requests::Submitted;
use crate::publisher::submit::Reply;
use crate::publisher::sync::Asked;
use crate::util::pulse::Pulse;
use crate::util::rate::RateLimit;

/// Events in one commit, at most about this many, or this many bytes.
const GROUP_EVENTS: usize = 4096;
const GROUP_BYTES: usize = 2 << 20;

/// How long subscriptions wait after a slice of them: whoever asks without end takes a part of the time, not
/// all of it, and the processor is there for others too.
const REST: Duration = Duration::from_millis(1);

/// How often subscriptions are read and the journal is looked after, with or without events.
const TICK: Duration = Duration::from_millis(100);

/// How often it is tried to bind the address again after all connections were cut.
const REBIND: Duration = Duration::from_millis(5);

/// How long questions of the sync service are answered before events are looked at again. Each
/// takes about a millisecond at most.
const ASKS: Duration = Duration::from_millis(1);

/// Lines of one kind in the log. Each kind has its own, so that one does not silence another.
const fn complaints() -> RateLimit {
    RateLimit::new(5, Duration::from_secs(10))
}

pub(super) struct Worker {
    network: Network,
    pub(super) history: History,
    pushed: Receiver<EventBatch>,
    submitted: Receiver<Submitted>,
    monitored: Receiver<EventBatch>,
    asks: Receiver<Asked>,
    peers: Inbox,
    stopped: Receiver<Instant>,
    rules: Rules,
    metrics: Arc<ServiceMetrics>,
    reach: Arc<Reach>,
    pulse: Arc<Pulse>,
    group: Group,
    stall: Stall,
    failures: RateLimit,
    resumptions: RateLimit,
    left_out: RateLimit,
}

impl Worker {
    pub(super) fn new(
        parts: Parts,
        stopped: Receiver<Instant>,
        metrics: Arc<ServiceMetrics>,
        peers: Arc<PeersMetrics>,
        audience: Arc<Audience>,
        reach: Arc<Reach>,
        pulse: Arc<Pulse>,
    ) -> Self {
        let heartbeat = Heartbeat::new(parts.hello_interval, parts.max_idle_time, Instant::now());
        let worker = Worker {
            network: Network::new(
                parts.publisher,
                parts.sync_endpoint,
                heartbeat,
                Arc::clone(&metrics),
                audience,
                complaints(),
                Rights {
                    cuts: parts.cuts,
                    permits: parts.permits,
                },
            ),
            history: parts.history,
            pushed: parts.pushed,
            submitted: parts.submitted,
            monitored: parts.monitored,
            asks: parts.asks,
            peers: Inbox::new(parts.heard, peers),
            stopped,
            rules: parts.rules,
            metrics,
            reach,
            pulse,
            group: Group::default(),
            stall: Stall::new(Rng::new()),
            failures: complaints(),
            resumptions: complaints(),
            left_out: complaints(),
        };
        worker.reached();
        worker
    }

    pub(super) fn run(mut self) {
        let deadline = loop {
            self.pulse.rest();
            let deadline = self.wait();
            self.pulse.beat();
            if let Some(deadline) = deadline {
                break deadline;
            }
            self.fill();
            self.commit();
            self.peers.turn(&mut self.history);
            self.answer_asks();
            self.tick();
        };
        self.finish(deadline);
        self.network.hello(&self.history, Instant::now());
        self.measure();
        self.network.close();
        match self.history.close() {
            Ok(()) => log::info!("journal closed in order"),
            Err(error) => log::error!("journal not closed in order: {error}"),
        }
    }

    /// Publishes what workers and monitors have left. A quarter of the time is kept for closing.
    pub(super) fn finish(&mut self, deadline: Instant) {
        let last = deadline - deadline.saturating_duration_since(Instant::now()) / 4;
        // They hold what they submitted, and would submit for ever.
        let submitted = std::mem::replace(&mut self.submitted, never());
        self.stall.hurry(Instant::now());
        // While nothing is accepted nothing is taken either, and they wait in their queues.
        while self.fill() || self.has_left() {
            let now = Instant::now();
            match self.stall.until() {
                Some(until) if until > last => break,
                Some(until) => std::thread::sleep(until.saturating_duration_since(now)),
                None if now >= last => break,
                None => {}
            }
            self.commit();
        }
        self.group.dismiss_clients(stopping);
        for submitted in submitted.try_iter() {
            submitted.reply.send(stopping());
        }
        let left = self.pushed.try_iter().chain(self.monitored.try_iter());
        let lost = self.group.len() + left.map(|events| events.len()).sum::<usize>();
        if lost > 0 {
            self.metrics.events_lost_total.add(lost as u64);
            log::error!(
                "{lost} events of workers and monitors lost: they could not be journalled in time"
            );
        }
    }

    /// Whether workers or monitors have left something.
    fn has_left(&self) -> bool {
        !self.pushed.is_empty() || !self.monitored.is_empty()
    }

    /// Until something is to be done; the deadline when that is to end.
    fn wait(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let tick = if self.network.is_closed() {
            REBIND
        } else {
            TICK
        };
        let due = match self.network.has_more() {
            true => now + REST,
            false => self.network.due().min(now + tick),
        };
        let stalled = self.stall.until();
        let due = stalled.map_or(due, |until| due.min(until));
        let due = if self.peers.is_busy() { now } else { due };
        // While nothing can be accepted, workers and monitors wait in their queues.
        let (closed, none) = (stalled.is_some(), never());
        let pushed = if closed { &none } else { &self.pushed };
        let monitored = if closed { &none } else { &self.monitored };
        select! {
            recv(self.stopped) -> deadline => return Some(deadline.unwrap_or(now)),
            recv(pushed) -> events => match events {
                Ok(events) => self.group.push(events),
                Err(_) => self.pushed = never(),
            },
            recv(monitored) -> events => match events {
                Ok(events) => self.group.push(events),
                Err(_) => self.monitored = never(),
            },
            recv(self.submitted) -> submitted => match submitted {
                Ok(submitted) => self.submit(submitted),
                Err(_) => self.submitted = never(),
            },
            recv(self.asks) -> asked => match asked {
                Ok(asked) => self.answer(asked),
                Err(_) => self.asks = never(),
            },
            recv(self.peers.heard()) -> heard => self.peers.take(heard.ok(), &mut self.history),
            default(due.saturating_duration_since(now)) => {}
        }
        None
    }

    /// Takes what else is waiting, up to a group; says whether there is anything to commit.
    pub(super) fn fill(&mut self) -> bool {
        while self.stall.until().is_none()
            && self.group.len() < GROUP_EVENTS
            && self.group.bytes() < GROUP_BYTES
        {
            if let Ok(events) = self.pushed.try_recv() {
                self.group.push(events);
            } else if let Ok(submitted) = self.submitted.try_recv() {
                self.submit(submitted);
            } else if let Ok(events) = self.monitored.try_recv() {
                self.group.push(events);
            } else {
                break;
            }
        }
        !self.group.is_empty()
    }

    fn submit(&mut self, submitted: Submitted) {
        if self.stall.until().is_some() {
            submitted.reply.send(stalled());
            return;
        }
        let last = self.history.last_number(&submitted.producer);
        self.group.submit(submitted, last);
    }

    /// Answers what the sync service asks, for a moment: events go first.
    fn answer_asks(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < ASKS
            && let Ok(asked) = self.asks.try_recv()
        {
            self.answer(asked);
        }
    }

    fn answer(&mut self, asked: Asked) {
        // Where the journal cannot be read, it is opened again, as where it cannot be written.
        if let Err(error) = asked.answer(&self.history) {
            self.fail(&error, Instant::now());
        }
    }

    /// Journals the group, sends it, answers. Or stalls.
    pub(super) fn commit(&mut self) {
        let now = Instant::now();
        if let Some(until) = self.stall.until()
            && (now < until || !self.reopen(now))
        {
            return;
        }
        if self.group.is_empty() {
            return;
        }
        let submissions = self.group.submissions(&self.rules);
        let outcomes = match self.history.commit(&submissions, Moment::now()) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                drop(submissions);
                self.fail(&error, now);
                return;
            }
        };
        drop(submissions);
        for outcome in &outcomes {
            match outcome {
                Outcome::Stamped(_) => {}
                Outcome::Duplicate | Outcome::AlreadyDone => {
                    self.metrics.events_duplicate_total.inc();
                }
                Outcome::Older { .. } => self.metrics.events_older_total.inc(),
            }
        }
        if !self.history.committed().is_empty() {
            let lasted = self.stall.wrote(now);
            self.resumed(lasted);
        }
        self.reached();
        self.network.send(self.history.committed(), now);
        self.metrics.commits_total.inc();
        let left_out = std::mem::take(&mut self.group).answer(&outcomes);
        if left_out > 0
            && let Some(permit) = self.left_out.permit(now)
        {
            log::warn!(
                "{left_out} events of workers dropped: nobody can subscribe to their topic{permit}"
            );
        }
    }

    /// Opens the journal again; whether it did.
    fn reopen(&mut self, now: Instant) -> bool {
        match self.history.reopen(Moment::now()) {
            Ok(found) => {
                self.metrics.reopened_total.inc();
                let anew = self.history.was_begun_anew();
                self.metrics.state_begun_anew.set(anew.into());
                self.stall.reopened(now);
                self.reached();
                found == 0 || self.recover(found, now)
            }
            Err(error) => {
                self.fail(&error, now);
                false
            }
        }
    }

    /// The group that failed is in the journal all the same, its last `found` events: it is sent
    /// from there. To journal the held events of workers a second time would give agents every
    /// state of an object twice, and the first after the last. Clients, who were sent away, come
    /// again and are told that theirs is done. Whether the journal could be read.
    fn recover(&mut self, found: u64, now: Instant) -> bool {
        self.group = Group::default();
        let mut after = self.history.head() - found;
        while after < self.history.head() {
            match self.history.replay(None, after, GROUP_BYTES) {
                Ok(Replay::Events { records, upto }) => {
                    self.network.send(&records, now);
                    self.metrics.recovered_total.add(records.len() as u64);
                    after = upto;
                }
                // Nothing was trimmed since.
                Ok(Replay::Gone) => {
                    self.network.passed_over(now);
                    break;
                }
                // Agents find the rest missing by the hello and ask for it.
                Err(error) => {
                    self.network.passed_over(now);
                    self.fail(&error, now);
                    return false;
                }
            }
        }
        true
    }

    /// The journal could not be written, opened or looked after: nothing is accepted for a while.
    fn fail(&mut self, error: &HistoryError, now: Instant) {
        self.metrics.commits_failed_total.inc();
        let lasted = self.stall.failed(now);
        if lasted.is_none() {
            let since = Moment::now().unix_micros / 1_000_000;
            self.metrics.stalls_total.inc();
            self.metrics.stalled.set(1);
            self.metrics.stalled_since_seconds.set(since);
        }
        if let Some(permit) = self.failures.permit(now) {
            let lasted = lasted.map_or_else(String::new, |lasted| {
                format!(", for {:.1} s now", lasted.as_secs_f64())
            });
            log::error!(
                "nothing is accepted until the journal can be written{lasted}: {error}{permit}"
            );
        }
        self.group.dismiss_clients(stalled);
    }

    /// The journal can be written, not only opened, after it could not for `lasted`.
    fn resumed(&mut self, lasted: Option<Duration>) {
        let Some(lasted) = lasted else { return };
        self.metrics.stalled.set(0);
        self.metrics.stalled_since_seconds.set(0);
        // A disk that fails now and then stalls and resumes all the time.
        if let Some(permit) = self.resumptions.permit(Instant::now()) {
            log::info!(
                "the journal can be written again after {:.1} s; events are accepted{permit}",
                lasted.as_secs_f64()
            );
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.network.tick(&self.history, now);
        if self.stall.until().is_none()
            && let Err(error) = self.history.maintain(Moment::now())
        {
            self.fail(&error, now);
        }
        let lasted = self.stall.passed(now);
        self.resumed(lasted);
        self.measure();
    }

    /// To be told before anything of it is sent.
    fn reached(&self) {
        let (incarnation, head) = (self.history.incarnation(), self.history.head());
        self.reach.set(incarnation, head);
    }

    fn measure(&self) {
        self.metrics.rows.set(self.history.rows().len() as u64);
        self.metrics.head_seq.set(self.history.head());
        self.metrics.floor_seq.set(self.history.floor());
        self.metrics.incarnation.set(self.history.incarnation());
        self.metrics.journal_bytes.set(self.history.journal_bytes());
    }
}

fn stalled() -> Reply {
    Reply::Busy {
        retry_after_ms: 500,
        reason: "the journal cannot be written just now".into(),
    }
}

fn stopping() -> Reply {
    Reply::Busy {
        retry_after_ms: 500,
        reason: "the service is stopping".into(),
    }
}
