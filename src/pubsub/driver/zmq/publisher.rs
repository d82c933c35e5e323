//! The sending side: a PUB or XPUB socket.

use zmq::Socket;

use super::monitor::Refusals;
use super::{bind, configure_multicast, curve, failed, ffi};
use crate::event::topic;
use crate::pubsub::api::{PubSubError, PublisherApi, PublisherOptions};
use crate::pubsub::endpoint::Endpoint;
use crate::util::lock_file::LockFile;

pub struct ZmqPublisher {
    context: zmq::Context,
    options: PublisherOptions,
    socket: Option<Socket>,
    lock: Option<LockFile>,
    refusals: Option<Refusals>,
    frame: Vec<u8>,
}

impl ZmqPublisher {
    pub fn new(context: zmq::Context, options: PublisherOptions) -> Self {
        ZmqPublisher {
            context,
            options,
            socket: None,
            lock: None,
            refusals: None,
            frame: Vec::new(),
        }
    }

    /// XPUB shows who subscribes to what; its messages must then be read. Multicast has none.
    fn tells_subscriptions(&self) -> bool {
        self.options.subscriptions && !matches!(self.options.endpoint, Endpoint::Epgm { .. })
    }

    fn kind(&self) -> zmq::SocketType {
        if self.tells_subscriptions() {
            zmq::XPUB
        } else {
            zmq::PUB
        }
    }

    fn configure(&self, socket: &Socket) -> zmq::Result<()> {
        socket.set_sndhwm(self.options.send_hwm)?;
        let linger = i32::try_from(self.options.linger.as_millis()).unwrap_or(i32::MAX);
        socket.set_linger(linger)?;
        socket.set_handshake_ivl(5_000)?;
        socket.set_heartbeat_ivl(5_000)?;
        socket.set_heartbeat_timeout(15_000)?;
        match &self.options.endpoint {
            Endpoint::Epgm { .. } => configure_multicast(socket),
            other => socket.set_ipv6(other.to_string().contains('[')),
        }
    }

    /// A socket as it is before it has an address.
    fn make(&mut self) -> Result<Socket, PubSubError> {
        let uri = self.options.endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(self.kind()).map_err(cannot())?;
        self.configure(&socket).map_err(cannot())?;
        if self.tells_subscriptions() {
            ffi::set_int(&mut socket, ffi::XPUB_VERBOSER, 1).map_err(|error| {
                PubSubError::System {
                    what: format!("cannot configure {uri}"),
                    why: error.to_string(),
                }
            })?;
        }
        curve::binds(
            &mut socket,
            self.options.key.as_ref(),
            &self.options.endpoint,
        )?;
        if self.options.key.is_some() {
            self.refusals = Some(Refusals::of(&self.context, &socket)?);
        }
        Ok(socket)
    }

    /// Drops the socket with its connections, and what watches it.
    fn drop_socket(&mut self) {
        if let Some(mut socket) = self.socket.take()
            && self.refusals.take().is_some()
            && let Err(error) = ffi::stop_monitor(&mut socket)
        {
            let uri = &self.options.endpoint;
            log::error!("cannot end the monitor of {uri}: {error}");
        }
    }
}

const CLOSED: PubSubError = PubSubError::Misuse("initialize comes before send_event");

impl Drop for ZmqPublisher {
    fn drop(&mut self) {
        self.drop_socket();
    }
}

impl PublisherApi for ZmqPublisher {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        if self.socket.is_some() {
            return Ok(());
        }
        let mut socket = self.make()?;
        if let Endpoint::Epgm { .. } = &self.options.endpoint {
            let uri = self.options.endpoint.to_string();
            // Several agents and a publisher may share a host.
            ffi::set_int(&mut socket, ffi::MULTICAST_LOOP, 1)
                .and_then(|()| ffi::connect(&mut socket, &uri))
                .map_err(|error| PubSubError::System {
                    what: format!("cannot send to {uri}"),
                    why: error.to_string(),
                })?;
        } else {
            self.lock = bind(&mut socket, &self.options.endpoint)?;
        }
        self.socket = Some(socket);
        Ok(())
    }

    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        topic::write_frame(topic, &mut self.frame);
        let socket = self.socket.as_ref().ok_or(CLOSED)?;
        // The text is made for an error only: this is called for every event.
        let cannot =
            |error: zmq::Error| failed(format!("cannot send on {}", self.options.endpoint))(error);
        // It never waits: a subscriber that is full misses the message.
        socket.send(&self.frame[..], zmq::SNDMORE).map_err(cannot)?;
        socket.send(payload, 0).map_err(cannot)
    }

    fn subscriptions(&mut self, see: &mut dyn FnMut(&[u8], bool)) -> Result<(), PubSubError> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.tells_subscriptions()) else {
            return Ok(());
        };
        let mut message = zmq::Message::new();
        loop {
            match socket.recv(&mut message, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(()),
                Err(error) => {
                    let what = format!("cannot read subscriptions of {}", self.options.endpoint);
                    return Err(failed(what)(error));
                }
            }
            // Anything else is a message of a subscriber's own, which nobody asked for.
            match message.split_first() {
                Some((1, prefix)) => see(prefix, true),
                Some((0, prefix)) => see(prefix, false),
                _ => {}
            }
        }
    }

    fn cut(&mut self, connections: bool) -> Result<bool, PubSubError> {
        if connections {
            if let Some(socket) = &self.socket {
                let cannot = failed(format!("cannot cut {}", self.options.endpoint));
                // Those who may not have it must not be sent what is on its way either.
                socket.set_linger(0).map_err(cannot)?;
            }
            self.drop_socket();
            // Sent to nobody until it is bound: agents find it missing and ask for it.
            self.socket = Some(self.make()?);
            self.lock = None;
        }
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        match bind(socket, &self.options.endpoint) {
            Ok(lock) => {
                self.lock = lock;
                Ok(true)
            }
            // libzmq closes in the background, and shows no end of it.
            Err(PubSubError::InUse { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn refusals(&mut self) -> u64 {
        self.refusals.as_mut().map_or(0, Refusals::take)
    }

    fn close(&mut self) {
        self.drop_socket();
        self.lock = None;
    }
}
