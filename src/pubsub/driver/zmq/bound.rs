//! A socket that is bound, with all that goes with it: what watches its connections, who may use its
//! path on ipc, and the lock of that path.

use zmq::Socket;

use super::watch::Watch;
use super::{bind, failed, ffi, monitor};
use crate::pubsub::api::PubSubError;
use crate::pubsub::endpoint::Endpoint;
use crate::util::group;
use crate::util::lock_file::LockFile;
use crate::util::users::Users;

/// Who may use a socket on ipc.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// The group whose members may; `None`: nobody but this user.
    pub group: Option<String>,
    /// Which users may, where not all of that group.
    pub users: Users,
}

/// Not open at first, and empty. All connections are ended by making it empty.
pub(crate) struct Bound {
    endpoint: Endpoint,
    access: Access,
    socket: Option<Socket>,
    watch: Option<Watch>,
    open: bool,
    /// Held until the socket is closed.
    lock: Option<LockFile>,
}

impl Bound {
    pub fn new(endpoint: &Endpoint, access: Access) -> Self {
        Bound {
            endpoint: endpoint.clone(),
            access,
            socket: None,
            watch: None,
            open: false,
            lock: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.socket.is_none()
    }

    /// Whether peers can come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The socket, whether it is open or not.
    pub fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// What watches it, if anything does.
    pub fn watch(&mut self) -> Option<&mut Watch> {
        self.watch.as_mut()
    }

    /// Takes a socket that has no address yet, and what watches it.
    pub fn fill(&mut self, mut socket: Socket, watch: Option<Watch>) -> Result<(), PubSubError> {
        if let Endpoint::Ipc { .. } = &self.endpoint {
            self.access.admit(&mut socket)?;
        }
        self.close();
        (self.socket, self.watch) = (Some(socket), watch);
        Ok(())
    }

    /// Opens the address, unless it is open. Where somebody has it the socket stays, to be opened later;
    /// after another error nothing is there.
    pub fn open(&mut self) -> Result<(), PubSubError> {
        if self.open {
            return Ok(());
        }
        let opened = self.bind();
        match &opened {
            Ok(()) => self.open = true,
            Err(PubSubError::InUse { .. }) => {}
            Err(_) => self.close(),
        }
        opened
    }

    fn bind(&mut self) -> Result<(), PubSubError> {
        let socket = self.socket.as_mut().ok_or(EMPTY)?;
        self.lock = bind(socket, &self.endpoint)?;
        self.access.share(&self.endpoint)?;
        self.watch.as_mut().map_or(Ok(()), Watch::look)
    }

    /// The same after [`Bound::cut`]: `false` as long as the address is not free, since libzmq closes in
    /// the background, and shows no end of it.
    pub fn reopen(&mut self) -> Result<bool, PubSubError> {
        match self.open() {
            Ok(()) => Ok(true),
            Err(PubSubError::InUse { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends all connections at once, whatever is on its way; to be filled and opened anew.
    pub fn cut(&mut self) -> Result<(), PubSubError> {
        if let Some(socket) = &self.socket {
            let cannot = failed(format!("cannot cut {}", self.endpoint));
            // Those who may not have it must not be sent what is on its way either.
            socket.set_linger(0).map_err(cannot)?;
        }
        self.close();
        Ok(())
    }

    /// Closes the socket, with what watches it; what was sent is given its `linger` to leave.
    pub fn close(&mut self) {
        if let (Some(socket), Some(_)) = (&mut self.socket, &self.watch) {
            monitor::end(socket, &self.endpoint.to_string());
        }
        (self.socket, self.watch, self.open) = (None, None, false);
        self.lock = None;
    }
}

const EMPTY: PubSubError = PubSubError::Misuse("a socket is filled before it is opened");

impl Drop for Bound {
    fn drop(&mut self) {
        self.close();
    }
}

impl Access {
    /// Whether there are users who may not use it whatever group they are of; who watches it is told of
    /// them.
    pub fn is_limited(&self) -> bool {
        self.users.listed().is_some()
    }

    /// Lets these users connect to a socket that will be bound on ipc, and no others.
    pub fn admit(&self, socket: &mut Socket) -> Result<(), PubSubError> {
        for user in self.users.listed().unwrap_or_default() {
            // libzmq reads the number as an int.
            ffi::set_int(socket, ffi::IPC_FILTER_UID, user.cast_signed()).map_err(|error| {
                PubSubError::System {
                    what: format!("cannot admit user {user}"),
                    why: error.to_string(),
                }
            })?;
        }
        Ok(())
    }

    /// Opens the path of a socket that is bound on ipc, which the umask has closed so far, to them.
    pub fn share(&self, endpoint: &Endpoint) -> Result<(), PubSubError> {
        let Endpoint::Ipc { path } = endpoint else {
            return Ok(());
        };
        let group = self.group.as_deref();
        group::share(path, group, endpoint).map_err(|error| PubSubError::System {
            what: format!("cannot set who may use {endpoint}"),
            why: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::{Duration, Instant};

    use super::super::ZmqPubSub;
    use super::*;
    use crate::pubsub::{PubSubApi, PublisherOptions};

    /// Not this process's own, where it may give it; and its number.
    fn group() -> (Option<String>, u32) {
        match rustix::process::geteuid().is_root() {
            true => (
                "daemon".to_owned().into(),
                group::number("daemon").unwrap().unwrap(),
            ),
            false => (None, rustix::process::getegid().as_raw()),
        }
    }

    #[test]
    fn a_path_is_for_its_group_after_a_cut_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        let (group, gid) = group();
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let context = zmq::Context::new();
        let mut publisher = ZmqPubSub::with_context(&context)
            .publisher(&PublisherOptions {
                endpoint: Endpoint::Ipc { path: path.clone() },
                send_hwm: 1_000,
                subscriptions: true,
                send_timeout: Duration::ZERO,
                linger: Duration::ZERO,
                socket_group: group,
                socket_users: Users::default(),
                key: None,
                peers: Default::default(),
            })
            .unwrap();
        let may = || {
            let path = std::fs::metadata(&path).expect("it is there");
            (path.permissions().mode() & 0o777, path.gid())
        };
        publisher.initialize().unwrap();
        assert_eq!(may(), (mode, gid));
        for _ in 0..20 {
            let mut first = true;
            let until = Instant::now() + Duration::from_secs(20);
            let mut cut = |first| publisher.control().unwrap().cut(first).unwrap();
            while !cut(std::mem::take(&mut first)) {
                assert!(Instant::now() < until, "it does not open again");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(may(), (mode, gid));
            // libzmq closes in the background; it does not remove the path, which is the next one's.
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(may(), (mode, gid));
        }
        let client = context.socket(zmq::SUB).unwrap();
        client.set_linger(0).unwrap();
        client.set_subscribe(b"").unwrap();
        client
            .connect(&format!("ipc://{}", path.display()))
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while client.poll(zmq::POLLIN, 5).unwrap() == 0 {
            assert!(Instant::now() < until, "nothing is heard");
            publisher.send_payload("t", b"x").unwrap();
        }
    }
}
