//! The ROUTER socket and its address.

use std::os::fd::RawFd;
use std::time::Instant;

use zmq::Socket;

use super::SyncOptions;
use super::debts::{Debts, Room};
use crate::publisher::gate::Cuts;
use crate::pubsub::driver::zmq::sender::Sender;
use crate::pubsub::driver::zmq::watch::{Standing, Watch};
use crate::pubsub::driver::zmq::{
    RECEIVE_BUFFER, bind, bound_port, curve, failed, ffi, give_up_lifeless,
};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{PeerCounts, PubSubError};
use crate::sync::MAX_REQUEST;
use crate::util::lock_file::LockFile;

/// Answers that libzmq keeps for a client that does not read them; more are dropped and counted.
/// With a request per answer a client has this many only by asking for as much without reading. How long
/// they may be together, [`Debts`] says.
const SEND_HWM: i32 = 16;

/// Requests libzmq may hold per client: any number, and those who send too many are ended. With a limit
/// libzmq would stop reading, and would not notice the end of a connection that is over the limit; for
/// good, where two claim the same identity: it takes nothing in from the second.
const RECEIVE_HWM: i32 = 0;

pub(super) struct Door {
    context: zmq::Context,
    endpoint: Endpoint,
    options: SyncOptions,
    socket: Socket,
    watch: Watch,
    /// Connections ended by [`Door::spurn`], and to make room.
    unruly: u64,
    unread: u64,
    debts: Debts,
    open: bool,
    cuts: Cuts,
    /// Cuts done.
    cut: u64,
    /// Held until the socket is closed.
    lock: Option<LockFile>,
}

impl Door {
    /// Not yet open.
    pub fn new(
        context: &zmq::Context,
        endpoint: &Endpoint,
        options: &SyncOptions,
    ) -> Result<Self, PubSubError> {
        let (socket, watch) = make(context, endpoint, options)?;
        Ok(Door {
            context: context.clone(),
            endpoint: endpoint.clone(),
            options: options.clone(),
            socket,
            watch,
            unruly: 0,
            unread: 0,
            debts: Debts::default(),
            open: false,
            cut: options.cuts.count(),
            cuts: options.cuts.clone(),
            lock: None,
        })
    }

    /// The socket, whether it is open or not.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether clients are known by their keys.
    pub fn knows(&self) -> bool {
        curve::knows(self.options.key.as_ref(), &self.endpoint)
    }

    /// Whether clients can come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Binds the address, unless it is bound.
    pub fn open(&mut self) -> Result<(), PubSubError> {
        if !self.open {
            self.lock = bind(&mut self.socket, &self.endpoint)?;
            self.open = true;
            self.watch.look()?;
        }
        Ok(())
    }

    /// Ends all connections, if that is ordered, and opens the address again: at the first call or
    /// at a later one, since libzmq closes in the background.
    pub fn obey(&mut self) -> Result<(), PubSubError> {
        let ordered = self.cuts.count();
        if ordered != self.cut {
            // Those who may not have them must not be sent answers that are on their way.
            self.socket
                .set_linger(0)
                .map_err(failed(format!("cannot cut {}", self.endpoint)))?;
            let (socket, watch) = make(&self.context, &self.endpoint, &self.options)?;
            self.stop_monitor();
            self.socket = socket;
            self.watch = watch;
            self.debts = Debts::default();
            self.open = false;
            self.lock = None;
            self.cut = ordered;
        }
        match self.open() {
            Err(PubSubError::InUse { .. }) => Ok(()),
            other => other,
        }
    }

    /// Somebody has sent something; whether it is to be heard.
    pub fn hears(&mut self, sender: &Sender) -> bool {
        if let Err(error) = self.watch.look() {
            log::debug!("{error}");
        }
        self.watch.spoke(sender) == Standing::Open
    }

    /// Somebody who is heard has asked something.
    pub fn asked(&mut self, client: &[u8], sender: &Sender) {
        self.forget();
        self.debts
            .heard(client, sender.fd, || match (&sender.node, sender.address) {
                (Some(node), _) => node.as_bytes().into(),
                (None, Some(address)) => address.to_string().into_bytes().into(),
                (None, None) => client.into(),
            });
    }

    /// Whether a client may be sent an answer of so many bytes; who has least right to what there is of room is
    /// ended for it.
    pub fn has_room(&mut self, client: &[u8], length: usize) -> bool {
        let now = Instant::now();
        loop {
            match self.debts.room(client, length, now, arrived) {
                Room::Free => return true,
                Room::Full => return false,
                Room::After(fd) => {
                    self.unread += u64::from(self.watch.end_one(fd));
                    self.debts.ended(fd);
                }
            }
        }
    }

    /// A client was sent an answer.
    pub fn sent(&mut self, client: &[u8], length: usize) {
        self.debts.sent(client, length);
    }

    /// Bytes of answers that have not arrived.
    pub fn unread(&self) -> usize {
        self.debts.bytes()
    }

    fn forget(&mut self) {
        for fd in self.watch.gone() {
            self.debts.gone(fd);
        }
    }

    /// Ends the connection of somebody who sends more than anybody has use for.
    pub fn spurn(&mut self, sender: &Sender) {
        self.unruly += u64::from(self.watch.spurn(sender));
    }

    /// Looks at the connections, and ends those that are too many; what became of them since the last
    /// call.
    pub fn peers(&mut self) -> Result<PeerCounts, PubSubError> {
        self.watch.look()?;
        self.watch.thin_out(0, true);
        self.forget();
        self.debts.measure(Instant::now(), arrived);
        let mut counts = self.watch.take();
        counts.unruly += std::mem::take(&mut self.unruly);
        counts.unread += std::mem::take(&mut self.unread);
        Ok(counts)
    }

    fn stop_monitor(&mut self) {
        if let Err(error) = ffi::stop_monitor(&mut self.socket) {
            log::error!("cannot end the monitor of {}: {error}", self.endpoint);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop_monitor();
    }
}

fn arrived(fd: RawFd) -> Option<u64> {
    ffi::traffic(fd).map(|traffic| traffic.arrived)
}

fn make(
    context: &zmq::Context,
    endpoint: &Endpoint,
    options: &SyncOptions,
) -> Result<(Socket, Watch), PubSubError> {
    let uri = endpoint.to_string();
    let mut socket = context
        .socket(zmq::ROUTER)
        .and_then(|socket| configure(&socket, &uri, options).map(|()| socket))
        .map_err(failed(format!("cannot open a socket for {uri}")))?;
    give_up_lifeless(&mut socket)?;
    curve::binds(&mut socket, options.key.as_ref(), endpoint)?;
    let port = bound_port(endpoint);
    let known = options.key.is_some();
    let watch = Watch::of(context, &socket, options.peers, port, known)?;
    Ok((socket, watch))
}

fn configure(socket: &zmq::Socket, uri: &str, options: &SyncOptions) -> zmq::Result<()> {
    socket.set_sndhwm(SEND_HWM)?;
    // An answer that cannot be sent is counted, where without it it would vanish.
    socket.set_router_mandatory(true)?;
    socket.set_rcvhwm(RECEIVE_HWM)?;
    socket.set_rcvbuf(RECEIVE_BUFFER)?;
    // Up to twice the limit a request is answered with a reason; beyond, the connection is cut.
    socket.set_maxmsgsize(2 * MAX_REQUEST as i64)?;
    socket.set_handshake_ivl(5_000)?;
    socket.set_ipv6(uri.contains('['))?;
    socket.set_linger(i32::try_from(options.linger.as_millis()).unwrap_or(i32::MAX))
}
