//! The socket to one publisher's sync service.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use zmq::{Message, Socket};

use crate::pubsub::PubSubError;
use crate::pubsub::driver::zmq::{curve, failed, ffi};
use crate::pubsub::endpoint::Endpoint;
use crate::security::party::NodeKeys;
use crate::sync::MAX_ANSWER;

/// How to reach sync services.
pub trait SyncTransport: Send + Sync {
    /// A line to the service at `endpoint`, which has no name in it, of the publisher that is known as
    /// `publisher`. Must not block: what is sent
    /// before the connection is made waits for it.
    fn open(&self, endpoint: &Endpoint, publisher: &str) -> Result<Box<dyn Line>, PubSubError>;
}

/// A line to one sync service. Nothing of it blocks.
pub trait Line: Send {
    /// Sends a request; one that is lost is asked for again.
    fn send(&mut self, request: &[u8]) -> Result<(), PubSubError>;

    /// The next answer; `None` when none is waiting.
    fn receive(&mut self) -> Result<Option<&[u8]>, PubSubError>;

    /// Becomes readable when an answer may have come; means something only after `receive` had
    /// none.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Lines by ZeroMQ.
#[derive(Clone)]
pub struct ZmqSync {
    context: zmq::Context,
    keys: Option<Arc<NodeKeys>>,
}

impl ZmqSync {
    /// Lines by `context`, over tcp secured with `keys`; without them they are plain text.
    pub fn new(context: &zmq::Context, keys: Option<Arc<NodeKeys>>) -> Self {
        ZmqSync {
            context: context.clone(),
            keys,
        }
    }
}

impl SyncTransport for ZmqSync {
    fn open(&self, endpoint: &Endpoint, publisher: &str) -> Result<Box<dyn Line>, PubSubError> {
        let uri = endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(zmq::DEALER).map_err(cannot())?;
        configure(&socket).map_err(cannot())?;
        curve::connects(&socket, self.keys.as_deref(), publisher, endpoint)?;
        socket.set_ipv6(uri.contains('[')).map_err(cannot())?;
        ffi::connect(&mut socket, &uri).map_err(|error| PubSubError::System {
            what: format!("cannot connect to {uri}"),
            why: error.to_string(),
        })?;
        Ok(Box::new(ZmqLine {
            uri,
            socket,
            frame: Message::new(),
        }))
    }
}

fn configure(socket: &Socket) -> zmq::Result<()> {
    socket.set_linger(0)?;
    // libzmq's own reconnection is good enough here: after a question without an answer the line is
    // opened anew. Its pace differs from agent to agent.
    socket.set_reconnect_ivl(fastrand::i32(300..1_000))?;
    socket.set_reconnect_ivl_max(10_000)?;
    socket.set_connect_timeout(5_000)?;
    socket.set_handshake_ivl(5_000)?;
    socket.set_heartbeat_ivl(5_000)?;
    socket.set_heartbeat_timeout(15_000)?;
    // The recovery bounds what is asked at once.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_maxmsgsize(MAX_ANSWER as i64)
}

struct ZmqLine {
    uri: String,
    socket: Socket,
    frame: Message,
}

impl Line for ZmqLine {
    fn send(&mut self, request: &[u8]) -> Result<(), PubSubError> {
        match self.socket.send(request, zmq::DONTWAIT) {
            Ok(()) => Ok(()),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {
                log::debug!("{}: a question is not sent", self.uri);
                Ok(())
            }
            Err(error) => Err(failed(format!("cannot send to {}", self.uri))(error)),
        }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, PubSubError> {
        let mut surplus = false;
        loop {
            match self.socket.recv(&mut self.frame, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(error) => {
                    return Err(failed(format!("cannot receive from {}", self.uri))(error));
                }
            }
            // An answer is one frame; more of them are no answer, and are thrown away one by one.
            let more = self.frame.get_more();
            if !more && !surplus {
                return Ok(Some(&self.frame));
            }
            surplus = more;
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        ffi::fd(&self.socket).ok()
    }
}
