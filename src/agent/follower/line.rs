//! The socket to one publisher's sync service.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use zmq::{Message, Socket};

use crate::pubsub::PubSubError;
use crate::pubsub::driver::zmq::monitor::{self, Monitor};
use crate::pubsub::driver::zmq::unended::{MEASURE, Measured};
use crate::pubsub::driver::zmq::{curve, failed, ffi, give_up_lifeless};
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

/// Answers that libzmq holds until they are taken: as many as are asked for at once.
const RECEIVE_HWM: i32 = 4;

/// What may come of a message that has not ended, bytes: the longest answer, and one that became whole
/// just before this was looked at.
const MAX_UNENDED: u64 = 2 * MAX_ANSWER as u64;

/// A line to one sync service. Nothing of it blocks. After an error it is of no more use.
pub trait Line: Send {
    /// Sends a request; one that is lost is asked for again.
    fn send(&mut self, request: &[u8]) -> Result<(), PubSubError>;

    /// The next answer; `None` when none is waiting. One that nobody asked for is an error: each
    /// request is the credit for one answer.
    fn receive(&mut self) -> Result<Option<&[u8]>, PubSubError>;

    /// Becomes readable when an answer may have come; means something only after `receive` had
    /// none.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// When to call [`Line::look`], if `receive` has none then.
    fn deadline(&self) -> Option<Instant>;

    /// Looks whether what comes ends at some time; an error where it does not.
    fn look(&mut self, now: Instant) -> Result<(), PubSubError>;
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
        give_up_lifeless(&mut socket)?;
        curve::connects(&socket, self.keys.as_deref(), publisher, endpoint)?;
        socket.set_ipv6(uri.contains('[')).map_err(cannot())?;
        let monitor = Monitor::new(&self.context, &socket)?;
        let mut line = ZmqLine {
            uri,
            socket,
            monitor,
            frame: Message::new(),
            owed: 0,
            measured: Measured::new(MAX_UNENDED),
            due: Instant::now() + MEASURE,
        };
        ffi::connect(&mut line.socket, &line.uri).map_err(|error| PubSubError::System {
            what: format!("cannot connect to {}", line.uri),
            why: error.to_string(),
        })?;
        Ok(Box::new(line))
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
    // The recovery bounds what is asked at once; the other side says what it likes.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(RECEIVE_HWM)?;
    socket.set_maxmsgsize(MAX_ANSWER as i64)
}

struct ZmqLine {
    uri: String,
    socket: Socket,
    /// Read only now and then: what it says is few and short.
    monitor: Monitor,
    frame: Message,
    /// Questions that were sent and not answered, whether anybody still waits for that or not.
    owed: usize,
    measured: Measured,
    /// When that is looked at next.
    due: Instant,
}

impl ZmqLine {
    fn unruly(&self, why: impl Into<String>) -> PubSubError {
        PubSubError::System {
            what: format!("the line to {} is closed", self.uri),
            why: why.into(),
        }
    }
}

impl Drop for ZmqLine {
    fn drop(&mut self) {
        monitor::end(&mut self.socket, &self.uri);
    }
}

impl Line for ZmqLine {
    fn send(&mut self, request: &[u8]) -> Result<(), PubSubError> {
        match self.socket.send(request, zmq::DONTWAIT) {
            Ok(()) => {
                self.owed += 1;
                Ok(())
            }
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {
                log::debug!("{}: a question is not sent", self.uri);
                Ok(())
            }
            Err(error) => Err(failed(format!("cannot send to {}", self.uri))(error)),
        }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, PubSubError> {
        loop {
            match self.socket.recv(&mut self.frame, zmq::DONTWAIT) {
                Ok(()) => break,
                Err(zmq::Error::EINTR) => continue,
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(error) => {
                    return Err(failed(format!("cannot receive from {}", self.uri))(error));
                }
            }
        }
        if self.frame.get_more() {
            return Err(self.unruly("an answer is one frame, and this one is more"));
        }
        let Some(owed) = self.owed.checked_sub(1) else {
            return Err(self.unruly("an answer came that nobody asked for"));
        };
        self.owed = owed;
        self.measured.message();
        Ok(Some(&self.frame))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        ffi::fd(&self.socket).ok()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.due)
    }

    fn look(&mut self, now: Instant) -> Result<(), PubSubError> {
        self.due = now + MEASURE;
        while self.monitor.next()?.is_some() {}
        match self.measured.is_over(self.monitor.connected(), now) {
            Some(true) => Err(self.unruly(format!(
                "it sent {} bytes of a message that does not end",
                self.measured.most()
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::pubsub::endpoint::Host;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A line, and who is at its other end.
    fn line() -> (Box<dyn Line>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp {
            host: Host::Ip("127.0.0.1".parse().unwrap()),
            port: listener.local_addr().unwrap().port(),
        };
        let sync = ZmqSync::new(&zmq::Context::new(), None);
        let line = sync.open(&endpoint, "tcp://publisher:1").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
        greeting.extend(b"NULL");
        greeting.resize(64, 0);
        greeting.extend(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER");
        stream.write_all(&greeting).unwrap();
        stream.read_exact(&mut [0; 64 + 2]).unwrap();
        (line, stream)
    }

    /// What becomes of the line in the end: as many answers, and why there are no more.
    fn taken(line: &mut dyn Line) -> (usize, String) {
        let (mut taken, until) = (0, Instant::now() + PATIENCE);
        loop {
            assert!(Instant::now() < until, "{taken} answers, and no end");
            let looked = match line.receive() {
                Ok(Some(_)) => {
                    taken += 1;
                    continue;
                }
                Ok(None) => line.look(Instant::now()),
                Err(error) => Err(error),
            };
            match looked {
                Ok(()) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return (taken, error.to_string()),
            }
        }
    }

    #[test]
    fn who_answers_more_than_was_asked_is_not_heard() {
        let (mut line, mut stream) = line();
        line.send(b"one").unwrap();
        line.send(b"another").unwrap();
        stream.write_all(&b"\0\x06answer".repeat(5)).unwrap();
        let (answers, why) = taken(line.as_mut());
        assert_eq!(answers, 2, "{why}");
        assert!(why.contains("nobody asked"), "{why}");
    }

    #[test]
    fn an_answer_of_many_frames_is_none() {
        let (mut line, mut stream) = line();
        line.send(b"one").unwrap();
        stream.write_all(b"\x01\x01a\x01\x01b\0\x01c").unwrap();
        let (answers, why) = taken(line.as_mut());
        assert!(answers == 0 && why.contains("one frame"), "{why}");
    }

    #[test]
    fn an_answer_that_does_not_end_ends_the_line() {
        let (mut line, mut stream) = line();
        line.send(b"one").unwrap();
        let pour = std::thread::spawn(move || {
            let frame = [&b"\x03\0\0\0\0\0\x01\0\0"[..], &[b'x'; 1 << 16]].concat();
            let mut sent = 0u64;
            // A little beyond what may come, then nothing: it must not depend on more.
            while sent <= MAX_UNENDED + (1 << 20) && stream.write_all(&frame).is_ok() {
                sent += frame.len() as u64;
            }
            stream
        });
        let (answers, why) = taken(line.as_mut());
        assert!(answers == 0 && why.contains("does not end"), "{why}");
        drop(line);
        drop(pour.join().unwrap());
    }
}
