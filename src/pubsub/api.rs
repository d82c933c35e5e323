//! The contracts of the pluggable infrastructure. The names are those of the system this
//! implements (Dragonflow's `pub_sub_api`), so that its operators and authors find their way.

use std::sync::Arc;
use std::time::Duration;

use crate::event::codec::{self, Malformed};
use crate::event::topic::{self, TopicError};
use crate::event::{Event, EventBatch};
use crate::metrics::Metric;
use crate::security::party::{NodeKeys, ServerKey};
use crate::util::pulse::Pulse;
use crate::util::users::Users;

use super::endpoint::{Endpoint, EndpointError};
use super::subscriber::Follow;

/// What can go wrong at this layer, named by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum PubSubError {
    /// The address cannot be used; the configuration must be mended.
    #[error(transparent)]
    Address(#[from] EndpointError),
    /// The topic cannot be used; the caller must choose another.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The driver does not speak this transport; the configuration must be mended.
    #[error("driver {driver} does not speak {uri}")]
    Unsupported {
        /// The driver's alias.
        driver: &'static str,
        /// The address it was given.
        uri: String,
    },
    /// Another process has the address; stop it or choose another.
    #[error("{uri} is in use by {}", pid.map_or("another process".into(), |pid| format!("process {pid}")))]
    InUse {
        /// The address.
        uri: String,
        /// The other process, where it is known.
        pid: Option<u32>,
    },
    /// A call that needs `initialize` (or must come before it) came at the wrong time.
    #[error("{0}")]
    Misuse(&'static str),
    /// The peer takes no more just now; trying again may help.
    #[error("{uri} takes no more just now")]
    Busy {
        /// The address.
        uri: String,
    },
    /// The operating system or libzmq refused; trying again may help.
    #[error("{what}: {why}")]
    System {
        /// What was tried, with the address or path.
        what: String,
        /// The system's reason.
        why: String,
    },
}

/// A driver: how events travel.
pub trait PubSubApi: Send {
    /// A publisher that is not yet initialized.
    fn publisher(&self, options: &PublisherOptions) -> Result<Box<dyn PublisherApi>, PubSubError>;

    /// A subscriber that is not yet initialized.
    fn subscriber(
        &self,
        options: &SubscriberOptions,
    ) -> Result<Box<dyn SubscriberApi>, PubSubError>;
}

/// Sends events. Its owner is the only one to use it: it may move between threads but is never
/// shared, since a ZeroMQ socket must not be.
pub trait PublisherApi: Send {
    /// Opens the address. Must not leave anything open on error.
    fn initialize(&mut self) -> Result<(), PubSubError>;

    /// Sends one event to `topic`; `None` means the event's own, else
    /// [`crate::event::SEND_ALL`]. Must not wait for a subscriber.
    fn send_event(&mut self, event: &Event<'_>, topic: Option<&str>) -> Result<(), PubSubError> {
        let name = topic.unwrap_or_else(|| event.topic_or_all());
        topic::check(name)?;
        let text = event.table.len() + event.key.len() + event.value.map_or(0, str::len);
        // Room for the rest of the map, too: it is allocated once.
        let mut payload = Vec::with_capacity(text + name.len() + 128);
        codec::encode(event, &mut payload);
        self.send_payload(name, &payload)
    }

    /// Sends a payload that is in wire form already, on any topic, reserved ones too.
    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError>;

    /// Control over those who subscribe. `None`, the default, where the driver cannot tell who they are nor
    /// end their connections: a publisher service that has to keep somebody out does not start with it.
    fn control(&mut self) -> Option<&mut dyn PeerControl> {
        None
    }

    /// Closes the address; what was sent is given at most the options' `linger` to leave.
    fn close(&mut self);
}

/// What a publisher service sees of those who subscribe, and does with them.
pub trait PeerControl {
    /// Shows the changes of subscriptions since the last call, without waiting. Where
    /// [`PeerRules::guarded`] is set, one that is added takes effect only if `see` says so; where it
    /// is not, what `see` says counts for nothing. Must not take long, whatever peers send: says whether
    /// there are more to be shown.
    fn subscriptions(
        &mut self,
        see: &mut dyn FnMut(&Subscription<'_>) -> bool,
    ) -> Result<bool, PubSubError>;

    /// Whether subscriptions take effect only with leave from now on. Counts after the next
    /// [`PeerControl::cut`].
    fn guard(&mut self, guarded: bool);

    /// Ends the connections of the nodes that `whose` names, which then connect anew and ask again
    /// for what they want. Says how many those were.
    fn end_connections(&mut self, whose: &mut dyn FnMut(&str) -> bool) -> usize;

    /// Ends every connection at once, whatever is on its way, so that all peers have to prove anew who
    /// they are; then opens the address again. Says whether it is open: if not, to be called again
    /// with `false`, which cuts nobody.
    ///
    /// # Errors
    /// The address cannot be opened for another reason than that it is not yet free.
    fn cut(&mut self, connections: bool) -> Result<bool, PubSubError>;

    /// What became of peers since the last call, as far as the driver can tell.
    fn peers(&mut self) -> PeerCounts;
}

/// A change of what a peer subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// What is sent to it begins so.
    pub prefix: &'a [u8],
    /// Whether it was added; else it is over.
    pub added: bool,
    /// The node that the peer was admitted as; `None` where peers prove nothing.
    pub node: Option<&'a str>,
}

/// What the peers of a publisher may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRules {
    /// Whether each subscription needs leave.
    pub guarded: bool,
    /// Connections; the newest beyond are ended.
    pub max_connections: usize,
    /// Connections that have not sent anything yet, those in the middle of the handshake included;
    /// the oldest beyond are ended, so that whoever does nothing keeps nobody out.
    pub max_silent: usize,
    /// Subscriptions of one connection, of 20 bytes each on average; one that asks for more is ended.
    pub max_subscriptions: usize,
    /// The same of all connections; one that asks for more is ended.
    pub max_all_subscriptions: usize,
}

impl Default for PeerRules {
    fn default() -> Self {
        PeerRules {
            guarded: false,
            max_connections: 10_000,
            max_silent: 1_024,
            max_subscriptions: 10_000,
            max_all_subscriptions: 1_000_000,
        }
    }
}

/// What became of the peers of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerCounts {
    /// Connections that are open, those in the middle of the handshake included.
    pub open: u64,
    /// Handshakes that failed, since the last call.
    pub refused: u64,
    /// Connections ended because there were too many, since the last call.
    pub crowded: u64,
    /// Connections ended because of too many subscriptions, since the last call.
    pub greedy: u64,
    /// Connections ended because they sent what no subscriber sends, or more changes of subscriptions
    /// than any makes, since the last call.
    pub unruly: u64,
    /// Connections ended because what they sent could not be told from what others sent, since the
    /// last call; they connect anew.
    pub unclear: u64,
    /// Connections ended to make room for what others are sent, since the last call; only of the sync service.
    pub unread: u64,
    /// Connections ended because they took nothing of what was sent to them, since the last call.
    pub stuck: u64,
    /// Addresses kept out for a while because of what came from them, since the last call; only where
    /// peers prove nothing.
    pub cast_out: u64,
    /// Connections of such addresses that were ended for no other reason, since the last call. Most that
    /// ask for one do not get as far.
    pub kept_out: u64,
}

/// Receives events of every registered publisher. All calls may come before and after
/// [`SubscriberApi::daemonize`].
pub trait SubscriberApi: Send {
    /// Names the receiver of events. To be called once, before `daemonize`.
    fn initialize(&mut self, callback: Arc<dyn Callback>) -> Result<(), PubSubError>;

    /// Adds a publisher's address; `Ok(false)` when it is there already.
    fn register_listen_address(&mut self, endpoint: &Endpoint) -> Result<bool, PubSubError>;

    /// Removes a publisher's address; `false` when it was not there.
    fn unregister_listen_address(&mut self, endpoint: &Endpoint) -> bool;

    /// Adds a topic; `Ok(false)` when it is there already.
    fn register_topic(&mut self, topic: &str) -> Result<bool, PubSubError>;

    /// Removes a topic; `false` when it was not there.
    fn unregister_topic(&mut self, topic: &str) -> bool;

    /// Starts the receiving threads and returns.
    fn daemonize(&mut self) -> Result<(), PubSubError>;

    /// Whether `daemonize` was called and `close` was not.
    fn is_running(&self) -> bool;

    /// The registered publishers.
    fn sources(&self) -> Vec<Arc<Source>>;

    /// Stops the receiving threads and waits for them, at most half a second. Dropping does the same.
    fn close(&mut self);
}

/// Who is told of events. Called on the readers' threads, of which there is one per publisher.
pub trait Callback: Send + Sync {
    /// Events of one publisher in the order it sent them, each a change of a row (table and key
    /// are not empty, the action is not `Other`). Must not block: the reader also keeps the
    /// connection.
    fn events(&self, source: &Source, events: EventBatch);

    /// The connection to a publisher changed. Must not block.
    fn link(&self, source: &Source, change: LinkChange);

    /// What follows `source` in place of `events` and `link`, where more than these is wanted; asked
    /// once for each reader, before it starts. `None`, the default: the two are all.
    fn follow(&self, source: &Arc<Source>) -> Option<Box<dyn Follow>> {
        let _ = source;
        None
    }
}

/// What became of the connection to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// Connected, subscriptions are on their way.
    Up {
        /// Whether it was connected before: something may have been missed meanwhile.
        again: bool,
    },
    /// The connection is gone, or proved nothing for too long; it will be made again.
    Down,
}

crate::metrics! {
    /// What one reader counts.
    pub struct LinkMetrics {
        events_received_total: Counter = "Events received and handed on.",
        bytes_received_total: Counter = "Bytes of messages received.",
        events_foreign_total: Counter = "Messages on a topic that only shares a prefix with a subscribed one; dropped.",
        events_not_a_row_total: Counter = "Events that change no row (no table, no key, an unknown action or a topic nobody can name); dropped.",
        messages_malformed_total: Counter = "Messages that are no event; dropped.",
        connects_total: Counter = "Connections made.",
        connects_failed_total: Counter = "Attempts to connect that failed.",
        refusals_total: Counter = "Handshakes that the peer refused or broke off, or that broke the protocol; of workers, connections of users who may not use the socket.",
        disconnects_total: Counter = "Connections lost.",
        silences_total: Counter = "Connections given up because nothing was heard.",
        live: Gauge = "Whether the publisher is connected (1) or not (0).",
        legacy: Gauge = "Whether the publisher is treated as legacy, having sent no hello (1).",
    }
}

/// One publisher's address and what is known of it.
#[derive(Debug)]
pub struct Source {
    /// The address as registered, in canonical form.
    pub uri: String,
    /// What its reader counts.
    pub metrics: LinkMetrics,
    /// Malformed messages by [`Malformed::index`].
    pub malformed: [Metric; Malformed::REASONS.len()],
    /// Whether its reader gets on: at rest while it waits for the publisher.
    pub pulse: Pulse,
}

impl Source {
    /// A publisher nothing is known of.
    pub fn new(uri: String) -> Self {
        Source {
            uri,
            metrics: LinkMetrics::default(),
            malformed: Default::default(),
            pulse: Pulse::default(),
        }
    }
}

/// How a subscriber behaves.
#[derive(Debug, Clone)]
pub struct SubscriberOptions {
    /// Time for a name to be resolved and a connection to be made, handshake included.
    pub connect_timeout: Duration,
    /// First wait before a new attempt; jittered.
    pub reconnect_min: Duration,
    /// Longest wait before a new attempt; jittered.
    pub reconnect_max: Duration,
    /// How often an idle publisher says hello. Three such times without a word mean silence.
    pub max_idle_time: Duration,
    /// A publisher that said no hello for this long after connecting is legacy.
    pub legacy_detect: Duration,
    /// Longest message, both frames together, bytes.
    pub max_message_size: usize,
    /// Messages libzmq may hold for the reader.
    pub receive_hwm: i32,
    /// Most events handed on at once.
    pub batch_events: usize,
    /// A batch is handed on when it holds this many bytes.
    pub batch_bytes: usize,
    /// Who beside its user may use the socket of a driver that binds one on ipc.
    pub socket_group: Option<String>,
    /// Which users may, where not all of that group.
    pub socket_users: Users,
    /// Whom tcp links are secured with; `None`: they are plain text.
    pub keys: Option<Arc<NodeKeys>>,
    /// Seed of the jitter; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for SubscriberOptions {
    fn default() -> Self {
        SubscriberOptions {
            connect_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(10),
            max_idle_time: Duration::from_secs(5),
            legacy_detect: Duration::from_secs(3),
            max_message_size: 4 << 20,
            receive_hwm: 100_000,
            batch_events: 256,
            batch_bytes: 256 << 10,
            socket_group: None,
            socket_users: Users::default(),
            keys: None,
            seed: None,
        }
    }
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// Where to bind (or, over epgm, to send).
    pub endpoint: Endpoint,
    /// Messages libzmq may hold per peer; beyond, a subscriber misses messages, and a worker waits.
    pub send_hwm: i32,
    /// Whether [`PeerControl::subscriptions`] will be called, often; the driver then keeps what it
    /// shows until it is.
    pub subscriptions: bool,
    /// Longest that a worker waits for the publisher service of its host.
    pub send_timeout: Duration,
    /// Most time that `close` gives to messages on their way.
    pub linger: Duration,
    /// Who beside its user may use an address on ipc that it binds.
    pub socket_group: Option<String>,
    /// Which users may, where not all of that group.
    pub socket_users: Users,
    /// Secures tcp; nobody is admitted but by the ZAP handler of the process. `None`: plain text.
    pub key: Option<ServerKey>,
    /// What peers may do; kept where [`PublisherOptions::subscriptions`] is set.
    pub peers: PeerRules,
}
