//! The publisher service: everything that is published on a host goes through its one thread.
//!
//! ```text
//!  workers (PUSH)  ─▶ reader ───┐
//!  workers (ack'd) ─▶ requests ─┼─▶ service: version → stamp → journal → send → acknowledge
//!  monitors ────────────────────┤
//!  sync service (questions) ────┤
//!  peers (rows, not sent) ──────┘
//! ```
//!
//! Events are taken in groups, which share one commit. What cannot be journalled is not sent and
//! not acknowledged: the service says so, tries again, and takes nothing more meanwhile, so that
//! the workers' queues fill and they are told.

mod network;
mod stall;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::audience::Audience;
use super::gate::Cuts;
use super::group::Rules;
use super::history::History;
use super::peers::{Heard, PeersMetrics};
use super::permits::Permits;
use super::reach::Reach;
use super::requests::Submitted;
use super::sync::Asked;
use crate::event::EventBatch;
use crate::pubsub::PublisherApi;
use crate::util::pulse::Pulse;
use crate::util::thread::Thread;

use self::worker::Worker;

crate::metrics! {
    /// What the service counts.
    pub struct ServiceMetrics {
        events_published_total: Counter = "Events journalled and sent.",
        events_duplicate_total: Counter = "Events that changed nothing, or were submitted before.",
        events_older_total: Counter = "Events refused because a higher version is known.",
        events_lost_total: Counter = "Events of workers and monitors that could not be journalled before the end.",
        commits_total: Counter = "Groups of events journalled.",
        commits_failed_total: Counter = "Times the journal could not be written or reopened.",
        reopened_total: Counter = "Times the journal was opened again after a failure.",
        recovered_total: Counter = "Events of a group whose journalling failed that were found in the journal all the same; sent then.",
        stalls_total: Counter = "Times it began to accept nothing.",
        stalled: Gauge = "Whether nothing is accepted because the journal cannot be written (1).",
        stalled_since_seconds: Gauge = "Since when nothing is accepted, Unix seconds; 0 while events are accepted.",
        sends_failed_total: Counter = "Events journalled that could not be handed to the network.",
        hellos_total: Counter = "Hellos sent.",
        joins_total: Counter = "Subscribers that asked for hellos.",
        handshakes_refused_total: Counter = "Connections that were not taken or whose handshake failed, whatever the reason.",
        connections: Gauge = "Connections that are open, those in the middle of the handshake included.",
        connections_crowded_total: Counter = "Connections ended because there were too many, or too many that said nothing.",
        connections_greedy_total: Counter = "Connections ended because of too many subscriptions.",
        connections_unruly_total: Counter = "Connections ended because they sent what no subscriber sends, or more changes of subscriptions than any makes.",
        connections_stuck_total: Counter = "Connections ended because nothing of what was sent to them had arrived for 8 s.",
        connections_kept_out_total: Counter = "Connections ended because their address or node is kept out; most that ask for one do not get as far.",
        addresses_kept_out_total: Counter = "Times an address was kept out for a minute, without keys: its handshakes failed, or it sent what no subscriber sends.",
        connections_unclear_total: Counter = "Connections ended because what they asked for could not be told from what others did; they come again.",
        subscriptions: Gauge = "Subscriptions of all subscribers.",
        state_copied: Gauge = "Whether the state was a copy at the start, so that another publisher may have this one's id (1).",
        state_begun_anew: Gauge = "Whether the state was begun anew after a damaged one, which lies beside it until the operator moves it away (1).",
        rows: Gauge = "Current rows.",
        incarnation: Gauge = "The number of this publisher's unbroken life.",
        head_seq: Gauge = "Number of the last event.",
        floor_seq: Gauge = "Number of the oldest event that the journal holds.",
        journal_bytes: Gauge = "What the journal holds, bytes.",
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
    /// Questions of the sync service about journal and rows.
    pub asks: Receiver<Asked>,
    /// Rows of other publishers that are followed.
    pub heard: Receiver<Heard>,
    /// Where agents are told to ask for what they missed, at most 255 bytes; empty: nowhere.
    pub sync_endpoint: String,
    /// When connections are to be ended.
    pub cuts: Cuts,
    /// Who may subscribe to what.
    pub permits: Arc<Permits>,
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
    /// What it counts of the rows of other publishers.
    pub peers: Arc<PeersMetrics>,
    /// Who listens.
    pub audience: Arc<Audience>,
    /// How far it has come.
    pub reach: Arc<Reach>,
    /// Whether its thread gets on: at rest while it waits for events.
    pub pulse: Arc<Pulse>,
}

/// How long `Drop` gives what is on its way.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Starts the service's thread.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let metrics = Arc::new(ServiceMetrics::default());
        let history = &parts.history;
        metrics.state_copied.set(history.was_copied().into());
        metrics
            .state_begun_anew
            .set(history.was_begun_anew().into());
        let (stop, stopped) = bounded(1);
        let audience = Arc::<Audience>::default();
        let peers = Arc::<PeersMetrics>::default();
        let reach = Arc::<Reach>::default();
        let pulse = Arc::<Pulse>::default();
        let worker = Worker::new(
            parts,
            stopped,
            Arc::clone(&metrics),
            Arc::clone(&peers),
            Arc::clone(&audience),
            Arc::clone(&reach),
            Arc::clone(&pulse),
        );
        let thread = Thread::spawn("publisher", move || worker.run())?;
        Ok(Service {
            thread,
            stop,
            metrics,
            peers,
            audience,
            reach,
            pulse,
        })
    }

    /// Whether its thread has not ended.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
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
