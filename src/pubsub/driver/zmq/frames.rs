//! Messages off a socket. However many frames one has, two are kept.
//!
//! What libzmq itself holds of an endless message is out of reach here, since it shows a message only
//! when it is complete; see [`super::unended`].

use zmq::{Message, Socket};

use super::failed;
use super::sender::Sender;
use crate::event::codec::Malformed;
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::Received;

/// The two frames of the last message; their memory is used again.
pub struct Frames {
    topic: Message,
    payload: Message,
}

impl Frames {
    pub fn new() -> Self {
        Frames {
            topic: Message::new(),
            payload: Message::new(),
        }
    }

    /// The next message, without waiting. `recv_multipart` would collect as many frames as a peer
    /// cares to send.
    pub fn receive(&mut self, socket: &Socket, uri: &str) -> Result<Received<'_>, PubSubError> {
        if !frame(socket, &mut self.topic, uri)? {
            return Ok(Received::Nothing);
        }
        // libzmq makes a message visible only when all its frames are there, so the others are.
        if !self.topic.get_more() || !frame(socket, &mut self.payload, uri)? {
            return Ok(Received::Malformed(Malformed::FrameCount));
        }
        if !self.payload.get_more() {
            return Ok(Received::Message {
                topic: &self.topic,
                payload: &self.payload,
            });
        }
        while self.payload.get_more() && frame(socket, &mut self.payload, uri)? {}
        Ok(Received::Malformed(Malformed::FrameCount))
    }

    /// Who sent the message that was received last, over a socket whose peers are `known` by their keys or not.
    pub fn sender(&mut self, known: bool) -> Option<Sender> {
        Sender::of(&mut self.payload, known)
    }

    /// The message that was received last.
    pub fn message(&self) -> (&[u8], &[u8]) {
        (&self.topic, &self.payload)
    }
}

/// Receives one frame; `false` when nothing is waiting.
fn frame(socket: &Socket, into: &mut Message, uri: &str) -> Result<bool, PubSubError> {
    loop {
        return match socket.recv(into, zmq::DONTWAIT) {
            Ok(()) => Ok(true),
            Err(zmq::Error::EAGAIN) => Ok(false),
            // Not yet known to be drained.
            Err(zmq::Error::EINTR) => continue,
            Err(error) => Err(failed(format!("cannot receive from {uri}"))(error)),
        };
    }
}
