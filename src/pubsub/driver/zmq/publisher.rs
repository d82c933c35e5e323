//! The sending side: a PUB or XPUB socket.

mod subscriptions;

use std::time::Instant;

use zmq::Socket;

use super::bound::{Access, Bound};
use super::changes::Changes;
use super::seats::Seats;
use super::watch::Watch;
use super::{
    RECEIVE_BUFFER, bound_port, configure_multicast, curve, failed, ffi, give_up_lifeless,
};
use crate::event::topic;
use crate::pubsub::api::{PeerControl, PeerCounts, PubSubError, PublisherApi, PublisherOptions};
use crate::pubsub::endpoint::Endpoint;

use self::subscriptions::See;

pub struct ZmqPublisher {
    context: zmq::Context,
    options: PublisherOptions,
    bound: Bound,
    seats: Seats,
    changes: Changes,
    /// Whether subscriptions of this socket need leave.
    guarded: bool,
    /// Whether libzmq's idea of who sent what was received is right; see [`subscriptions`].
    in_step: bool,
    counts: PeerCounts,
    frame: Vec<u8>,
}

/// Longest message of a subscriber, bytes: a subscription, the longest topic in it, and room.
const MAX_SUBSCRIPTION: i64 = 1024;

/// Changes of subscriptions that libzmq holds of one connection. Few: it takes in all there are of one
/// without a pause, and with more than these a peer that is fast fills them again meanwhile, so that
/// it never ends.
const RECEIVE_HWM: i32 = 2;

impl ZmqPublisher {
    pub fn new(context: zmq::Context, options: PublisherOptions) -> Self {
        let access = Access {
            group: options.socket_group.clone(),
            users: options.socket_users.clone(),
        };
        ZmqPublisher {
            context,
            bound: Bound::new(&options.endpoint, access),
            options,
            seats: Seats::default(),
            changes: Changes::new(Instant::now()),
            guarded: false,
            in_step: true,
            counts: PeerCounts::default(),
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

    /// Has a socket that may be opened.
    fn prepare(&mut self) -> Result<(), PubSubError> {
        if !self.bound.is_empty() {
            return Ok(());
        }
        let uri = self.options.endpoint.to_string();
        let cannot = || failed(format!("cannot open a socket for {uri}"));
        let mut socket = self.context.socket(self.kind()).map_err(cannot())?;
        self.configure(&socket).map_err(cannot())?;
        give_up_lifeless(&mut socket)?;
        let guarded = self.options.peers.guarded && self.tells_subscriptions();
        if self.tells_subscriptions() {
            let option = match guarded {
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
        let admitted = self.options.key.as_ref().map(|key| key.admitted.clone());
        let limited = self.options.socket_users.listed().is_some();
        let watch = match self.tells_subscriptions() || admitted.is_some() || limited {
            true => {
                let port = bound_port(&self.options.endpoint);
                let rules = self.options.peers;
                let at = (port, subscriptions::MAX_MESSAGE);
                Some(Watch::of(&self.context, &socket, rules, at, admitted)?)
            }
            false => None,
        };
        self.bound.fill(socket, watch)?;
        (self.guarded, self.seats, self.in_step) = (guarded, Seats::default(), true);
        Ok(())
    }
}

const CLOSED: PubSubError = PubSubError::Misuse("initialize comes before send_event");

impl PublisherApi for ZmqPublisher {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        let opened = self.prepare().and_then(|()| self.bound.open());
        if opened.is_err() {
            self.bound.close();
        }
        opened
    }

    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        topic::write_frame(topic, &mut self.frame);
        let socket = self.bound.socket().ok_or(CLOSED)?;
        // The text is made for an error only: this is called for every event.
        let cannot =
            |error: zmq::Error| failed(format!("cannot send on {}", self.options.endpoint))(error);
        // It never waits: a subscriber that is full misses the message.
        socket.send(&self.frame[..], zmq::SNDMORE).map_err(cannot)?;
        socket.send(payload, 0).map_err(cannot)
    }

    fn control(&mut self) -> Option<&mut dyn PeerControl> {
        // Nobody connects to a group of multicast.
        match &self.options.endpoint {
            Endpoint::Epgm { .. } => None,
            _ => Some(self),
        }
    }

    fn close(&mut self) {
        self.bound.close();
    }
}

impl PeerControl for ZmqPublisher {
    fn subscriptions(&mut self, see: See<'_>) -> Result<bool, PubSubError> {
        if !self.tells_subscriptions() {
            return Ok(false);
        }
        self.take_in(see)
    }

    fn guard(&mut self, guarded: bool) {
        self.options.peers.guarded = guarded;
    }

    fn end_connections(&mut self, whose: &mut dyn FnMut(&str) -> bool) -> usize {
        let Some(watch) = self.bound.watch() else {
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
            self.bound.cut()?;
        }
        // Sent to nobody until it is open: agents find it missing and ask for it.
        self.prepare()?;
        self.bound.reopen()
    }

    fn peers(&mut self) -> PeerCounts {
        let own = std::mem::take(&mut self.counts);
        let Some(watch) = self.bound.watch() else {
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
            stuck: seen.stuck,
            cast_out: seen.cast_out,
            kept_out: seen.kept_out,
            unclear: own.unclear + seen.unclear,
            ..own
        }
    }
}
