//! The publisher service: everything that is published on a host goes through its one thread.
//!
//! ```text
//!  workers (PUSH)  ─▶ reader ───┐
//!  workers (ack'd) ─▶ requests ─┼─▶ service: version → stamp → journal → send → acknowledge
//!  monitors ────────────────────┘
//! ```
//!
//! Events are taken in groups, which share one commit. What cannot be journalled is not sent and
//! not acknowledged: the service says so, tries again, and takes nothing more meanwhile, so that
//! the workers' queues fill and they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use fastrand::Rng;

use super::group::{Group, Rules};
use super::heartbeat::Heartbeat;
use super::history::{History, HistoryError, Moment, Outcome};
use super::requests::Submitted;
use super::submit::Reply;
use crate::event::EventBatch;
use crate::event::hello::{Hello, MAX_RECENT, topic_hash};
use crate::event::topic::{HELLO, TopicFrame};
use crate::pubsub::PublisherApi;
use crate::util::backoff::Backoff;
use crate::util::rate::RateLimit;
use crate::util::thread::Thread;

crate::metrics! {
    /// What the service counts.
    pub struct ServiceMetrics {
        events_published_total: Counter = "Events journalled and sent.",
        events_duplicate_total: Counter = "Events that changed nothing, or were submitted before.",
        events_older_total: Counter = "Events refused because a higher version is known.",
        commits_total: Counter = "Groups of events journalled.",
        commits_failed_total: Counter = "Times the journal could not be written or reopened.",
        stalled: Gauge = "Whether nothing is accepted because the journal cannot be written (1).",
        sends_failed_total: Counter = "Events journalled that could not be handed to the network.",
        hellos_total: Counter = "Hellos sent.",
        joins_total: Counter = "Subscribers that asked for hellos.",
        subscriptions: Gauge = "Subscriptions of all subscribers.",
        rows: Gauge = "Current rows.",
        head_seq: Gauge = "Number of the last event.",
    }
}

/// What a service is made of.
pub struct Parts {
    /// Where events go; initialized by the service.
    pub publisher: Box<dyn PublisherApi>,
    /// Journal and rows.
    pub history: History,
    /// Events of workers that push.
    pub pushed: Receiver<EventBatch>,
    /// Events of clients that await an answer.
    pub submitted: Receiver<Submitted>,
    /// Events of monitors.
    pub monitored: Receiver<EventBatch>,
    /// How events become submissions.
    pub rules: Rules,
    /// A hello follows an event within this.
    pub hello_interval: Duration,
    /// A hello comes this often without any event.
    pub max_idle_time: Duration,
}

/// A running service. Dropping it stops it.
pub struct Service {
    thread: Thread,
    stop: Sender<Instant>,
    /// What it counts.
    pub metrics: Arc<ServiceMetrics>,
}

/// Events in one commit, at most about this many, or this many bytes.
const GROUP_EVENTS: usize = 4096;
const GROUP_BYTES: usize = 2 << 20;

/// How often subscriptions are read and the journal is looked after, with or without events.
const TICK: Duration = Duration::from_millis(100);

/// Waits between attempts to write the journal again.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long `Drop` gives what is on its way.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Starts the service's thread.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let metrics = Arc::new(ServiceMetrics::default());
        let (stop, stopped) = bounded(1);
        let core = Core::new(parts, stopped, Arc::clone(&metrics));
        let thread = Thread::spawn("publisher", move || core.run())?;
        Ok(Service {
            thread,
            stop,
            metrics,
        })
    }

    /// Publishes what is waiting, marks the clean end and stops; to be called when workers and
    /// monitors bring nothing new. Clients are sent away: they keep what was not acknowledged. Says
    /// whether it ended by `deadline`.
    pub fn stop_by(&mut self, deadline: Instant) -> bool {
        // A second call finds the channel full or the thread gone; both are as wanted.
        let _ = self.stop.try_send(deadline);
        self.thread.join_by(deadline)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop_by(Instant::now() + DROP_PATIENCE);
    }
}

struct Core {
    publisher: Box<dyn PublisherApi>,
    history: History,
    pushed: Receiver<EventBatch>,
    submitted: Receiver<Submitted>,
    monitored: Receiver<EventBatch>,
    stopped: Receiver<Instant>,
    rules: Rules,
    heartbeat: Heartbeat,
    metrics: Arc<ServiceMetrics>,
    group: Group,
    /// Since when and until when nothing is accepted.
    stalled: Option<Instant>,
    /// Since when the journal is open again, until it is known that it can be written.
    reopened: Option<Instant>,
    backoff: Backoff,
    complaints: RateLimit,
    /// Topics sent to since the last hello, and their last seq.
    recent: HashMap<u64, u64>,
    payload: Vec<u8>,
}

impl Core {
    fn new(parts: Parts, stopped: Receiver<Instant>, metrics: Arc<ServiceMetrics>) -> Self {
        let now = Instant::now();
        Core {
            publisher: parts.publisher,
            history: parts.history,
            pushed: parts.pushed,
            submitted: parts.submitted,
            monitored: parts.monitored,
            stopped,
            rules: parts.rules,
            heartbeat: Heartbeat::new(parts.hello_interval, parts.max_idle_time, now),
            metrics,
            group: Group::default(),
            stalled: None,
            reopened: None,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, Rng::new()),
            complaints: RateLimit::new(5, Duration::from_secs(10)),
            recent: HashMap::new(),
            payload: Vec::new(),
        }
    }

    fn run(mut self) {
        let deadline = loop {
            if let Some(deadline) = self.wait() {
                break deadline;
            }
            self.fill();
            self.commit();
            self.tick();
        };
        self.finish(deadline);
        self.hello(Instant::now());
        self.measure();
        self.publisher.close();
        match self.history.close() {
            Ok(()) => log::info!("journal closed in order"),
            Err(error) => log::error!("journal not closed in order: {error}"),
        }
    }

    /// Publishes what workers and monitors have left. A quarter of the time is kept for closing.
    fn finish(&mut self, deadline: Instant) {
        let last = deadline - deadline.saturating_duration_since(Instant::now()) / 4;
        // They hold what they submitted, and would submit for ever.
        let submitted = std::mem::replace(&mut self.submitted, never());
        while self.fill() {
            let now = Instant::now();
            match self.stalled {
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
        if !self.group.is_empty() {
            let lost = self.group.len();
            log::error!("{lost} events of workers lost: they could not be journalled in time");
        }
    }

    /// Until something is to be done; the deadline when that is to end.
    fn wait(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let due = self.heartbeat.due().min(now + TICK);
        let due = self.stalled.map_or(due, |until| due.min(until));
        // While nothing can be accepted, workers and monitors wait in their queues.
        let (closed, none) = (self.stalled.is_some(), never());
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
            default(due.saturating_duration_since(now)) => {}
        }
        None
    }

    /// Takes what else is waiting, up to a group; says whether there is anything to commit.
    fn fill(&mut self) -> bool {
        while self.stalled.is_none()
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
        if self.stalled.is_some() {
            submitted.reply.send(stalled());
            return;
        }
        let last = self.history.last_number(&submitted.producer);
        self.group.submit(submitted, last);
    }

    /// Journals the group, sends it, answers. Or stalls.
    fn commit(&mut self) {
        let now = Instant::now();
        if let Some(until) = self.stalled {
            if now < until {
                return;
            }
            if let Err(error) = self.history.reopen(Moment::now()) {
                self.stall(&error, now);
                return;
            }
            self.stalled = None;
            self.reopened = Some(now);
        }
        if self.group.is_empty() {
            return;
        }
        let submissions = self.group.submissions(&self.rules);
        let outcomes = match self.history.commit(&submissions, Moment::now()) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                drop(submissions);
                self.stall(&error, now);
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
        let (mut sent, journalled) = (0, self.history.committed().len());
        for record in self.history.committed().iter() {
            self.recent
                .insert(topic_hash(record.topic), record.stamp.seq);
            match self.publisher.send_payload(record.topic, record.payload) {
                Ok(()) => sent += 1,
                // It is journalled: agents find it missing by the hello and ask for it.
                Err(error) => {
                    self.metrics.sends_failed_total.inc();
                    if let Some(permit) = self.complaints.permit(now) {
                        log::error!("{error}{permit}");
                    }
                }
            }
        }
        if journalled > 0 {
            self.resume();
            self.heartbeat.sent_events(now);
        }
        self.metrics.commits_total.inc();
        self.metrics.events_published_total.add(sent);
        let left_out = std::mem::take(&mut self.group).answer(&outcomes);
        if left_out > 0
            && let Some(permit) = self.complaints.permit(now)
        {
            log::warn!(
                "{left_out} events of workers dropped: nobody can subscribe to their topic{permit}"
            );
        }
    }

    /// The journal can be written, not only opened.
    fn resume(&mut self) {
        if self.reopened.take().is_some() {
            self.backoff.reset();
            self.metrics.stalled.set(0);
            log::info!("the journal can be written again; events are accepted");
        }
    }

    fn stall(&mut self, error: &HistoryError, now: Instant) {
        self.metrics.commits_failed_total.inc();
        self.metrics.stalled.set(1);
        if let Some(permit) = self.complaints.permit(now) {
            log::error!("nothing is accepted until the journal can be written: {error}{permit}");
        }
        self.group.dismiss_clients(stalled);
        self.reopened = None;
        let wait = self.backoff.wait();
        self.stalled = Some(now + wait);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.see_subscriptions(now);
        if now >= self.heartbeat.due() {
            self.hello(now);
        }
        if self.stalled.is_none()
            && let Err(error) = self.history.maintain(Moment::now())
        {
            self.stall(&error, now);
        }
        // Without events, time shows it.
        if self.reopened.is_some_and(|at| now >= at + RETRY_MAX) {
            self.resume();
        }
        self.measure();
    }

    fn measure(&self) {
        self.metrics.rows.set(self.history.rows().len() as u64);
        self.metrics.head_seq.set(self.history.head());
    }

    fn see_subscriptions(&mut self, now: Instant) {
        let (metrics, heartbeat) = (&self.metrics, &mut self.heartbeat);
        let seen = self.publisher.subscriptions(&mut |prefix, added| {
            let count = metrics.subscriptions.get();
            metrics.subscriptions.set(if added {
                count + 1
            } else {
                count.saturating_sub(1)
            });
            if added && TopicFrame::parse(prefix).topic == HELLO.as_bytes() {
                metrics.joins_total.inc();
                heartbeat.joined(now);
            }
        });
        if let Err(error) = seen
            && let Some(permit) = self.complaints.permit(now)
        {
            log::error!("{error}{permit}");
        }
    }

    fn hello(&mut self, now: Instant) {
        let overflow = self.recent.len() > MAX_RECENT;
        let hello = Hello {
            publisher: self.history.id(),
            incarnation: self.history.incarnation(),
            head: self.history.head(),
            floor: self.history.floor(),
            unix_micros: Moment::now().unix_micros,
            sync_endpoint: String::new(),
            authoritative: false,
            recent: self.recent.drain().take(MAX_RECENT).collect(),
            overflow,
        };
        hello.encode(&mut self.payload);
        match self.publisher.send_payload(HELLO, &self.payload) {
            Ok(()) => self.metrics.hellos_total.inc(),
            Err(error) => {
                if let Some(permit) = self.complaints.permit(now) {
                    log::error!("hello not sent: {error}{permit}");
                }
            }
        }
        self.heartbeat.said(now);
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

#[cfg(test)]
mod tests;
