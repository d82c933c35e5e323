//! The ROUTER socket and its address.

use std::os::fd::RawFd;
use std::time::Instant;

use zmq::Socket;

use super::SyncOptions;
use super::debts::{Debts, Room};
use crate::publisher::gate::Cuts;
use crate::pubsub::driver::zmq::bound::{Access, Bound};
use crate::pubsub::driver::zmq::sender::Sender;
use crate::pubsub::driver::zmq::watch::{Standing, Watch};
use crate::pubsub::driver::zmq::{
    RECEIVE_BUFFER, bound_port, curve, failed, give_up_lifeless, tcp,
};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::{PeerCounts, PubSubError};
use crate::sync::MAX_REQUEST;

/// Answers that libzmq keeps for a client that does not read them; more are dropped and counted.
/// With a request per answer a client has this many only by asking for as much without reading. How long
/// they may be together, [`Debts`] says.
const SEND_HWM: i32 = 16;

/// Requests libzmq may hold per client: any number, and those who send too many are ended. With a limit
/// libzmq would stop reading, and would not notice the end of a connection that is over the limit; for
/// good, where two claim the same identity: it takes nothing in from the second.
const RECEIVE_HWM: i32 = 0;

/// Up to twice the limit a request is answered with a reason; beyond, the connection is cut.
const LONGEST: i64 = 2 * MAX_REQUEST as i64;

pub(super) struct Door {
    context: zmq::Context,
    endpoint: Endpoint,
    options: SyncOptions,
    bound: Bound,
    /// Connections ended by [`Door::spurn`], and to make room.
    unruly: u64,
    unread: u64,
    debts: Debts,
    cuts: Cuts,
    /// Cuts done.
    cut: u64,
}

impl Door {
    /// Open.
    pub fn open(
        context: &zmq::Context,
        endpoint: &Endpoint,
        options: &SyncOptions,
    ) -> Result<Self, PubSubError> {
        let access = Access {
            group: options.socket_group.clone(),
            users: options.socket_users.clone(),
        };
        let mut door = Door {
            context: context.clone(),
            endpoint: endpoint.clone(),
            options: options.clone(),
            bound: Bound::new(endpoint, access),
            unruly: 0,
            unread: 0,
            debts: Debts::default(),
            cut: options.cuts.count(),
            cuts: options.cuts.clone(),
        };
        door.prepare()?;
        door.bound.open()?;
        Ok(door)
    }

    /// The socket, whether it is open or not; `None` where none can be made after a cut.
    pub fn socket(&self) -> Option<&Socket> {
        self.bound.socket()
    }

    /// Whether clients are known by their keys.
    pub fn knows(&self) -> bool {
        curve::knows(self.options.key.as_ref(), &self.endpoint)
    }

    /// Whether clients can come.
    pub fn is_open(&self) -> bool {
        self.bound.is_open()
    }

    /// Ends all connections, if that is ordered, and opens the address again: at the first call or
    /// at a later one, since libzmq closes in the background.
    pub fn obey(&mut self) -> Result<(), PubSubError> {
        let ordered = self.cuts.count();
        if ordered != self.cut {
            self.bound.cut()?;
            self.debts = Debts::default();
            self.cut = ordered;
        }
        self.prepare()?;
        self.bound.reopen().map(drop)
    }

    /// Has a socket that may be opened.
    fn prepare(&mut self) -> Result<(), PubSubError> {
        if !self.bound.is_empty() {
            return Ok(());
        }
        let (endpoint, options) = (&self.endpoint, &self.options);
        let uri = endpoint.to_string();
        let mut socket = self
            .context
            .socket(zmq::ROUTER)
            .and_then(|socket| configure(&socket, &uri, options).map(|()| socket))
            .map_err(failed(format!("cannot open a socket for {uri}")))?;
        give_up_lifeless(&mut socket)?;
        curve::binds(&mut socket, options.key.as_ref(), endpoint)?;
        let port = bound_port(endpoint);
        let admitted = options.key.as_ref().map(|key| key.admitted.clone());
        let at = (port, LONGEST as u64);
        let watch = Watch::of(&self.context, &socket, options.peers, at, admitted)?;
        self.bound.fill(socket, Some(watch))
    }

    /// Somebody has sent something; whether it is to be heard.
    pub fn hears(&mut self, sender: &Sender) -> bool {
        let Some(watch) = self.bound.watch() else {
            return false;
        };
        if let Err(error) = watch.look() {
            log::debug!("{error}");
        }
        watch.spoke(sender) == Standing::Open
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
                    let watch = self.bound.watch();
                    self.unread += u64::from(watch.is_some_and(|watch| watch.end_one(fd)));
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
        for fd in self.bound.watch().map(Watch::take_gone).unwrap_or_default() {
            self.debts.gone(fd);
        }
    }

    /// Ends the connection of somebody who sends more than anybody has use for.
    pub fn spurn(&mut self, sender: &Sender) {
        let watch = self.bound.watch();
        self.unruly += u64::from(watch.is_some_and(|watch| watch.spurn(sender)));
    }

    /// Keeps somebody like that out whose connection has ended or was ended.
    pub fn shun(&mut self, sender: &Sender) {
        let watch = self.bound.watch();
        self.unruly += u64::from(watch.is_some_and(|watch| watch.shun(sender)));
    }

    /// Looks at the connections, and ends those that are too many or do harm; what became of them since the last
    /// call, in which so many requests were received; and whether these were `all`.
    pub fn police(&mut self, received: usize, all: bool) -> Result<PeerCounts, PubSubError> {
        let mut counts = PeerCounts::default();
        if let Some(watch) = self.bound.watch() {
            watch.look()?;
            watch.thin_out(received, all);
            counts = watch.take();
        }
        self.forget();
        self.debts.measure(Instant::now(), arrived);
        counts.unruly += std::mem::take(&mut self.unruly);
        counts.unread += std::mem::take(&mut self.unread);
        Ok(counts)
    }
}

fn arrived(fd: RawFd) -> Option<u64> {
    tcp::traffic(fd).map(|traffic| traffic.arrived)
}

fn configure(socket: &zmq::Socket, uri: &str, options: &SyncOptions) -> zmq::Result<()> {
    socket.set_sndhwm(SEND_HWM)?;
    // An answer that cannot be sent is counted, where without it it would vanish.
    socket.set_router_mandatory(true)?;
    socket.set_rcvhwm(RECEIVE_HWM)?;
    socket.set_rcvbuf(RECEIVE_BUFFER)?;
    socket.set_maxmsgsize(LONGEST)?;
    socket.set_handshake_ivl(5_000)?;
    socket.set_ipv6(uri.contains('['))?;
    socket.set_linger(i32::try_from(options.linger.as_millis()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_unix_socket_stays_closed_to_others_when_all_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock.sync");
        let options = SyncOptions::default();
        let endpoint = Endpoint::Ipc { path: path.clone() };
        let mut door = Door::open(&zmq::Context::new(), &endpoint, &options).unwrap();
        let mode = || {
            let path = std::fs::metadata(&path).expect("it is there");
            path.permissions().mode() & 0o777
        };
        assert_eq!(mode(), 0o600);
        for _ in 0..20 {
            options.cuts.order();
            door.obey().unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while !door.is_open() {
                assert!(Instant::now() < until, "it does not open again");
                std::thread::sleep(Duration::from_millis(1));
                door.obey().unwrap();
            }
            // libzmq closes in the background; it does not remove the path, which is the next one's.
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(mode(), 0o600);
        }
    }
}
