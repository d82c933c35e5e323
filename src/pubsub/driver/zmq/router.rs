//! Sending on a ROUTER socket.

use zmq::{Message, Socket};

/// Sends `message` to `peer` without waiting for anybody: a peer that is gone or does not read loses it.
pub(crate) fn send(socket: &Socket, peer: &[u8], message: impl Into<Message>) -> zmq::Result<()> {
    let address = || socket.send(peer, zmq::DONTWAIT | zmq::SNDMORE);
    let sent = match address() {
        // libzmq hears only now and then of what a peer has read, and takes one that reads fast for
        // one that does not. Asked for events it looks at once.
        Err(zmq::Error::EAGAIN) => socket.get_events().and_then(|_| address()),
        other => other,
    };
    sent.and_then(|()| socket.send(message, zmq::DONTWAIT))
}
