//! The network side: events, hellos, and who subscribes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ServiceMetrics;
use crate::event::hello::{Hello, MAX_RECENT, topic_hash};
use crate::event::topic::{HELLO, TopicFrame};
use crate::publisher::audience::Audience;
use crate::publisher::gate::Cuts;
use crate::publisher::heartbeat::Heartbeat;
use crate::publisher::history::{History, Moment, RecordBuf};
use crate::publisher::permits::Permits;
use crate::pubsub::{PubSubError, PublisherApi, Subscription};
use crate::security::grants::Grants;
use crate::util::rate::RateLimit;

/// Who may be connected, and have what.
pub(super) struct Rights {
    pub cuts: Cuts,
    pub permits: Arc<Permits>,
}

/// What nobody gets to see: without control, the service does not start where somebody is to be kept out.
const UNCONTROLLED: PubSubError = PubSubError::Misuse("the driver cannot end connections");

/// What the service's thread says to the agents, and hears of them.
pub(super) struct Network {
    publisher: Box<dyn PublisherApi>,
    sync_endpoint: String,
    heartbeat: Heartbeat,
    /// Topics sent to since the last hello, and their last seq.
    recent: HashMap<u64, u64>,
    /// The head as of the last hello; `None` where what has moved since is not known.
    said: Option<u64>,
    payload: Vec<u8>,
    metrics: Arc<ServiceMetrics>,
    audience: Arc<Audience>,
    complaints: RateLimit,
    peer_lines: RateLimit,
    cuts: Cuts,
    /// Cuts done.
    cut: u64,
    /// Whether connections are to be ended for another reason.
    must_cut: bool,
    /// Whether the address is to be opened again.
    closed: bool,
    /// Whether there are more subscriptions to be seen.
    more: bool,
    permits: Arc<Permits>,
    /// The grants in force here, and their number.
    grants: (u64, Arc<Grants>),
}

impl Network {
    pub(super) fn new(
        publisher: Box<dyn PublisherApi>,
        sync_endpoint: String,
        heartbeat: Heartbeat,
        metrics: Arc<ServiceMetrics>,
        audience: Arc<Audience>,
        complaints: RateLimit,
        Rights { cuts, permits }: Rights,
    ) -> Self {
        Network {
            publisher,
            sync_endpoint,
            heartbeat,
            recent: HashMap::new(),
            said: None,
            payload: Vec::new(),
            metrics,
            audience,
            complaints,
            peer_lines: RateLimit::new(5, Duration::from_secs(60)),
            cut: cuts.count(),
            cuts,
            must_cut: false,
            closed: false,
            more: false,
            grants: permits.current(),
            permits,
        }
    }

    /// When there is something to say next.
    pub(super) fn due(&self) -> Instant {
        self.heartbeat.due()
    }

    /// Something was journalled and not sent, on topics that are not known here. The next hello comes
    /// soon, and does not say that what it lists is all: agents ask.
    pub(super) fn passed_over(&mut self, now: Instant) {
        self.said = None;
        self.heartbeat.sent_events(now);
    }

    /// Sends what was journalled.
    pub(super) fn send(&mut self, records: &RecordBuf, now: Instant) {
        if records.is_empty() {
            return;
        }
        if !self.grants.1.is_open() {
            // Where they need no leave, libzmq itself looks for new ones as it sends.
            self.see_subscriptions(now);
        }
        let mut sent = 0;
        for record in records.iter() {
            self.note(topic_hash(record.topic), record.stamp.seq);
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
        self.metrics.events_published_total.add(sent);
        self.heartbeat.sent_events(now);
    }

    /// Notes that a topic has moved. One more than a hello lists shows that there were more.
    fn note(&mut self, topic: u64, seq: u64) {
        if self.recent.len() <= MAX_RECENT || self.recent.contains_key(&topic) {
            self.recent.insert(topic, seq);
        }
    }

    /// Sees who came and went, and says hello when it is due.
    pub(super) fn tick(&mut self, history: &History, now: Instant) {
        self.review();
        self.cut(now);
        self.see_subscriptions(now);
        self.see_peers(now);
        if now >= self.heartbeat.due() {
            self.hello(history, now);
        }
    }

    /// Takes other grants over, if there are any. Whoever may have something else than before comes
    /// anew: what it asked for and was refused is not asked for again on the same connection.
    fn review(&mut self) {
        let current = self.permits.current();
        if current.0 == self.grants.0 {
            return;
        }
        let (_, old) = std::mem::replace(&mut self.grants, current);
        let new = &self.grants.1;
        let Some(peers) = self.publisher.control() else {
            log::error!("grants are not kept to: {UNCONTROLLED}");
            return;
        };
        if old.is_open() != new.is_open() {
            peers.guard(!new.is_open());
            self.must_cut = true;
            log::info!("grants begin or end: all connections will be made anew");
            return;
        }
        let mut other = |node: &str| !new.same_for(node, &old);
        let ended = peers.end_connections(&mut other);
        self.permits.metrics.grants_ended_total.add(ended as u64);
        log::info!("{ended} connections ended, of nodes that may have other topics than before");
    }

    /// Counts what became of peers.
    fn see_peers(&mut self, now: Instant) {
        let Some(control) = self.publisher.control() else {
            return;
        };
        let peers = control.peers();
        let metrics = &self.metrics;
        metrics.connections.set(peers.open);
        metrics.handshakes_refused_total.add(peers.refused);
        for (what, count, metric) in [
            (
                "too many connections",
                peers.crowded,
                &metrics.connections_crowded_total,
            ),
            (
                "too many subscriptions",
                peers.greedy,
                &metrics.connections_greedy_total,
            ),
            (
                "a message that is no subscription or does not end, or changes without end",
                peers.unruly,
                &metrics.connections_unruly_total,
            ),
        ] {
            metric.add(count);
            if count > 0
                && let Some(permit) = self.peer_lines.permit(now)
            {
                log::warn!("{count} connections ended: {what}{permit}");
            }
        }
        metrics.connections_unclear_total.add(peers.unclear);
        metrics.connections_stuck_total.add(peers.stuck);
        metrics.connections_kept_out_total.add(peers.kept_out);
        metrics.addresses_kept_out_total.add(peers.cast_out);
    }

    /// Ends all connections if somebody is to be kept out, and opens the address again.
    fn cut(&mut self, now: Instant) {
        let ordered = self.cuts.count();
        let new = self.cut != ordered || self.must_cut;
        if !new && !self.closed {
            return;
        }
        if new {
            self.metrics.subscriptions.set(0);
            self.audience.clear();
        }
        let cut = match self.publisher.control() {
            Some(control) => control.cut(new),
            None => Err(UNCONTROLLED),
        };
        match cut {
            Ok(open) => {
                (self.cut, self.must_cut) = (ordered, false);
                self.closed = !open;
            }
            // Not done, as long as it is not certain that nobody is connected any more.
            Err(error) => {
                self.closed = true;
                if let Some(permit) = self.complaints.permit(now) {
                    log::error!("{error}{permit}");
                }
            }
        }
    }

    /// Whether there are more subscriptions to be seen, after the events that wait.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether the address is to be opened again, soon.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn see_subscriptions(&mut self, now: Instant) {
        let Some(control) = self.publisher.control() else {
            return;
        };
        let (metrics, heartbeat) = (&self.metrics, &mut self.heartbeat);
        let audience = &self.audience;
        let (permits, grants) = (&self.permits, &self.grants.1);
        let seen = control.subscriptions(&mut |subscription| {
            let Subscription {
                prefix,
                added,
                node,
            } = *subscription;
            if added && !permits.subscription(grants, node, prefix) {
                return false;
            }
            audience.note(prefix, added);
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
            true
        });
        self.more = matches!(seen, Ok(true));
        if let Err(error) = seen
            && let Some(permit) = self.complaints.permit(now)
        {
            log::error!("{error}{permit}");
        }
    }

    /// Says hello.
    pub(super) fn hello(&mut self, history: &History, now: Instant) {
        let overflow = self.recent.len() > MAX_RECENT;
        let hello = Hello {
            publisher: history.id(),
            incarnation: history.incarnation(),
            head: history.head(),
            floor: history.floor(),
            unix_micros: Moment::now().unix_micros,
            // Where that is not known, as at first, nobody takes what is listed for all.
            since: self.said.replace(history.head()).unwrap_or(history.head()),
            sync_endpoint: self.sync_endpoint.clone(),
            authoritative: history.complete_since() == 0,
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

    /// Closes the socket; what was sent is given its `linger` to leave.
    pub(super) fn close(&mut self) {
        self.publisher.close();
    }
}
