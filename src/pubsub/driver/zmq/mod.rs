//! `zmq_pubsub_driver`: PUB binds, SUB connects, over tcp, ipc and epgm.
//!
//! One context per process: whoever makes a [`ZmqPubSub`] makes one and hands it around. A socket
//! belongs to the thread that uses it.

pub(crate) mod bound;
mod changes;
pub mod curve;
pub mod ffi;
mod filter;
pub(crate) mod frames;
mod link;
pub(crate) mod monitor;
pub mod multiproc;
mod publisher;
pub(crate) mod router;
mod seats;
pub(crate) mod sender;
pub(crate) mod tcp;
pub(crate) mod unended;
pub(crate) mod watch;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::pubsub::api::{
    PubSubApi, PubSubError, PublisherApi, PublisherOptions, SubscriberApi, SubscriberOptions,
};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::subscriber::{Link, SubscriberAgentBase, Transport};
use crate::util::lock_file::{LockError, LockFile};
use crate::util::poll;

use self::link::ZmqLink;
use self::publisher::ZmqPublisher;

/// The driver's name in the configuration.
pub const ALIAS: &str = "zmq_pubsub_driver";

/// The reference driver.
#[derive(Clone, Default)]
pub struct ZmqPubSub {
    context: ::zmq::Context,
}

impl ZmqPubSub {
    /// The driver with a context of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The driver on the process's context.
    pub fn with_context(context: &::zmq::Context) -> Self {
        ZmqPubSub {
            context: context.clone(),
        }
    }
}

impl PubSubApi for ZmqPubSub {
    fn publisher(&self, options: &PublisherOptions) -> Result<Box<dyn PublisherApi>, PubSubError> {
        supported(&options.endpoint)?;
        Ok(Box::new(ZmqPublisher::new(
            self.context.clone(),
            options.clone(),
        )))
    }

    fn subscriber(
        &self,
        options: &SubscriberOptions,
    ) -> Result<Box<dyn SubscriberApi>, PubSubError> {
        let transport = ZmqTransport {
            context: self.context.clone(),
            options: options.clone(),
        };
        Ok(Box::new(SubscriberAgentBase::new(
            ALIAS,
            Arc::new(transport),
            options.clone(),
        )))
    }
}

fn speaks(endpoint: &Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Memory { .. })
}

fn supported(endpoint: &Endpoint) -> Result<(), PubSubError> {
    match speaks(endpoint) {
        true => Ok(()),
        false => Err(PubSubError::Unsupported {
            driver: ALIAS,
            uri: endpoint.to_string(),
        }),
    }
}

/// Opens SUB sockets.
struct ZmqTransport {
    context: ::zmq::Context,
    options: SubscriberOptions,
}

impl Transport for ZmqTransport {
    fn supports(&self, endpoint: &Endpoint) -> bool {
        speaks(endpoint)
    }

    fn open(&self, endpoint: &Endpoint, uri: &str) -> Result<Box<dyn Link>, PubSubError> {
        Ok(Box::new(ZmqLink::open(
            &self.context,
            endpoint,
            uri,
            &self.options,
        )?))
    }
}

/// libzmq's reason for refusing `what`.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(::zmq::Error) -> PubSubError {
    let what = what.into();
    move |error| PubSubError::System {
        what,
        why: error.to_string(),
    }
}

/// Multicast rate, kbit/s. libzmq's own default suits a shared 100 Mbit network.
const MULTICAST_RATE: i32 = 100_000;

/// How long lost multicast can be asked for again, milliseconds. Rate times this is memory.
const MULTICAST_RECOVERY: i32 = 1_000;

/// Options of both sides of epgm.
fn configure_multicast(socket: &::zmq::Socket) -> ::zmq::Result<()> {
    socket.set_rate(MULTICAST_RATE)?;
    socket.set_recovery_ivl(MULTICAST_RECOVERY)
}

/// How long, in seconds, nothing may come on a tcp connection before the other side's system is asked for a
/// sign of life, and how long it is asked again.
const KEEPALIVE: i32 = 5;
/// How long, in milliseconds, the other side's system may be without one.
const LIFELESS: i32 = 15_000;

/// Has the system give up tcp connections whose other side is gone without a word.
///
/// Not libzmq's heartbeats, on sockets whose input it may stop: where a connection breaks while it waits
/// for room for what came, its next heartbeat ends the process (4.3.4 and later, `out_event` asserts
/// `!_io_error`). Who is there and hangs is found by other means: an agent misses hellos, and a
/// publisher that nobody reads from gives the connection up after the same time.
pub(crate) fn give_up_lifeless(socket: &mut ::zmq::Socket) -> Result<(), PubSubError> {
    let cannot = |why: String| PubSubError::System {
        what: "cannot configure a socket".into(),
        why,
    };
    socket
        .set_tcp_keepalive(1)
        .and_then(|()| socket.set_tcp_keepalive_idle(KEEPALIVE))
        .and_then(|()| socket.set_tcp_keepalive_intvl(KEEPALIVE))
        .and_then(|()| socket.set_tcp_keepalive_cnt(LIFELESS / 1_000 / KEEPALIVE - 1))
        .map_err(|error| cannot(error.to_string()))?;
    ffi::set_int(socket, ffi::TCP_MAXRT, LIFELESS).map_err(|error| cannot(error.to_string()))
}

/// What the system receives, at most, of a connection that libzmq does not read, bytes: subscriptions and
/// requests are short, and whatever is there when a connection is ended must still be gone through. The
/// system's own limit is some 6 MB.
pub(crate) const RECEIVE_BUFFER: i32 = 128 << 10;

/// Binds, on ipc under a lock: a second bind would steal the path without a word. A group
/// of multicast is only sent to.
pub(crate) fn bind(
    socket: &mut ::zmq::Socket,
    endpoint: &Endpoint,
) -> Result<Option<LockFile>, PubSubError> {
    let uri = endpoint.to_string();
    let cannot = |why: String| PubSubError::System {
        what: format!("cannot bind {uri}"),
        why,
    };
    if let Endpoint::Epgm { .. } = endpoint {
        // Several agents and a publisher may share a host.
        return ffi::set_int(socket, ffi::MULTICAST_LOOP, 1)
            .and_then(|()| ffi::connect(socket, &uri))
            .map(|()| None)
            .map_err(|error| PubSubError::System {
                what: format!("cannot send to {uri}"),
                why: error.to_string(),
            });
    }
    let lock = match endpoint {
        Endpoint::Ipc { path } => {
            let mut name = path.clone().into_os_string();
            name.push(".lock");
            match LockFile::acquire(name.as_ref()) {
                Ok(lock) => Some(lock),
                Err(LockError::Held { pid, .. }) => return Err(PubSubError::InUse { uri, pid }),
                Err(error) => return Err(cannot(error.to_string())),
            }
        }
        _ => None,
    };
    match ffi::bind(socket, &uri) {
        Ok(()) => Ok(lock),
        Err(error) if error.code == ffi::EADDRINUSE => Err(PubSubError::InUse { uri, pid: None }),
        Err(error) => Err(cannot(error.to_string())),
    }
}

/// The port that a socket bound to `endpoint` has, where it is known before.
pub(crate) fn bound_port(endpoint: &Endpoint) -> Option<u16> {
    match endpoint {
        Endpoint::Tcp { port, .. } if *port > 0 => Some(*port),
        _ => None,
    }
}

/// As [`wait`], for sockets that are only received from: to be called when a receive on `socket` and
/// on `monitor` has just said that nothing is waiting. libzmq's own poll takes half a dozen system
/// calls more for each event. Says whether `monitor` has something to say.
fn wait_drained(
    socket: &::zmq::Socket,
    monitor: Option<&::zmq::Socket>,
    [bell, other]: [BorrowedFd<'_>; 2],
    timeout: Option<Duration>,
    uri: &str,
) -> Result<bool, PubSubError> {
    let cannot = || failed(format!("cannot wait for {uri}"));
    let data = ffi::fd(socket).map_err(cannot())?;
    let polled = match monitor {
        Some(monitor) => {
            let monitor = ffi::fd(monitor).map_err(cannot())?;
            poll::readable([data, bell, other, monitor], timeout).map(|[.., ready]| ready)
        }
        None => poll::readable([data, bell, other], timeout).map(|_| false),
    };
    polled.map_err(|error| PubSubError::System {
        what: format!("cannot wait for {uri}"),
        why: error.to_string(),
    })
}

/// Waits for a message, a monitor's event or `wake`, at most `timeout`; for sockets that are sent to as
/// well, whatever was done with `socket` before. A receive on `monitor` must just have said that nothing
/// is waiting. As [`wait_drained`], at the cost of asking `socket` once: a send may have taken in the
/// news of a message that came meanwhile, and its descriptor then says nothing more of it.
pub(crate) fn wait(
    socket: &::zmq::Socket,
    monitor: Option<&::zmq::Socket>,
    wake: BorrowedFd<'_>,
    timeout: Option<Duration>,
    uri: &str,
) -> Result<(), PubSubError> {
    match socket.get_events() {
        Ok(events) if events.contains(::zmq::POLLIN) => Ok(()),
        Ok(_) => wait_drained(socket, monitor, [wake, wake], timeout, uri).map(drop),
        Err(::zmq::Error::EINTR) => Ok(()),
        Err(error) => Err(failed(format!("cannot wait for {uri}"))(error)),
    }
}
