//! `zmq_pubsub_multiproc_driver`: PULL binds, PUSH connects, on a unix socket of one host.
//!
//! It carries events from the API workers of a host to its publisher service. Nothing selects by
//! topic: the service takes everything.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use zmq::Socket;

use super::bound::Access;
use super::frames::Frames;
use super::monitor::{self, Monitor, NOT_ACCEPTED};
use super::{bind, failed, ffi, wait_drained};
use crate::event::topic;
use crate::pubsub::api::{
    PubSubApi, PubSubError, PublisherApi, PublisherOptions, SubscriberApi, SubscriberOptions,
};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::subscriber::{Link, Received, Signal, SubscriberAgentBase, Transport};
use crate::util::lock_file::LockFile;

/// The driver's name in the configuration.
pub const ALIAS: &str = "zmq_pubsub_multiproc_driver";

/// The reference driver between the processes of one host.
#[derive(Clone, Default)]
pub struct ZmqMultiproc {
    context: zmq::Context,
}

impl ZmqMultiproc {
    /// The driver with a context of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The driver on the process's context.
    pub fn with_context(context: &zmq::Context) -> Self {
        ZmqMultiproc {
            context: context.clone(),
        }
    }
}

impl PubSubApi for ZmqMultiproc {
    fn publisher(&self, options: &PublisherOptions) -> Result<Box<dyn PublisherApi>, PubSubError> {
        supported(&options.endpoint)?;
        Ok(Box::new(Worker {
            context: self.context.clone(),
            options: options.clone(),
            socket: None,
            frame: Vec::new(),
        }))
    }

    fn subscriber(
        &self,
        options: &SubscriberOptions,
    ) -> Result<Box<dyn SubscriberApi>, PubSubError> {
        let transport = PullTransport {
            context: self.context.clone(),
            receive_hwm: options.receive_hwm,
            max_message_size: options.max_message_size,
            access: Access {
                group: options.socket_group.clone(),
                users: options.socket_users.clone(),
            },
        };
        Ok(Box::new(SubscriberAgentBase::new(
            ALIAS,
            Arc::new(transport),
            options.clone(),
        )))
    }
}

fn supported(endpoint: &Endpoint) -> Result<(), PubSubError> {
    match endpoint {
        Endpoint::Ipc { .. } => Ok(()),
        other => Err(PubSubError::Unsupported {
            driver: ALIAS,
            uri: other.to_string(),
        }),
    }
}

/// The sending side, in an API worker. Connects at the first event, so that it may be made before a
/// server forks its workers.
struct Worker {
    context: zmq::Context,
    options: PublisherOptions,
    socket: Option<Socket>,
    frame: Vec<u8>,
}

impl Worker {
    fn connect(&self) -> Result<Socket, PubSubError> {
        let uri = self.options.endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(zmq::PUSH).map_err(cannot())?;
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        socket.set_sndhwm(self.options.send_hwm).map_err(cannot())?;
        socket
            .set_sndtimeo(millis(self.options.send_timeout))
            .map_err(cannot())?;
        socket
            .set_linger(millis(self.options.linger))
            .map_err(cannot())?;
        // Queue for a service that is there, not for one that may come.
        socket.set_immediate(true).map_err(cannot())?;
        ffi::connect(&mut socket, &uri).map_err(|error| PubSubError::System {
            what: format!("cannot connect to {uri}"),
            why: error.to_string(),
        })?;
        Ok(socket)
    }
}

impl PublisherApi for Worker {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        Ok(())
    }

    /// Waits at most the options' `send_timeout` for a service that is down or full, then fails
    /// with [`PubSubError::Busy`].
    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        let socket = self.socket.insert(socket);
        topic::write_frame(topic, &mut self.frame);
        let cannot = |error: zmq::Error| match error {
            zmq::Error::EAGAIN => PubSubError::Busy {
                uri: self.options.endpoint.to_string(),
            },
            error => failed(format!("cannot send to {}", self.options.endpoint))(error),
        };
        socket.send(&self.frame[..], zmq::SNDMORE).map_err(cannot)?;
        socket.send(payload, 0).map_err(cannot)
    }

    fn close(&mut self) {
        self.socket = None;
    }
}

struct PullTransport {
    context: zmq::Context,
    receive_hwm: i32,
    max_message_size: usize,
    access: Access,
}

impl Transport for PullTransport {
    fn supports(&self, endpoint: &Endpoint) -> bool {
        supported(endpoint).is_ok()
    }

    fn selects(&self) -> bool {
        false
    }

    fn open(&self, endpoint: &Endpoint, _uri: &str) -> Result<Box<dyn Link>, PubSubError> {
        let cannot = || failed(format!("cannot open a socket for {endpoint}"));
        let mut socket = self.context.socket(zmq::PULL).map_err(cannot())?;
        socket.set_linger(0).map_err(cannot())?;
        socket.set_rcvhwm(self.receive_hwm).map_err(cannot())?;
        // As on the network: over the limit costs the message, far over it the connection.
        let hard_limit = self.max_message_size.saturating_mul(4);
        let hard_limit = i64::try_from(hard_limit).unwrap_or(i64::MAX);
        socket.set_maxmsgsize(hard_limit).map_err(cannot())?;
        self.access.admit(&mut socket)?;
        let monitor = match self.access.is_limited() {
            true => Some(Monitor::of(&self.context, &socket, NOT_ACCEPTED)?),
            false => None,
        };
        let mut link = PullLink {
            uri: endpoint.to_string(),
            socket,
            frames: Frames::new(),
            up: Some(Signal::Up),
            monitor,
            lock: None,
        };
        link.lock = bind(&mut link.socket, endpoint)?;
        self.access.share(endpoint)?;
        Ok(Box::new(link))
    }
}

/// The receiving side.
struct PullLink {
    uri: String,
    socket: Socket,
    frames: Frames,
    up: Option<Signal>,
    /// Where not everybody may connect: tells of those who tried.
    monitor: Option<Monitor>,
    /// Held until the socket is closed.
    lock: Option<LockFile>,
}

impl Link for PullLink {
    fn subscribe(&mut self, _prefix: &[u8]) -> Result<(), PubSubError> {
        Ok(())
    }

    fn unsubscribe(&mut self, _prefix: &[u8]) -> Result<(), PubSubError> {
        Ok(())
    }

    fn receive(&mut self) -> Result<Received<'_>, PubSubError> {
        self.frames.receive(&self.socket, &self.uri)
    }

    fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        if let Some(up) = self.up.take() {
            return Ok(Some(up));
        }
        let Some(monitor) = &mut self.monitor else {
            return Ok(None);
        };
        let mut away = 0;
        while monitor.event()?.is_some() {
            away += 1;
        }
        Ok((away > 0).then_some(Signal::TurnedAway(away)))
    }

    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError> {
        match self.up {
            Some(_) => Ok(()),
            None => {
                let monitor = self.monitor.as_ref().map(Monitor::socket);
                wait_drained(&self.socket, monitor, wakes, timeout, &self.uri).map(drop)
            }
        }
    }
}

impl Drop for PullLink {
    fn drop(&mut self) {
        if self.monitor.is_some() {
            monitor::end(&mut self.socket, &self.uri);
        }
    }
}
