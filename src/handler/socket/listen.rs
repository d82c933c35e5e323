//! The socket in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::util::lock_file::LockFile;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A listening socket, and the lock beside it that keeps a second agent from taking its place.
/// Dropping it removes the socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub socket: UnixListener,
    path: PathBuf,
    _lock: LockFile,
}

impl Listener {
    /// Listens at `path`, where a socket that nobody locks is replaced. Nobody can connect before
    /// mode and group are set: a socket that does not listen yet refuses.
    ///
    /// # Errors
    /// What is in the way, with the path.
    pub fn open(path: &Path, mode: u32, gid: Option<u32>) -> Result<Self, String> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = LockFile::acquire(Path::new(&lock_path)).map_err(|error| error.to_string())?;
        let socket =
            Self::bind(path, mode, gid).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Listener {
            socket,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    fn bind(path: &Path, mode: u32, gid: Option<u32>) -> io::Result<UnixListener> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("is there already and is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        if gid.is_some() {
            chown(path, None, gid)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        Ok(UnixListener::from(socket))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}
