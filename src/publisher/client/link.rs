//! One connection to the service. Every attempt has a socket of its own, so that nothing that was
//! queued for a service that is gone reaches the next one behind what is sent again.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use zmq::{Message, Socket};

use crate::publisher::submit::{Answer, SubmitError};
use crate::pubsub::PubSubError;
use crate::pubsub::driver::zmq::monitor::{self, Monitor};
use crate::pubsub::driver::zmq::{failed, ffi, wait};
use crate::pubsub::subscriber::Signal;

/// Longest answer: all events of a request refused, with room to spare.
const MAX_ANSWER: i64 = 1 << 20;

pub(super) struct Link {
    uri: String,
    socket: Socket,
    monitor: Monitor,
    frame: Message,
    /// In the middle of a message with too many frames.
    discarding: bool,
}

impl Link {
    pub fn open(context: &zmq::Context, uri: &str) -> Result<Self, PubSubError> {
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = context.socket(zmq::DEALER).map_err(cannot())?;
        configure(&socket).map_err(cannot())?;
        let monitor = Monitor::new(context, &socket)?;
        let connected = ffi::connect(&mut socket, uri);
        // From here on the monitor must be ended, which dropping the link does.
        let link = Link {
            uri: uri.to_owned(),
            socket,
            monitor,
            frame: Message::new(),
            discarding: false,
        };
        match connected {
            Ok(()) => Ok(link),
            Err(error) => Err(PubSubError::System {
                what: format!("cannot connect to {uri}"),
                why: error.to_string(),
            }),
        }
    }

    /// What has become of the connection, without waiting.
    pub fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        self.monitor.next()
    }

    /// Sends a request; `false` when there is no room, which the window should not let happen.
    pub fn send(&self, request: &[u8]) -> Result<bool, PubSubError> {
        match self.socket.send(request, zmq::DONTWAIT) {
            Ok(()) => Ok(true),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(false),
            Err(error) => Err(failed(format!("cannot send to {}", self.uri))(error)),
        }
    }

    /// The next answer, without waiting; an inner error for a message that is none.
    pub fn receive(&mut self) -> Result<Option<Result<Answer, SubmitError>>, PubSubError> {
        loop {
            match self.socket.recv(&mut self.frame, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(None),
                Err(error) => {
                    return Err(failed(format!("cannot receive from {}", self.uri))(error));
                }
            }
            let more = self.frame.get_more();
            let discarding = std::mem::replace(&mut self.discarding, more);
            if more {
                continue;
            }
            return Ok(Some(match discarding {
                true => Err(SubmitError::FrameCount),
                false => Answer::decode(&self.frame),
            }));
        }
    }

    /// Waits for an answer, a signal or `wake`, at most `timeout`.
    pub fn wait(&self, wake: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<(), PubSubError> {
        let monitor = Some(self.monitor.socket());
        wait(&self.socket, monitor, wake, timeout, &self.uri)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        monitor::end(&mut self.socket, &self.uri);
    }
}

fn configure(socket: &Socket) -> zmq::Result<()> {
    socket.set_linger(0)?;
    // The worker decides when to connect again.
    socket.set_reconnect_ivl(-1)?;
    socket.set_handshake_ivl(5_000)?;
    // The window bounds what waits. A limit here would be found full too early: libzmq hears only
    // now and then of what the service has read.
    socket.set_sndhwm(0)?;
    socket.set_maxmsgsize(MAX_ANSWER)
}
