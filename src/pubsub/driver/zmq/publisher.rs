//! A PUB socket.

use zmq::Socket;

use super::{bind, configure_multicast, failed, ffi};
use crate::event::{Event, codec, topic};
use crate::pubsub::api::{PubSubError, PublisherApi, PublisherOptions};
use crate::pubsub::endpoint::Endpoint;
use crate::util::lock_file::LockFile;

pub struct ZmqPublisher {
    context: zmq::Context,
    options: PublisherOptions,
    socket: Option<Socket>,
    lock: Option<LockFile>,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl ZmqPublisher {
    pub fn new(context: zmq::Context, options: PublisherOptions) -> Self {
        ZmqPublisher {
            context,
            options,
            socket: None,
            lock: None,
            frame: Vec::new(),
            payload: Vec::new(),
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
}

impl PublisherApi for ZmqPublisher {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        if self.socket.is_some() {
            return Ok(());
        }
        let uri = self.options.endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(zmq::PUB).map_err(cannot())?;
        self.configure(&socket).map_err(cannot())?;
        if let Endpoint::Epgm { .. } = &self.options.endpoint {
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

    fn send_event(&mut self, event: &Event<'_>, topic: Option<&str>) -> Result<(), PubSubError> {
        let socket = self
            .socket
            .as_ref()
            .ok_or(PubSubError::Misuse("initialize comes before send_event"))?;
        let name = topic.unwrap_or_else(|| event.topic_or_all());
        topic::check(name)?;
        topic::write_frame(name, &mut self.frame);
        codec::encode(event, &mut self.payload);
        let cannot = || failed(format!("cannot send on {}", self.options.endpoint));
        // A PUB socket never waits: a subscriber that is full misses the message.
        socket
            .send(&self.frame[..], zmq::SNDMORE)
            .map_err(cannot())?;
        socket.send(&self.payload[..], 0).map_err(cannot())
    }

    fn close(&mut self) {
        self.socket = None;
        self.lock = None;
    }
}
