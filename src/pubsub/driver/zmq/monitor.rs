//! A socket monitor: what libzmq says of a socket's connections.
//!
//! It is read by the thread that owns the socket, whenever that is awake, and with a narrow mask:
//! a monitor that is not read freezes the I/O thread (design §11, 7).

use std::sync::atomic::{AtomicU64, Ordering};

use super::failed;
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::Signal;

const CONNECTED_WITH_HANDSHAKE: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
const REFUSED: u32 =
    zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
/// The handshake broke off without a reason: a peer that went away, or one that was too slow.
const BROKE_OFF: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
/// The descriptor of an attempt to connect was closed: the attempt failed.
const NOT_CONNECTED: u32 = zmq_sys::ZMQ_EVENT_CLOSED;
const LOST: u32 = zmq_sys::ZMQ_EVENT_DISCONNECTED;

/// libzmq tells both sides nothing more where one does not know the other's key.
const BROKEN_OFF: &str =
    "the handshake broke off (or, with keys, one side does not accept the other's)";

/// The reading end.
pub struct Monitor {
    socket: zmq::Socket,
}

impl Monitor {
    /// Watches `watched`, until [`super::ffi::stop_monitor`] is called on it.
    pub fn new(context: &zmq::Context, watched: &zmq::Socket) -> Result<Self, PubSubError> {
        let mask = CONNECTED_WITH_HANDSHAKE | REFUSED | BROKE_OFF | NOT_CONNECTED | LOST;
        Self::of(context, watched, mask)
    }

    fn of(context: &zmq::Context, watched: &zmq::Socket, mask: u32) -> Result<Self, PubSubError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = format!("inproc://fanfare-monitor-{number}");
        let cannot = || failed("cannot monitor a socket");
        watched.monitor(&address, mask as i32).map_err(cannot())?;
        let socket = context.socket(zmq::PAIR).map_err(cannot())?;
        socket.set_linger(0).map_err(cannot())?;
        socket.connect(&address).map_err(cannot())?;
        Ok(Monitor { socket })
    }

    /// For [`super::wait`].
    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// The next signal, without waiting.
    pub fn next(&mut self) -> Result<Option<Signal>, PubSubError> {
        let mut frame = zmq::Message::new();
        loop {
            match self.socket.recv(&mut frame, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(failed("cannot read a socket monitor")(error)),
            }
            let signal = read(&frame);
            // The second frame is the address, which the reader knows.
            while frame.get_more() {
                self.socket
                    .recv(&mut frame, zmq::DONTWAIT)
                    .map_err(failed("cannot read a socket monitor"))?;
            }
            if signal.is_some() {
                return Ok(signal);
            }
        }
    }
}

/// Counts who is refused at a socket that is bound, whether or not it came as far as to ask for
/// admission. To be read often, by the socket's owner.
pub struct Refusals(Monitor);

impl Refusals {
    /// Watches `watched`, until [`super::ffi::stop_monitor`] is called on it.
    pub fn of(context: &zmq::Context, watched: &zmq::Socket) -> Result<Self, PubSubError> {
        Monitor::of(context, watched, REFUSED | BROKE_OFF).map(Refusals)
    }

    /// How many since the last call.
    pub fn take(&mut self) -> u64 {
        let mut count = 0;
        loop {
            match self.0.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return count,
                Err(error) => {
                    log::debug!("{error}");
                    return count;
                }
            }
        }
    }
}

/// Reads a monitor's first frame: u16 event, u32 value, both in the machine's order.
fn read(frame: &[u8]) -> Option<Signal> {
    let (event, value) = frame.split_first_chunk::<2>()?;
    let event = u32::from(u16::from_ne_bytes(*event));
    let value = u32::from_ne_bytes(*value.first_chunk::<4>()?);
    match event {
        CONNECTED_WITH_HANDSHAKE => Some(Signal::Up),
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => {
            Some(Signal::Refused(format!("not authorised (status {value})")))
        }
        zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => Some(Signal::Refused(format!(
            "the peer does not speak our protocol ({value:#x})"
        ))),
        BROKE_OFF => Some(Signal::ConnectFailed(match value {
            0 => BROKEN_OFF.into(),
            errno => format!(
                "{BROKEN_OFF}: {}",
                std::io::Error::from_raw_os_error(errno as i32)
            ),
        })),
        NOT_CONNECTED => Some(Signal::ConnectFailed("no connection".into())),
        LOST => Some(Signal::Down),
        _ => None,
    }
}
