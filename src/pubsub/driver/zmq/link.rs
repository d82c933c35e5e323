//! One SUB socket, connected to one publisher.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmq::Socket;

use super::frames::Frames;
use super::monitor::{self, Monitor};
use super::unended::{MEASURE, Measured};
use super::{curve, failed, ffi, tcp, wait_drained};
use crate::pubsub::api::{PubSubError, SubscriberOptions};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::subscriber::{Link, Received, Signal};
use crate::security::party::NodeKeys;

/// libzmq cuts a connection that sends a message this many times `max_message_size`: it would
/// otherwise allocate whatever a header claims. Up to here a message over the limit is only dropped.
const HARD_LIMIT_FACTOR: usize = 4;

pub struct ZmqLink {
    uri: String,
    socket: Socket,
    /// `None` over epgm, which has no connections.
    monitor: Option<Monitor>,
    /// Whether the monitor may have something to say: asking it costs two system calls.
    monitor_ready: bool,
    /// Given out once, where there is no monitor.
    up: Option<Signal>,
    frames: Frames,
    /// What the publisher is known by, under which address, and whose turn it was; until it is known
    /// whether it was reached.
    keys: Option<(Arc<NodeKeys>, String, usize)>,
    /// What the publisher has sent since its last whole message.
    measured: Measured,
}

impl ZmqLink {
    pub fn open(
        context: &zmq::Context,
        endpoint: &Endpoint,
        registered: &str,
        options: &SubscriberOptions,
    ) -> Result<Self, PubSubError> {
        let uri = &endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = context.socket(zmq::SUB).map_err(cannot())?;
        configure(&socket, options).map_err(cannot())?;
        super::give_up_lifeless(&mut socket)?;
        let keys = options.keys.clone().map(|keys| {
            let turn = keys.turn(registered);
            (keys, registered.to_owned(), turn)
        });
        curve::connects(&socket, options.keys.as_deref(), registered, endpoint)?;
        let multicast = matches!(endpoint, Endpoint::Epgm { .. });
        let monitor = if multicast {
            super::configure_multicast(&socket).map_err(cannot())?;
            None
        } else {
            socket.set_ipv6(uri.contains('[')).map_err(cannot())?;
            Some(Monitor::new(context, &socket)?)
        };
        if let Err(error) = ffi::connect(&mut socket, uri) {
            monitor::end(&mut socket, uri);
            return Err(PubSubError::System {
                what: format!("cannot connect to {uri}"),
                why: error.to_string(),
            });
        }
        Ok(ZmqLink {
            uri: uri.clone(),
            socket,
            monitor,
            monitor_ready: true,
            up: multicast.then_some(Signal::Up),
            frames: Frames::new(),
            keys,
            // Two frames of the longest that libzmq takes in.
            measured: Measured::new(
                (2 * HARD_LIMIT_FACTOR).saturating_mul(options.max_message_size) as u64,
            ),
        })
    }
}

fn configure(socket: &Socket, options: &SubscriberOptions) -> zmq::Result<()> {
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // The subscriptions after a connect are dropped above SNDHWM.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(options.receive_hwm)?;
    socket.set_linger(0)?;
    let hard_limit = options.max_message_size.saturating_mul(HARD_LIMIT_FACTOR);
    socket.set_maxmsgsize(i64::try_from(hard_limit).unwrap_or(i64::MAX))?;
    // The session decides when to connect again. Not -1: with it libzmq throws away what was
    // received from a lost connection and not yet read.
    socket.set_reconnect_ivl(i32::MAX)?;
    socket.set_connect_timeout(millis(options.connect_timeout))?;
    socket.set_handshake_ivl(millis(options.connect_timeout))
}

impl ZmqLink {
    /// It is known whether the publisher was reached. At once, not only when the link is dropped:
    /// the next one is opened before that.
    fn settle(&mut self, reached: bool) {
        if let Some((keys, registered, turn)) = self.keys.take() {
            keys.tried(&registered, turn, reached);
        }
    }

    /// Ends the connection if the publisher sends a message without end. Says whether it is to be
    /// measured again, in a while.
    fn measure(&mut self) -> bool {
        let connection = self.monitor.as_ref().and_then(Monitor::connected);
        let Some(over) = self.measured.is_over(connection, Instant::now()) else {
            return false;
        };
        if over && connection.is_some_and(|fd| tcp::end_connection(fd, None, None)) {
            log::error!(
                "{}: sent {} bytes of a message that does not end; its connection is ended",
                self.uri,
                self.measured.most()
            );
        }
        true
    }
}

impl Drop for ZmqLink {
    fn drop(&mut self) {
        self.settle(false);
        monitor::end(&mut self.socket, &self.uri);
    }
}

impl Link for ZmqLink {
    fn subscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError> {
        let uri = &self.uri;
        self.socket
            .set_subscribe(prefix)
            .map_err(failed(format!("cannot subscribe at {uri}")))
    }

    fn unsubscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError> {
        let uri = &self.uri;
        self.socket
            .set_unsubscribe(prefix)
            .map_err(failed(format!("cannot unsubscribe at {uri}")))
    }

    fn receive(&mut self) -> Result<Received<'_>, PubSubError> {
        let received = self.frames.receive(&self.socket, &self.uri)?;
        if !matches!(received, Received::Nothing) {
            // Under load nothing else tells.
            if let Some((keys, registered, turn)) = self.keys.take() {
                keys.tried(&registered, turn, true);
            }
            self.measured.message();
        }
        Ok(received)
    }

    fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(self.up.take());
        };
        if !self.monitor_ready {
            return Ok(None);
        }
        let signal = monitor.next()?;
        self.monitor_ready = signal.is_some();
        if let Some(signal) = &signal {
            self.settle(*signal == Signal::Up);
        }
        Ok(signal)
    }

    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError> {
        if self.up.is_some() {
            return Ok(());
        }
        let timeout = match self.measure() {
            true => Some(timeout.map_or(MEASURE, |timeout| timeout.min(MEASURE))),
            false => timeout,
        };
        let monitor = self.monitor.as_ref().map(Monitor::socket);
        self.monitor_ready = wait_drained(&self.socket, monitor, wakes, timeout, &self.uri)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::pubsub::endpoint::Host;

    /// What a publisher without keys says at first.
    fn greeting() -> Vec<u8> {
        let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
        greeting.extend(b"NULL");
        greeting.resize(64, 0);
        greeting.extend(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
        greeting
    }

    /// A publisher that sends more than there is room for, and breaks off. libzmq must not try to ask it
    /// for a sign of life then; it would have after 5 s, when it did so at all.
    #[test]
    fn a_publisher_breaks_off_while_what_it_sent_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp {
            host: Host::Ip("127.0.0.1".parse().unwrap()),
            port: listener.local_addr().unwrap().port(),
        };
        let options = SubscriberOptions {
            receive_hwm: 10,
            ..SubscriberOptions::default()
        };
        let uri = endpoint.to_string();
        let mut link = ZmqLink::open(&zmq::Context::new(), &endpoint, &uri, &options).unwrap();
        link.subscribe(b"").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&greeting()).unwrap();
        stream.read_exact(&mut [0; 64 + 2]).unwrap();
        let one = b"\x01\x02t\0\x00\x01x";
        stream.write_all(&one.repeat(1_000)).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        std::thread::sleep(Duration::from_secs(6));
        let (mut came, until) = (0, Instant::now() + Duration::from_secs(20));
        while came < 10 && Instant::now() < until {
            came += usize::from(!matches!(link.receive().unwrap(), Received::Nothing));
        }
        assert!(came >= 10, "{came}: what came before the end is there");
    }
}
