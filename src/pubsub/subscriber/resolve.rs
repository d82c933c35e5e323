//! Names to addresses, away from the threads that must not wait.
//!
//! libzmq would resolve on its I/O thread, which serves all connections, and would use the first
//! address only (design §11, 15). Here each look-up has a thread of its own: the system's resolver
//! cannot be interrupted, and one that hangs must hold up neither a reader nor the end of the
//! process. A reader has at most one look-up under way.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::util::thread::Thread;

/// What a look-up found; the addresses are never empty.
pub type Found = Result<Vec<SocketAddr>, String>;

/// Looks `name` up and hands the result to `done`, on another thread.
pub fn look_up(name: String, port: u16, done: impl FnOnce(Found) + Send + 'static) {
    let what = format!("{name}:{port}");
    let body = move || {
        let found = match (name.as_str(), port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect::<Vec<_>>()),
            Err(error) => Err(error.to_string()),
        };
        done(found.and_then(|addresses| match addresses.is_empty() {
            true => Err("the name has no address".into()),
            false => Ok(addresses),
        }));
    };
    // Without a thread there is no answer; the session's deadline then counts as a failure.
    if let Err(error) = Thread::spawn("resolve", body) {
        log::error!("cannot look {what} up: no thread: {error}");
    }
}
