//! Other publishers, which this one follows as an agent does, so that a snapshot of any one of them
//! has the rows of all.
//!
//! ```text
//!  peer ─▶ reader, recovery (the agent's) ─▶ rows, sweeps ─▶ service: merged into the current rows
//!                                      └──▶ topics ─▶ `peers`: subscribed to, at all peers
//! ```
//!
//! Their rows keep their stamps and are not sent: agents follow every publisher themselves.

mod inbox;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::agent::follower::{Followed, Followers, Rows, Shared, SyncTransport};
use crate::agent::recovery::{Options, Sweep};
use crate::event::{EventBatch, SEND_ALL};
use crate::handler::SyncReason;
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{Callback, LinkChange, PubSubError, Source, SubscriberApi};
use crate::util::thread::{Ending, Handle, Thread};

pub use self::inbox::Inbox;

crate::metrics! {
    /// What the service counts of the rows of the publishers that it follows.
    pub struct PeersMetrics {
        rows_changed_total: Counter = "States of rows taken over from other publishers.",
        rows_known_total: Counter = "States of rows heard from other publishers that were known, or older than what is.",
        rows_left_out_total: Counter = "Events of other publishers without a stamp, or with this one's.",
        rows_ended_total: Counter = "Rows that ended because a complete snapshot of who stamped them lacks them.",
    }
}

/// What comes of a publisher that is followed.
#[derive(Debug)]
pub enum Heard {
    /// States of rows.
    Rows(EventBatch),
    /// A complete snapshot of a topic.
    Snapshot(Sweep),
}

/// Topics that one publisher is followed on.
const MAX_TOPICS: usize = 10_000;

/// Topics that are subscribed to, at all publishers alike. Until a hello comes that is done in two
/// forms, and a publisher ends a connection with more subscriptions than `max_subscriptions`, 10,000
/// unless configured. What happens on other topics is found by hellos, and fetched.
const MAX_SUBSCRIBED: usize = 4_000;

/// Batches that may wait for the service; its thread takes them whatever happens.
const WAITING: usize = 16;

/// How long the thread's end is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way for what is heard to get to the service: what followers hold, and what the service holds.
pub fn channel() -> (Sender<Heard>, Receiver<Heard>) {
    bounded(WAITING)
}

/// What following is made of.
pub struct Parts {
    /// Not yet initialized.
    pub subscriber: Box<dyn SubscriberApi>,
    /// The publishers.
    pub publishers: Vec<Endpoint>,
    /// How to reach their sync services.
    pub transport: Arc<dyn SyncTransport>,
    /// Bounds and times.
    pub options: Options,
    /// Where what is heard goes.
    pub heard: Sender<Heard>,
}

/// One publisher that is followed.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What its reader counts.
    pub source: Arc<Source>,
    /// Where its recovery stands; `None` for a moment at the start and the end.
    pub followed: Option<Arc<Followed>>,
}

/// What the thread that owns the subscriber is asked.
enum Command {
    /// Subscribe to these topics.
    Topics(Vec<Arc<str>>),
    #[cfg(test)]
    Break,
}

/// The publishers that are followed. Dropping it ends that.
pub struct Peers {
    /// The thread that owns the subscriber. It waits for nothing but to be asked.
    pub thread: Handle,
    #[cfg(test)]
    commands: Sender<Command>,
    sources: Vec<Arc<Source>>,
    shared: Arc<Shared>,
}

impl Peers {
    /// Begins to follow.
    ///
    /// # Errors
    /// When an address cannot be followed by this driver, or a thread cannot be started.
    pub fn start(parts: Parts) -> Result<Self, PubSubError> {
        let mut subscriber = parts.subscriber;
        for endpoint in &parts.publishers {
            if !subscriber.register_listen_address(endpoint)? {
                log::warn!("peer {endpoint} is named twice");
            }
        }
        subscriber.register_topic(SEND_ALL)?;
        let (commands, inbox) = unbounded();
        let rows: Arc<dyn Rows> = Arc::new(Front {
            heard: parts.heard.clone(),
            commands: commands.clone(),
        });
        let shared = Shared::new(Arc::clone(&rows), 0, Duration::ZERO, Vec::new());
        let shared = Arc::new(shared);
        subscriber.initialize(Arc::new(Followers {
            sink: Arc::new(Heard::sink(parts.heard)),
            rows,
            transport: parts.transport,
            options: Options {
                all_topics: MAX_TOPICS,
                ..parts.options
            },
            // There is no handler that could start over.
            legacy_resync: Duration::from_secs(86_400),
            shared: Arc::clone(&shared),
        }))?;
        subscriber.daemonize()?;
        let sources = subscriber.sources();
        let (stop, stopped) = bounded(0);
        let run = move || subscribe(subscriber, &inbox, &stopped);
        let thread = Thread::spawn("peers", run).map_err(|error| PubSubError::System {
            what: "cannot follow other publishers".into(),
            why: error.to_string(),
        })?;
        let ending = Ending {
            // It waits for nothing else.
            tell: Box::new(move || drop::<Sender<()>>(stop)),
            within: PATIENCE,
            late: "the thread that follows other publishers does not end; left behind",
        };
        Ok(Peers {
            thread: Handle::new(thread, ending),
            #[cfg(test)]
            commands,
            sources,
            shared,
        })
    }

    #[cfg(test)]
    pub(crate) fn break_down(&self) {
        assert!(self.commands.send(Command::Break).is_ok());
    }

    /// Each of them, by address.
    pub fn each(&self) -> Vec<Peer> {
        let followed = self.shared.followed();
        let of = |uri: &str| {
            let mut followed = followed.iter();
            let found = followed.find(|(known, _)| known == uri);
            found.map(|(_, followed)| Arc::clone(followed))
        };
        let sources = self.sources.iter();
        sources
            .map(|source| Peer {
                source: Arc::clone(source),
                followed: of(&source.uri),
            })
            .collect()
    }
}

/// Owns the subscriber: subscribes to the topics that are heard of, at all publishers, since the next
/// of the topic may come from any.
fn subscribe(
    mut subscriber: Box<dyn SubscriberApi>,
    commands: &Receiver<Command>,
    stopped: &Receiver<()>,
) {
    let mut known = HashSet::new();
    loop {
        crossbeam_channel::select! {
            recv(stopped) -> _ => break,
            recv(commands) -> command => match command {
                Ok(Command::Topics(names)) => {
                    for name in names {
                        if known.len() >= MAX_SUBSCRIBED || !known.insert(Arc::clone(&name)) {
                            continue;
                        }
                        if let Err(error) = subscriber.register_topic(&name) {
                            log::error!("a topic of another publisher is not followed: {error}");
                        }
                    }
                }
                #[cfg(test)]
                Ok(Command::Break) => panic!("as the test wants it"),
                Err(_) => break,
            },
        }
    }
    subscriber.close();
}

/// Takes the rows of followers on their readers' threads.
struct Front {
    heard: Sender<Heard>,
    commands: Sender<Command>,
}

impl Rows for Front {
    fn sweep(&self, sweep: Sweep) -> u64 {
        hand_on(&self.heard, Heard::Snapshot(sweep));
        0
    }

    fn topics(&self, topics: Vec<Arc<str>>) {
        if self.commands.send(Command::Topics(topics)).is_err() {
            log::debug!("topics of another publisher come too late: it is followed no longer");
        }
    }

    fn open(&self, _: SyncReason) {}

    fn resync(&self, _: SyncReason, _: Vec<Arc<str>>) {}
}

struct Sink(Sender<Heard>);

impl Heard {
    fn sink(to: Sender<Heard>) -> impl Callback {
        Sink(to)
    }
}

impl Callback for Sink {
    fn events(&self, _: &Source, events: EventBatch) {
        hand_on(&self.0, Heard::Rows(events));
    }

    fn link(&self, _: &Source, _: LinkChange) {}
}

/// Waits for the service, which takes what is heard also while it accepts nothing else: at most for
/// one group of events on its way to the disk.
fn hand_on(to: &Sender<Heard>, heard: Heard) {
    if to.send(heard).is_err() {
        log::debug!("rows of another publisher come too late: the service has ended");
    }
}
