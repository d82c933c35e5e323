//! The sending side: a PUB or XPUB socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmq::Socket;

use super::seats::Seats;
use super::watch::{Sender, Standing, Watch};
use super::{
    RECEIVE_BUFFER, bind, bound_port, configure_multicast, curve, failed, ffi, give_up_lifeless,
};
use crate::event::topic;
use crate::pubsub::api::{PeerCounts, PubSubError, PublisherApi, PublisherOptions, Subscription};
use crate::pubsub::endpoint::Endpoint;
use crate::util::lock_file::LockFile;

pub struct ZmqPublisher {
    context: zmq::Context,
    options: PublisherOptions,
    socket: Option<Socket>,
    lock: Option<LockFile>,
    watch: Option<Watch>,
    seats: Seats,
    /// Whether subscriptions of this socket need leave.
    guarded: bool,
    /// Whether libzmq's idea of who sent what was received is right; see [`ZmqPublisher::see`].
    in_step: bool,
    counts: PeerCounts,
    unruly: Vec<Arc<str>>,
    frame: Vec<u8>,
}

/// Longest message of a subscriber, bytes: a subscription, the longest topic in it, and room.
const MAX_SUBSCRIPTION: i64 = 1024;

/// Changes of subscriptions that libzmq holds of one connection. Few: it takes in all there are of one
/// without a pause, and with more than these a peer that is fast fills them again meanwhile, so that
/// it never ends.
const RECEIVE_HWM: i32 = 2;

/// How long it takes libzmq, at most usually, to hand on more of them where there are more.
const REFILL: Duration = Duration::from_micros(50);

/// How long changes of subscriptions are taken in one go, while events wait. An agent with a thousand
/// topics is done in two or three.
const SLICE: Duration = Duration::from_micros(500);

/// Changes of subscriptions that are taken before the clock is looked at.
const ROUND: usize = 32;

impl ZmqPublisher {
    pub fn new(context: zmq::Context, options: PublisherOptions) -> Self {
        ZmqPublisher {
            context,
            options,
            socket: None,
            lock: None,
            watch: None,
            seats: Seats::default(),
            guarded: false,
            in_step: true,
            counts: PeerCounts::default(),
            unruly: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// XPUB shows who subscribes to what; its messages must then be read. Multicast has none.
    fn tells_subscriptions(&self) -> bool {
        self.options.subscriptions && !matches!(self.options.endpoint, Endpoint::Epgm { .. })
    }

    fn kind(&self) -> zmq::SocketType {
        if self.tells_subscriptions() {
            zmq::XPUB
        } else {
            zmq::PUB
        }
    }

    fn configure(&self, socket: &Socket) -> zmq::Result<()> {
        socket.set_sndhwm(self.options.send_hwm)?;
        let linger = i32::try_from(self.options.linger.as_millis()).unwrap_or(i32::MAX);
        socket.set_linger(linger)?;
        socket.set_rcvhwm(RECEIVE_HWM)?;
        if !matches!(self.options.endpoint, Endpoint::Epgm { .. }) {
            socket.set_rcvbuf(RECEIVE_BUFFER)?;
        }
        socket.set_handshake_ivl(5_000)?;
        match &self.options.endpoint {
            Endpoint::Epgm { .. } => configure_multicast(socket),
            other => socket.set_ipv6(other.to_string().contains('[')),
        }
    }

    /// A socket as it is before it has an address.
    fn make(&mut self) -> Result<Socket, PubSubError> {
        let uri = self.options.endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(self.kind()).map_err(cannot())?;
        self.configure(&socket).map_err(cannot())?;
        give_up_lifeless(&mut socket)?;
        self.guarded = self.options.peers.guarded && self.tells_subscriptions();
        if self.tells_subscriptions() {
            let option = match self.guarded {
                true => ffi::XPUB_MANUAL,
                false => ffi::XPUB_VERBOSER,
            };
            ffi::set_int(&mut socket, option, 1).map_err(|error| PubSubError::System {
                what: format!("cannot configure {uri}"),
                why: error.to_string(),
            })?;
            socket.set_maxmsgsize(MAX_SUBSCRIPTION).map_err(cannot())?;
        }
        curve::binds(
            &mut socket,
            self.options.key.as_ref(),
            &self.options.endpoint,
        )?;
        if self.tells_subscriptions() || self.options.key.is_some() {
            let port = bound_port(&self.options.endpoint);
            let watch = Watch::of(&self.context, &socket, self.options.peers, port)?;
            self.watch = Some(watch);
        }
        (self.seats, self.in_step) = (Seats::default(), true);
        Ok(socket)
    }

    /// Drops the socket with its connections, and what watches it.
    fn drop_socket(&mut self) {
        if let Some(mut socket) = self.socket.take()
            && self.watch.take().is_some()
            && let Err(error) = ffi::stop_monitor(&mut socket)
        {
            let uri = &self.options.endpoint;
            log::error!("cannot end the monitor of {uri}: {error}");
        }
    }
}

type See<'a> = &'a mut dyn FnMut(&Subscription<'_>) -> bool;

/// Subscriptions.
///
/// Where they need leave, libzmq is in its manual mode: a subscription is made for the connection
/// that sent what was received last. Two of its ways are taken care of here. It keeps this
/// connection in mind when it has ended and its memory is gone; so nothing is made for one that may
/// have ended. And it takes the wrong connection after a message that is no subscription, until all
/// that waits was received; so nothing is made until then, and who asked for something meanwhile is
/// made to come again.
impl ZmqPublisher {
    /// Takes in one message of a subscriber.
    fn see(&mut self, message: &mut zmq::Message, see: See<'_>) -> Result<(), PubSubError> {
        // Whosever it is, and whatever becomes of it.
        self.in_step &= matches!(message.first(), Some(0 | 1));
        let Some(sender) = Sender::of(message) else {
            // Of a connection that has ended, made by libzmq: its seat tells what it had.
            return Ok(());
        };
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        // For each message, though it costs as much as all the rest: where nobody admits, only this tells
        // a connection from one that had its descriptor a moment ago, and the subscriptions of the one
        // would be taken for those of the other.
        watch.look()?;
        let standing = watch.spoke(&sender);
        self.part(see);
        match standing {
            Standing::Ended => return Ok(()),
            Standing::Open
                if !self
                    .seats
                    .came(&sender, &self.options.peers, Instant::now()) =>
            {
                self.spurn(&sender);
                return Ok(());
            }
            Standing::Open | Standing::Over => {}
        }
        let (added, prefix) = match message.split_first() {
            Some((1, prefix)) => (true, prefix),
            Some((0, prefix)) => (false, prefix),
            _ => {
                self.spurn(&sender);
                return Ok(());
            }
        };
        let subscription = Subscription {
            prefix,
            added,
            node: sender.node.as_deref(),
        };
        match self.guarded {
            true => self.judge(&sender, &subscription, see),
            // What is late is of no use any more: its end was seen.
            false if standing == Standing::Open => {
                self.note(&sender, &subscription, see);
                Ok(())
            }
            false => Ok(()),
        }
    }

    /// Ends a connection that does what no subscriber does.
    fn spurn(&mut self, sender: &Sender) {
        let ended = self.end(sender);
        self.counts.unruly += ended;
        // Once for each connection: it may have sent many.
        if ended > 0 {
            self.unruly.extend(sender.node.clone());
        }
    }

    /// Ends a connection; 1 when it did.
    fn end(&mut self, sender: &Sender) -> u64 {
        let watch = self.watch.as_mut();
        watch.is_some_and(|watch| watch.end(sender)).into()
    }

    /// A change that libzmq has made.
    fn note(&mut self, sender: &Sender, subscription: &Subscription<'_>, see: See<'_>) {
        let prefix = subscription.prefix;
        if !subscription.added {
            if self.seats.remove(sender, prefix) {
                see(subscription);
            }
        } else if !self.seats.has(sender, prefix) {
            match self.seats.has_room(sender, &self.options.peers) {
                true => {
                    self.seats.put(sender, prefix, true);
                    see(subscription);
                }
                false => self.refuse_more(sender),
            }
        }
    }

    /// A change that is to be made, or not.
    fn judge(
        &mut self,
        sender: &Sender,
        subscription: &Subscription<'_>,
        see: See<'_>,
    ) -> Result<(), PubSubError> {
        let is_over = |watch: &Watch| watch.is_over(sender);
        if self.watch.as_ref().is_none_or(is_over) {
            // Late, of one that has ended; or of one that came so soon after it that it cannot be
            // told from it.
            if self
                .seats
                .number(sender.fd)
                .is_none_or(|n| n <= sender.number)
            {
                self.counts.unclear += self.end(sender);
            }
            return Ok(());
        }
        if !self.in_step {
            self.counts.unclear += self.end(sender);
            return Ok(());
        }
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let cannot = || failed(format!("cannot subscribe at {}", self.options.endpoint));
        let prefix = subscription.prefix;
        if !subscription.added {
            if self.seats.remove(sender, prefix) {
                socket.set_unsubscribe(prefix).map_err(cannot())?;
                see(subscription);
            }
        } else if !self.seats.has(sender, prefix) {
            let room = self.seats.has_room(sender, &self.options.peers);
            let leave = room && see(subscription);
            if leave {
                socket.set_subscribe(prefix).map_err(cannot())?;
            }
            match room {
                true => self.seats.put(sender, prefix, leave),
                false => self.refuse_more(sender),
            }
        }
        Ok(())
    }

    /// Ends a connection that asks for more than it may have, or all together may.
    fn refuse_more(&mut self, sender: &Sender) {
        let ended = self.end(sender);
        self.counts.greedy += ended;
        // It would come at once and ask for as much again, and to forget all of it takes time.
        if ended > 0 && self.seats.is_full(sender, &self.options.peers) {
            self.unruly.extend(sender.node.clone());
        }
    }

    /// Takes leave of connections that have ended.
    fn part(&mut self, see: See<'_>) {
        let gone = self.watch.as_mut().map(Watch::gone).unwrap_or_default();
        for fd in gone {
            for prefix in self.seats.leave(fd) {
                see(&Subscription {
                    prefix: &prefix,
                    added: false,
                    node: None,
                });
            }
        }
    }
}

const CLOSED: PubSubError = PubSubError::Misuse("initialize comes before send_event");

impl Drop for ZmqPublisher {
    fn drop(&mut self) {
        self.drop_socket();
    }
}

impl PublisherApi for ZmqPublisher {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        if self.socket.is_some() {
            return Ok(());
        }
        let mut socket = self.make()?;
        if let Endpoint::Epgm { .. } = &self.options.endpoint {
            let uri = self.options.endpoint.to_string();
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
        if let Some(watch) = &mut self.watch {
            watch.look()?;
        }
        Ok(())
    }

    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        topic::write_frame(topic, &mut self.frame);
        let socket = self.socket.as_ref().ok_or(CLOSED)?;
        // The text is made for an error only: this is called for every event.
        let cannot =
            |error: zmq::Error| failed(format!("cannot send on {}", self.options.endpoint))(error);
        // It never waits: a subscriber that is full misses the message.
        socket.send(&self.frame[..], zmq::SNDMORE).map_err(cannot)?;
        socket.send(payload, 0).map_err(cannot)
    }

    fn subscriptions(&mut self, see: See<'_>) -> Result<bool, PubSubError> {
        if !self.tells_subscriptions() {
            return Ok(false);
        }
        let begun = Instant::now();
        let mut message = zmq::Message::new();
        let (mut count, mut last, mut all) = (0_usize, None::<Instant>, false);
        loop {
            let Some(socket) = &self.socket else {
                return Ok(false);
            };
            match socket.recv(&mut message, zmq::DONTWAIT) {
                Ok(()) => {
                    self.see(&mut message, see)?;
                    count += 1;
                    last = None;
                    if count.is_multiple_of(ROUND) && begun.elapsed() >= SLICE {
                        break;
                    }
                }
                Err(zmq::Error::EAGAIN) => {
                    self.in_step = true;
                    if count == 0 {
                        all = true;
                        break;
                    }
                    // libzmq holds few at a time: where there were some, more may follow at once.
                    let now = Instant::now();
                    let waited = now.saturating_duration_since(*last.get_or_insert(now));
                    if waited >= REFILL || now.saturating_duration_since(begun) >= SLICE {
                        break;
                    }
                    std::thread::yield_now();
                }
                Err(zmq::Error::EINTR) => break,
                Err(error) => {
                    let what = format!("cannot read subscriptions of {}", self.options.endpoint);
                    return Err(failed(what)(error));
                }
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.look()?;
            watch.thin_out(count, all);
        }
        self.part(see);
        Ok(!all)
    }

    fn guard(&mut self, guarded: bool) {
        self.options.peers.guarded = guarded;
    }

    fn end_connections(&mut self, whose: &mut dyn FnMut(&str) -> bool) -> usize {
        let Some(watch) = &mut self.watch else {
            return 0;
        };
        if let Err(error) = watch.look() {
            log::error!("{error}");
        }
        let mut ended = 0;
        for seat in self.seats.each() {
            let of = seat.sender.node.as_deref().is_some_and(&mut *whose);
            if of && !watch.is_over(&seat.sender) {
                ended += usize::from(watch.end(&seat.sender));
            }
        }
        ended
    }

    fn cut(&mut self, connections: bool) -> Result<bool, PubSubError> {
        if connections {
            if let Some(socket) = &self.socket {
                let cannot = failed(format!("cannot cut {}", self.options.endpoint));
                // Those who may not have it must not be sent what is on its way either.
                socket.set_linger(0).map_err(cannot)?;
            }
            self.drop_socket();
            // Sent to nobody until it is bound: agents find it missing and ask for it.
            self.socket = Some(self.make()?);
            self.lock = None;
        }
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        match bind(socket, &self.options.endpoint) {
            Ok(lock) => {
                self.lock = lock;
                if let Some(watch) = &mut self.watch {
                    watch.look()?;
                }
                Ok(true)
            }
            // libzmq closes in the background, and shows no end of it.
            Err(PubSubError::InUse { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unruly(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.unruly)
    }

    fn peers(&mut self) -> PeerCounts {
        let own = std::mem::take(&mut self.counts);
        let Some(watch) = &mut self.watch else {
            return own;
        };
        if let Err(error) = watch.look() {
            log::debug!("{error}");
        }
        let seen = watch.take();
        PeerCounts {
            open: seen.open,
            refused: seen.refused,
            crowded: seen.crowded,
            unruly: own.unruly + seen.unruly,
            ..own
        }
    }

    fn close(&mut self) {
        self.drop_socket();
        self.lock = None;
    }
}
