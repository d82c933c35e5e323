//! The sync service: the side of [`crate::sync`] that answers.
//!
//! One thread owns the ROUTER socket. What a request needs of journal and rows it asks the thread
//! that publishes, which owns them, in questions of a millisecond at most. What was read is
//! packed here, once for all who ask for the same, and kept within a bound. How many clients may be
//! in the middle of a snapshot is decided by `admission`; `desk` is all the rest of the thinking.

mod admission;
mod ask;
mod cache;
mod debts;
mod desk;
mod door;
mod oracle;
mod pace;
mod server;
mod shelf;
mod snapshot;
#[cfg(test)]
mod tests;
mod waiters;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use fastrand::Rng;

use super::gate::Cuts;
use super::permits::Permits;
use super::reach::Reach;
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{PeerRules, PubSubError};
use crate::security::party::ServerKey;
use crate::util::pulse::Pulse;
use crate::util::thread::{Ending, Handle, Thread};
use crate::util::users::Users;
use crate::util::waker;

pub use ask::Asked;
pub use oracle::Oracle;

use self::ask::Told;
use self::desk::Desk;
use self::door::Door;
use self::pace::Pace;
use self::server::Server;

crate::metrics! {
    /// What the sync service counts.
    pub struct SyncMetrics {
        sync_heads_total: Counter = "Requests for what has moved.",
        sync_replays_total: Counter = "Requests for missed events.",
        sync_topics_total: Counter = "Requests for the topics there are.",
        sync_snapshots_total: Counter = "Requests to begin a snapshot.",
        sync_chunks_total: Counter = "Requests for another chunk of a snapshot.",
        sync_refused_total: Counter = "Requests that could not be read, or of another version of the protocol.",
        sync_hurried_total: Counter = "Requests told to come again later because their client made too many in a second.",
        sync_beyond_total: Counter = "Requests of agents that have more of this incarnation than this publisher has sent: its state is older than what it sent, or the node lies.",
        sync_retry_after_total: Counter = "Requests told to come again later.",
        sync_admitted_total: Counter = "Snapshots begun by clients.",
        sync_lapsed_total: Counter = "Requests for a snapshot that is not kept any more.",
        sync_silent_total: Counter = "Clients that got no further in a snapshot for too long and lost their place.",
        sync_built_total: Counter = "Pieces of journal or snapshot made.",
        sync_shared_total: Counter = "Pieces given that had been made for somebody else.",
        sync_answers_total: Counter = "Answers sent.",
        sync_answers_lost_total: Counter = "Answers whose client is gone or does not read.",
        sync_answers_withheld_total: Counter = "Answers not sent, whose client was told to come again: what it, or all, had been sent before had not arrived.",
        sync_unread_bytes: Gauge = "Bytes of answers that were sent and have not arrived.",
        sync_sent_bytes_total: Counter = "Bytes of answers sent.",
        sync_handshakes_refused_total: Counter = "Connections that were not taken or whose handshake failed, whatever the reason.",
        sync_connections: Gauge = "Connections that are open, those in the middle of the handshake included.",
        sync_connections_crowded_total: Counter = "Connections ended because there were too many, or too many that said nothing.",
        sync_connections_unruly_total: Counter = "Connections ended because they sent a message without end, or requests without end.",
        sync_connections_unclear_total: Counter = "Connections ended because they could not be told from those before them; they come again.",
        sync_connections_stuck_total: Counter = "Connections ended because nothing of what was sent to them had arrived for 8 s.",
        sync_connections_unread_total: Counter = "Connections ended because of all answers that had not arrived their owner had most, and others needed the room.",
        sync_connections_kept_out_total: Counter = "Connections ended because their address or node is kept out; most that ask for one do not get as far.",
        sync_addresses_kept_out_total: Counter = "Times an address was kept out for a minute, without keys: its handshakes failed, or it sent requests without end.",
        sync_clients_snapshot: Gauge = "Clients in the middle of a snapshot.",
        sync_clients_waiting: Gauge = "Clients told to come again for a snapshot.",
        sync_requests_waiting: Gauge = "Requests that wait for journal or rows to be read.",
        sync_snapshots_kept: Gauge = "Snapshots in memory.",
        sync_cache_bytes: Gauge = "Bytes of answers kept for whoever asks for the same.",
    }
}

/// How the service behaves.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Bytes of answers that are kept; what somebody is in the middle of stays beyond that.
    pub cache_bytes: usize,
    /// Clients that may be in the middle of a snapshot.
    pub max_snapshots: usize,
    /// Snapshots that clients may begin per second.
    pub snapshot_rate: u32,
    /// Requests that one client may make in a second.
    pub request_rate: u32,
    /// Most that answers on their way are waited for at the end.
    pub linger: Duration,
    /// Who beside its user may use an address on ipc.
    pub socket_group: Option<String>,
    /// Which users may, where not all of that group.
    pub socket_users: Users,
    /// Secures tcp; nobody is admitted but by the ZAP handler of the process. `None`: plain text.
    pub key: Option<ServerKey>,
    /// When connections are to be ended.
    pub cuts: Cuts,
    /// Who may ask for which topics.
    pub permits: Arc<Permits>,
    /// How far the publisher has come.
    pub reach: Arc<Reach>,
    /// How many connections there may be.
    pub peers: PeerRules,
}

impl Default for SyncOptions {
    fn default() -> Self {
        SyncOptions {
            cache_bytes: 64 << 20,
            max_snapshots: 16,
            snapshot_rate: 50,
            request_rate: 1_000,
            linger: Duration::from_millis(200),
            socket_group: None,
            socket_users: Users::default(),
            key: None,
            cuts: Cuts::default(),
            permits: Arc::default(),
            reach: Arc::default(),
            peers: PeerRules::default(),
        }
    }
}

/// What the service's thread is told.
#[derive(Debug)]
enum Command {
    /// The history's answer to the question of this ticket.
    Told(u64, Told),
    /// End.
    Stop,
    #[cfg(test)]
    Break,
}

/// How long its end is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The running service. Dropping it closes the socket and waits for the thread.
pub struct SyncService {
    /// Its thread.
    pub thread: Handle,
    #[cfg(test)]
    commands: Arc<waker::Commands<Command>>,
    /// Whether its thread gets on. It wakes ten times a second, so that one without a beat is stuck or
    /// dead.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub metrics: Arc<SyncMetrics>,
}

impl SyncService {
    /// Binds `endpoint` and starts the thread. Questions go to `asks`, which the history's thread
    /// reads; the service bounds how many there are.
    pub fn start(
        context: &zmq::Context,
        endpoint: &Endpoint,
        options: &SyncOptions,
        asks: Sender<Asked>,
    ) -> Result<Self, PubSubError> {
        let cannot = |why: std::io::Error| PubSubError::System {
            what: format!("cannot serve {endpoint}"),
            why: why.to_string(),
        };
        let uri = endpoint.to_string();
        let door = Door::open(context, endpoint, options)?;
        let (commands, inbox) = waker::channel().map_err(cannot)?;
        let commands = Arc::new(commands);
        let metrics = Arc::new(SyncMetrics::default());
        let pulse = Arc::<Pulse>::default();
        pulse.beat();
        let server = Server::new(server::Parts {
            door,
            uri,
            inbox,
            commands: Arc::clone(&commands),
            asks,
            desk: Desk::new(options, Arc::clone(&metrics), Instant::now(), Rng::new()),
            metrics: Arc::clone(&metrics),
            pulse: Arc::clone(&pulse),
            permits: Arc::clone(&options.permits),
            reach: Arc::clone(&options.reach),
            pace: Pace::new(options.request_rate, Instant::now()),
        });
        let thread = Thread::spawn("sync", move || server.run()).map_err(cannot)?;
        let told = Arc::clone(&commands);
        let ending = Ending {
            tell: Box::new(move || _ = told.send(Command::Stop)),
            within: PATIENCE,
            late: "the thread of the sync service does not end; left behind",
        };
        Ok(SyncService {
            thread: Handle::new(thread, ending),
            #[cfg(test)]
            commands,
            pulse,
            metrics,
        })
    }

    #[cfg(test)]
    pub(crate) fn break_down(&self) {
        assert!(self.commands.send(Command::Break));
    }
}
