//! The request socket of the publisher service: the side of [`super::submit`] that answers.
//!
//! One thread owns the ROUTER socket. It reads and checks requests, hands them to the service over
//! a bounded channel, and sends the answers that the service gives from its own thread. While the
//! channel is full, or too many bytes await an answer, it reads nothing: the clients' windows and
//! spools fill, and their callers are told.

mod desk;
mod reply_to;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::submit::{MAX_EVENT, MAX_REQUEST, MAX_WINDOW, Producer};
use crate::event::EventBatch;
use crate::pubsub::driver::zmq::bound::{Access, Bound};
use crate::pubsub::driver::zmq::failed;
use crate::pubsub::driver::zmq::watch::Watch;
use crate::pubsub::endpoint::{Endpoint, check_ipc_path};
use crate::pubsub::{PeerRules, PubSubError};
use crate::util::pulse::Pulse;
use crate::util::thread::{Ending, Handle, Thread};
use crate::util::users::Users;
use crate::util::waker;

pub use reply_to::ReplyTo;

use self::desk::Desk;
use self::reply_to::Command;
use self::server::Server;

crate::metrics! {
    /// What the request socket counts.
    pub struct RequestMetrics {
        requests_total: Counter = "Requests of publishing clients handed to the service.",
        requests_malformed_total: Counter = "Requests that could not be read; answered and dropped.",
        request_connections_refused_total: Counter = "Connections of users who may not use the socket.",
        request_events_refused_total: Counter = "Events in requests that no publisher would take.",
        replies_total: Counter = "Answers sent to publishing clients.",
        replies_lost_total: Counter = "Answers whose client is gone or does not read.",
    }
}

/// Events that a client awaits an answer for.
#[derive(Debug)]
pub struct Submitted {
    /// Who numbered them.
    pub producer: Producer,
    /// The producer's first number that is not acknowledged; see [`super::submit::hole`].
    pub floor: u64,
    /// Number of the first.
    pub first: u64,
    /// The events, without stamps. One that no publisher would take ([`super::submit::check`]) is
    /// there without table, key, action and with an empty topic, so that numbers match places; it
    /// must not be published, and [`ReplyTo::send`] adds its refusal.
    pub events: EventBatch,
    /// The writer's version of each.
    pub versions: Vec<Option<u64>>,
    /// Whom to answer.
    pub reply: ReplyTo,
}

/// How the request socket behaves.
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// The group whose members may use the socket; `None`: nobody but this user.
    pub socket_group: Option<String>,
    /// Which users may, where not all of that group.
    pub socket_users: Users,
    /// Longest event in wire form, bytes (`max_message_size`).
    pub max_event: usize,
    /// Requests are read while fewer bytes than this await an answer.
    pub max_waiting: usize,
}

impl Default for RequestOptions {
    fn default() -> Self {
        RequestOptions {
            socket_group: None,
            socket_users: Users::default(),
            max_event: 4 << 20,
            max_waiting: 64 << 20,
        }
    }
}

/// Most that the answers on their way are waited for at the end.
const LINGER: Duration = Duration::from_millis(200);

/// How long its end is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests libzmq may hold per client; the others wait in the client.
const RECEIVE_HWM: i32 = 4;

/// The running socket. Dropping it sends the answers that were given, closes the socket and waits
/// for the thread.
pub struct Requests {
    /// Its thread.
    pub thread: Handle,
    #[cfg(test)]
    commands: Arc<waker::Commands<Command>>,
    /// Whether its thread gets on. It wakes twice a second, so that one without a beat is stuck or dead.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub metrics: Arc<RequestMetrics>,
}

impl Requests {
    /// Binds `path` and starts the thread; requests go to `sink`, which should be bounded.
    pub fn start(
        context: &zmq::Context,
        path: &Path,
        options: &RequestOptions,
        sink: Sender<Submitted>,
    ) -> Result<Self, PubSubError> {
        check_ipc_path(&path.to_string_lossy())?;
        let endpoint = Endpoint::Ipc { path: path.into() };
        let cannot = |why: std::io::Error| PubSubError::System {
            what: format!("cannot serve {endpoint}"),
            why: why.to_string(),
        };
        let socket = context
            .socket(zmq::ROUTER)
            .and_then(|socket| configure(&socket).map(|()| socket))
            .map_err(failed(format!("cannot open a socket for {endpoint}")))?;
        let access = Access {
            group: options.socket_group.clone(),
            users: options.socket_users.clone(),
        };
        let watch = match access.is_limited() {
            true => {
                let rules = PeerRules::default();
                Some(Watch::of(context, &socket, rules, (None, 0), None)?)
            }
            false => None,
        };
        let mut bound = Bound::new(&endpoint, access);
        bound.fill(socket, watch)?;
        bound.open()?;
        let (commands, inbox) = waker::channel().map_err(cannot)?;
        let commands = Arc::new(commands);
        let metrics = Arc::new(RequestMetrics::default());
        let desk = Desk::new(options.max_event.min(MAX_EVENT), Arc::clone(&metrics));
        let pulse = Arc::<Pulse>::default();
        pulse.beat();
        let server = Server::new(server::Parts {
            bound,
            uri: endpoint.to_string(),
            inbox,
            commands: Arc::clone(&commands),
            sink,
            desk,
            max_waiting: options.max_waiting,
            metrics: Arc::clone(&metrics),
            pulse: Arc::clone(&pulse),
        });
        let thread = Thread::spawn("requests", move || server.run()).map_err(cannot)?;
        let told = Arc::clone(&commands);
        let ending = Ending {
            tell: Box::new(move || _ = told.send(Command::Stop)),
            within: PATIENCE,
            late: "the thread of the request socket does not end; left behind",
        };
        Ok(Requests {
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

fn configure(socket: &zmq::Socket) -> zmq::Result<()> {
    // A client that does not read costs this many replies; more are dropped and counted, where
    // without the flag they would be dropped in silence.
    socket.set_sndhwm(2 * MAX_WINDOW as i32)?;
    socket.set_router_mandatory(true)?;
    socket.set_rcvhwm(RECEIVE_HWM)?;
    // Up to twice the limit a request is answered with a reason; beyond, the connection is cut.
    socket.set_maxmsgsize(2 * MAX_REQUEST as i64)?;
    socket.set_handshake_ivl(5_000)?;
    socket.set_linger(LINGER.as_millis() as i32)
}
