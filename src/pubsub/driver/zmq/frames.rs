//! Messages off a socket. However many frames one has, two are kept.
//!
//! What libzmq itself holds of an endless message is out of reach here: it shows a message only
//! when it is complete.

use zmq::{Message, Socket};

use super::failed;
use crate::event::codec::Malformed;
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::Received;

/// Surplus frames thrown away per call.
const DISCARD_AT_ONCE: usize = 1024;

/// The two frames of the last message; their memory is used again.
pub struct Frames {
    topic: Message,
    payload: Message,
    /// In the middle of a message with too many frames.
    discarding: bool,
}

impl Frames {
    pub fn new() -> Self {
        Frames {
            topic: Message::new(),
            payload: Message::new(),
            discarding: false,
        }
    }

    /// The next message, without waiting. `recv_multipart` would collect as many frames as a peer
    /// cares to send (design §11, 12).
    pub fn receive(&mut self, socket: &Socket, uri: &str) -> Result<Received<'_>, PubSubError> {
        if self.discarding {
            return self.discard(socket, uri);
        }
        if !frame(socket, &mut self.topic, uri)? {
            return Ok(Received::Nothing);
        }
        // libzmq makes a message visible only when all its frames are there, so the second is.
        if !self.topic.get_more() || !frame(socket, &mut self.payload, uri)? {
            return Ok(Received::Malformed(Malformed::FrameCount));
        }
        if self.payload.get_more() {
            self.discarding = true;
            return self.discard(socket, uri);
        }
        Ok(Received::Message {
            topic: &self.topic,
            payload: &self.payload,
        })
    }

    fn discard(&mut self, socket: &Socket, uri: &str) -> Result<Received<'_>, PubSubError> {
        for _ in 0..DISCARD_AT_ONCE {
            if !frame(socket, &mut self.payload, uri)? {
                break;
            }
            if !self.payload.get_more() {
                self.discarding = false;
                return Ok(Received::Malformed(Malformed::FrameCount));
            }
        }
        Ok(Received::Nothing)
    }
}

/// Receives one frame; `false` when nothing is waiting.
fn frame(socket: &Socket, into: &mut Message, uri: &str) -> Result<bool, PubSubError> {
    match socket.recv(into, zmq::DONTWAIT) {
        Ok(()) => Ok(true),
        Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(false),
        Err(error) => Err(failed(format!("cannot receive from {uri}"))(error)),
    }
}
