//! The agent: follows every publisher, runs the handlers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never};

use crate::dispatch::{Hub, Lane, LaneHandle, LaneOptions, Lookout};
use crate::event::SEND_ALL;
use crate::pubsub::endpoint::{Defaults, Endpoint};
use crate::pubsub::{Callback, PubSubApi, PubSubError, Source, SubscriberApi, SubscriberOptions};

use crate::util::pulse::Pulse;

use checkpoint::{CheckpointMetrics, Checkpoints};
use discovery::{Desk, Discovery, Hint, MAX_DISCOVERED};
use follower::{Followed, Followers, SyncTransport};
use northbound::{Northbound, NorthboundMetrics};
use topics::Topics;

mod change;
pub mod checkpoint;
pub mod discovery;
pub mod follower;
pub mod northbound;
pub mod recovery;
pub mod topics;
pub mod vigil;

/// What an agent is made of.
pub struct Parts {
    /// How events travel.
    pub driver: Box<dyn PubSubApi>,
    /// How the subscriber behaves.
    pub subscriber: SubscriberOptions,
    /// The publishers.
    pub publishers: Vec<Endpoint>,
    /// Whether publishers are also discovered by the table `publisher`: then what completes their
    /// addresses. The owner must apply [`Agent::discoveries`].
    pub discovery: Option<Defaults>,
    /// The topics; [`SEND_ALL`] is subscribed to beside them.
    pub topics: Vec<String>,
    /// How what was missed is fetched; `None`: losses go unnoticed, as with legacy publishers.
    pub recovery: Option<RecoveryParts>,
    /// The handlers.
    pub handlers: Vec<LaneOptions>,
    /// Time for handlers to work off what they have when the agent stops.
    pub stop_timeout: Duration,
}

/// What recovery is made of.
pub struct RecoveryParts {
    /// How to reach sync services.
    pub transport: Arc<dyn SyncTransport>,
    /// Bounds and times.
    pub options: recovery::Options,
    /// How long handlers wait at first for all publishers to be in sync.
    pub sync_timeout: Duration,
    /// The time between two resyncs while a publisher is legacy; jittered.
    pub legacy_resync: Duration,
    /// Where rows of publishers that say no hello are read from, before handlers start over; `None`:
    /// nowhere.
    pub northbound: Option<northbound::Options>,
    /// Where what is known is kept over a restart; `None`: nowhere.
    pub checkpoint: Option<checkpoint::Options>,
}

/// A running agent. Dropping it stops it as [`Agent::stop`] does.
pub struct Agent {
    subscriber: Box<dyn SubscriberApi>,
    hub: Arc<Hub>,
    lanes: Vec<Lane>,
    /// As configured; discovery may add others.
    publishers: Vec<Endpoint>,
    desk: Option<Desk>,
    followed: Option<Arc<follower::Shared>>,
    checkpoints: Option<Checkpoints>,
    northbound: Option<Arc<Northbound>>,
    topics: Topics,
    // Sees late calls until the agent ends.
    lookout: Option<Lookout>,
    stop_timeout: Duration,
    stopped: bool,
    // Last: a driver's context ends after the sockets made from it.
    _driver: Box<dyn PubSubApi>,
}

impl Agent {
    /// Starts the handlers, then the readers. Nothing is left running on error.
    pub fn start(parts: Parts) -> Result<Self, PubSubError> {
        let hub = Hub::new();
        let mut subscriber = parts.driver.subscriber(&parts.subscriber)?;
        for endpoint in &parts.publishers {
            if !subscriber.register_listen_address(endpoint)? {
                log::warn!("publisher {endpoint} is named twice");
            }
        }
        let mut topics = Topics::default();
        subscriber.register_topic(SEND_ALL)?;
        for topic in &parts.topics {
            topics.add(topics::OPERATOR, topic, subscriber.as_mut(), &hub)?;
        }
        let mut agent = Agent {
            subscriber,
            hub: Arc::clone(&hub),
            lanes: Vec::new(),
            publishers: parts.publishers.clone(),
            desk: None,
            followed: None,
            checkpoints: None,
            northbound: None,
            topics,
            lookout: None,
            stop_timeout: parts.stop_timeout,
            stopped: false,
            _driver: parts.driver,
        };
        if parts.recovery.is_some() {
            hub.hold();
        }
        for options in parts.handlers {
            agent.start_lane(options)?;
        }
        agent.look_out()?;
        if let Some(defaults) = parts.discovery {
            // Before the first row is there.
            let (hints, overflow) = discovery::scout(&hub);
            let discovery = Discovery::new(defaults, &parts.publishers, MAX_DISCOVERED);
            agent.desk = Some(Desk::new(discovery, &hub, hints, overflow));
        }
        let callback = Arc::clone(&hub) as Arc<dyn Callback>;
        let callback = match parts.recovery {
            None => callback,
            Some(recovery) => {
                let topics = parts.topics.iter().cloned();
                let topics = topics.chain([SEND_ALL.to_owned()]).collect();
                agent.recovering(recovery, parts.publishers.len(), &topics, callback)?
            }
        };
        agent.subscriber.initialize(callback)?;
        agent.subscriber.daemonize()?;
        Ok(agent)
    }

    /// Puts the recovery of what was missed before `sink`.
    fn recovering(
        &mut self,
        parts: RecoveryParts,
        publishers: usize,
        topics: &HashSet<String>,
        sink: Arc<dyn Callback>,
    ) -> Result<Arc<dyn Callback>, PubSubError> {
        let hub = &self.hub;
        let kept = match &parts.checkpoint {
            Some(options) => checkpoint::restore(&options.folder, topics, hub),
            None => Vec::new(),
        };
        let patience = parts.sync_timeout;
        let rows: Arc<dyn follower::Rows> = match parts.northbound {
            None => Arc::clone(hub) as Arc<dyn follower::Rows>,
            Some(options) => {
                let started = Northbound::start(hub, options);
                let started = started.map_err(|error| PubSubError::System {
                    what: "cannot read the northbound store".into(),
                    why: error.to_string(),
                })?;
                let northbound = Arc::new(started);
                self.northbound = Some(Arc::clone(&northbound));
                northbound
            }
        };
        let shared = follower::Shared::new(Arc::clone(&rows), publishers, patience, kept);
        let shared = Arc::new(shared);
        if let Some(options) = parts.checkpoint {
            let folder = options.folder.clone();
            match Checkpoints::start(options, hub, &shared) {
                Ok(checkpoints) => self.checkpoints = Some(checkpoints),
                Err(error) => {
                    return Err(PubSubError::System {
                        what: format!("cannot keep checkpoints in {}", folder.display()),
                        why: error.to_string(),
                    });
                }
            }
        }
        self.topics.follow(&shared);
        self.followed = Some(Arc::clone(&shared));
        Ok(Arc::new(Followers {
            sink,
            rows,
            transport: parts.transport,
            options: parts.options,
            legacy_resync: parts.legacy_resync,
            shared,
        }))
    }

    /// Where the recovery of each publisher stands, by address; empty without recovery.
    pub fn followed(&self) -> Vec<(String, Arc<Followed>)> {
        self.followed
            .as_ref()
            .map_or_else(Vec::new, |shared| shared.followed())
    }

    /// What checkpoints count; `None` where none are kept.
    pub fn checkpoints(&self) -> Option<&Arc<CheckpointMetrics>> {
        self.checkpoints.as_ref().map(|each| &each.metrics)
    }

    /// What reading the northbound store counts; `None` where there is none.
    pub fn northbound(&self) -> Option<&Arc<NorthboundMetrics>> {
        self.northbound.as_ref().map(|each| &each.metrics)
    }

    /// From now on distribution is selective, or is not: see [`northbound::Options::selective`].
    pub fn set_selective(&self, selective: bool) {
        if let Some(northbound) = &self.northbound {
            northbound.set_selective(selective);
        }
    }

    /// The threads beside readers and lanes: whether each runs and, where it may be stuck for good,
    /// whether it gets on. A checkpoint that waits for the disk keeps nobody waiting.
    fn threads(&self) -> impl Iterator<Item = (&'static str, bool, Option<&Pulse>)> {
        let northbound = self.northbound.as_ref();
        let northbound =
            northbound.map(|each| ("northbound", each.is_running(), Some(each.pulse())));
        let checkpoint = self.checkpoints.as_ref();
        let checkpoint = checkpoint.map(|each| ("checkpoint", each.is_running(), None));
        let lookout = self.lookout.as_ref();
        let lookout = lookout.map(|each| ("lookout", each.is_running(), None));
        [northbound, checkpoint, lookout].into_iter().flatten()
    }

    /// The subscriber, to add and remove publishers and topics.
    pub fn subscriber(&mut self) -> &mut dyn SubscriberApi {
        self.subscriber.as_mut()
    }

    /// Changes of the table `publisher`: whoever owns the agent waits for them beside what else it
    /// waits for, and gives each to [`Agent::discover`]. Never anything without discovery.
    pub fn discoveries(&self) -> Receiver<Hint> {
        let desk = self.desk.as_ref();
        desk.map_or_else(never, |desk| desk.hints().clone())
    }

    /// Adds and removes publishers as the table `publisher` now says. Takes a moment where readers
    /// are to be stopped, at most a second each.
    pub fn discover(&mut self, hint: Hint) {
        if let Some(desk) = &mut self.desk {
            desk.apply(hint, self.subscriber.as_mut());
        }
        if let Some(followed) = &self.followed {
            followed.look(Instant::now());
        }
    }

    /// What discovery decided and counts; `None` where it is off.
    pub fn discovery(&self) -> Option<&Discovery> {
        self.desk.as_ref().map(Desk::discovery)
    }

    /// Follows `topic` for the operator, beside what handlers ask for; `Ok(false)` when the operator
    /// or the configuration did so already.
    pub fn add_topic(&mut self, topic: &str) -> Result<bool, PubSubError> {
        let subscriber = self.subscriber.as_mut();
        self.topics
            .add(topics::OPERATOR, topic, subscriber, &self.hub)
    }

    /// The operator, and the configuration, no longer want `topic`. When no handler does either, it
    /// is followed no longer and its rows go; handlers are told that they are gone. `false` when
    /// they did not want it. [`SEND_ALL`] stays. Looks at every row, a few at a time.
    pub fn remove_topic(&mut self, topic: &str) -> bool {
        self.remove_topics(&[topic.to_owned()]) == 1
    }

    /// As [`Agent::remove_topic`] with each of these, but looks at every row only once. Says how many
    /// of them operator and configuration wanted.
    pub fn remove_topics(&mut self, topics: &[String]) -> usize {
        let subscriber = self.subscriber.as_mut();
        self.topics
            .remove(topics::OPERATOR, topics, subscriber, &self.hub)
    }

    /// Rings when handlers ask for topics: whoever owns the agent waits for it beside what else it
    /// waits for, and calls [`Agent::serve_topics`].
    pub fn topic_bell(&self) -> Receiver<()> {
        self.topics.bell()
    }

    /// Adds and removes topics as handlers asked.
    pub fn serve_topics(&mut self) {
        self.topics.serve(self.subscriber.as_mut(), &self.hub);
    }

    /// The topics followed beside [`SEND_ALL`], each with who wants it: [`topics::OPERATOR`] or
    /// handlers by name.
    pub fn topics(&self) -> Vec<(String, Vec<String>)> {
        self.topics.list()
    }

    /// How the handlers do; to be used from any thread.
    pub fn handles(&self) -> Vec<LaneHandle> {
        self.lanes
            .iter()
            .map(|lane| lane.handle().clone())
            .collect()
    }

    /// The publishers and what their readers count.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.subscriber.sources()
    }

    /// Where events meet.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The handlers' lanes.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Stops: readers first, then the handlers, which work off what they have. From half of
    /// `stop_timeout` on running commands are stopped; a handler that does not end by all of it is
    /// left behind. Says how many were.
    pub fn stop(mut self) -> usize {
        self.end()
    }

    fn end(&mut self) -> usize {
        if std::mem::replace(&mut self.stopped, true) {
            return 0;
        }
        let start = Instant::now();
        let deadline = start + self.stop_timeout;
        self.subscriber.close();
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.finish();
        }
        // A late call is seen to by the deadlines of the end.
        self.lookout = None;
        for lane in &self.lanes {
            lane.close_by(deadline);
        }
        self.hub.close();
        let stuck = join(&mut self.lanes, start, self.stop_timeout);
        if let Some(checkpoints) = &mut self.checkpoints
            && !checkpoints.join_by(deadline)
        {
            log::warn!("the last checkpoint takes too long: the one before it stays");
        }
        stuck
    }
}

/// Waits for lanes that were told to end at `start`: half of `time`, and then interrupts them. Says
/// how many are left behind.
fn join(lanes: &mut [Lane], start: Instant, time: Duration) -> usize {
    let (patience, deadline) = (start + time / 2, start + time);
    let mut late: Vec<&mut Lane> = lanes
        .iter_mut()
        .filter_map(|lane| (!lane.join_by(patience)).then_some(lane))
        .collect();
    for lane in &mut late {
        log::warn!(
            "handler {} is still busy: what it does is stopped",
            lane.name()
        );
        lane.interrupt();
    }
    let stuck = late
        .into_iter()
        .filter_map(|lane| (!lane.join_by(deadline)).then_some(lane));
    let stuck = stuck.map(|lane| log::error!("handler {} does not end: left behind", lane.name()));
    stuck.count()
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}
