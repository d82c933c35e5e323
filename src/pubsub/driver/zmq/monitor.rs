//! A socket monitor: what libzmq says of a socket's connections.
//!
//! It is read by the thread that owns the socket, whenever that is awake, and with a narrow mask:
//! a monitor that is not read freezes the I/O thread.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{failed, ffi};
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::Signal;

const CONNECTED: u32 = zmq_sys::ZMQ_EVENT_CONNECTED;
/// The handshake is done. On the side that is connected to it is not said whose.
pub(super) const CONNECTED_WITH_HANDSHAKE: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
pub(super) const REFUSED: u32 = BREACH | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
/// A peer broke the rules, in the handshake or at any time after it.
pub(super) const BREACH: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
/// The handshake broke off without a reason: a peer that went away, or one that was too slow.
pub(super) const BROKE_OFF: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
/// The descriptor of an attempt to connect was closed: the attempt failed.
const NOT_CONNECTED: u32 = zmq_sys::ZMQ_EVENT_CLOSED;
pub(super) const LOST: u32 = zmq_sys::ZMQ_EVENT_DISCONNECTED;

/// A socket is bound; the value is the descriptor that connections come to.
pub(super) const LISTENING: u32 = zmq_sys::ZMQ_EVENT_LISTENING;
/// A connection to a socket that is bound; the value is its descriptor, as with its end.
pub(super) const ACCEPTED: u32 = zmq_sys::ZMQ_EVENT_ACCEPTED;
/// A connection was not taken; on ipc also one of a user who may not connect.
pub(super) const NOT_ACCEPTED: u32 = zmq_sys::ZMQ_EVENT_ACCEPT_FAILED;

/// Events that may wait to be read.
const EVENTS: i32 = 100_000;

/// libzmq tells both sides nothing more where one does not know the other's key.
const BROKEN_OFF: &str =
    "the handshake broke off (or, with keys, one side does not accept the other's)";

/// Ends the monitor of `watched`: to be called before the two are dropped.
pub fn end(watched: &mut zmq::Socket, uri: &str) {
    if let Err(error) = ffi::stop_monitor(watched) {
        log::error!("cannot end the monitor of {uri}: {error}");
    }
}

/// The reading end.
pub struct Monitor {
    socket: zmq::Socket,
    /// The connection that was made last, on the side that connects.
    connected: Option<RawFd>,
}

impl Monitor {
    /// Watches `watched`, until [`super::ffi::stop_monitor`] is called on it.
    pub fn new(context: &zmq::Context, watched: &zmq::Socket) -> Result<Self, PubSubError> {
        let mask =
            CONNECTED | CONNECTED_WITH_HANDSHAKE | REFUSED | BROKE_OFF | NOT_CONNECTED | LOST;
        Self::of(context, watched, mask)
    }

    /// Watches `watched` for the events of `mask`.
    pub(super) fn of(
        context: &zmq::Context,
        watched: &zmq::Socket,
        mask: u32,
    ) -> Result<Self, PubSubError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = format!("inproc://fanfare-monitor-{number}");
        let cannot = || failed("cannot monitor a socket");
        watched.monitor(&address, mask as i32).map_err(cannot())?;
        let socket = context.socket(zmq::PAIR).map_err(cannot())?;
        socket.set_linger(0).map_err(cannot())?;
        // Whoever is not read in time holds up the I/O thread, which writes these.
        socket.set_rcvhwm(EVENTS).map_err(cannot())?;
        socket.connect(&address).map_err(cannot())?;
        Ok(Monitor {
            socket,
            connected: None,
        })
    }

    /// For [`super::wait`].
    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// The next signal, without waiting.
    pub fn next(&mut self) -> Result<Option<Signal>, PubSubError> {
        while let Some((event, value)) = self.event()? {
            self.connected = match event {
                CONNECTED => RawFd::try_from(value).ok(),
                CONNECTED_WITH_HANDSHAKE => self.connected,
                _ => None,
            };
            let signal = signal(event, value);
            if signal.is_some() {
                return Ok(signal);
            }
        }
        Ok(None)
    }

    /// The descriptor of the connection, as far as [`Monitor::next`] has told of it.
    pub fn connected(&self) -> Option<RawFd> {
        self.connected
    }

    /// The next event and its value, without waiting.
    pub(super) fn event(&mut self) -> Result<Option<(u32, u32)>, PubSubError> {
        let mut frame = zmq::Message::new();
        loop {
            match self.socket.recv(&mut frame, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(failed("cannot read a socket monitor")(error)),
            }
            let event = read(&frame);
            // The second frame is the address, which the reader knows.
            while frame.get_more() {
                self.socket
                    .recv(&mut frame, zmq::DONTWAIT)
                    .map_err(failed("cannot read a socket monitor"))?;
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }
}

/// Reads a monitor's first frame: u16 event, u32 value, both in the machine's order.
fn read(frame: &[u8]) -> Option<(u32, u32)> {
    let (event, value) = frame.split_first_chunk::<2>()?;
    let event = u32::from(u16::from_ne_bytes(*event));
    Some((event, u32::from_ne_bytes(*value.first_chunk::<4>()?)))
}

/// A peer that ended the connection is told from one that was silent for too long: that one may only be
/// slow, or hang.
fn broken_off(errno: i32) -> Signal {
    let error = io::Error::from_raw_os_error(errno);
    let why = match errno {
        0 => BROKEN_OFF.into(),
        _ => format!("{BROKEN_OFF}: {error}"),
    };
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Signal::BrokenOff(why),
        _ => Signal::ConnectFailed(why),
    }
}

/// What an event means to the side that connects.
fn signal(event: u32, value: u32) -> Option<Signal> {
    match event {
        CONNECTED_WITH_HANDSHAKE => Some(Signal::Up),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => {
            Some(Signal::Refused(format!("not authorised (status {value})")))
        }
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => Some(Signal::Refused(format!(
            "the peer does not speak our protocol ({value:#x})"
        ))),
        BROKE_OFF => Some(broken_off(value as i32)),
        NOT_CONNECTED => Some(Signal::ConnectFailed("no connection".into())),
        LOST => Some(Signal::Down),
        _ => None,
    }
}
