//! Names to addresses, away from the threads that must not wait.
//!
//! libzmq would resolve on its I/O thread, which serves all connections, and would use the first
//! address only. Here each look-up has a thread of its own: the system's resolver
//! cannot be interrupted, and one that hangs must hold up neither a reader nor the end of the
//! process. A reader starts no look-up while another of its own is under way.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::util::thread::Thread;

/// What a look-up found; the addresses are never empty.
pub type Found = Result<Vec<SocketAddr>, String>;

/// Looks `name` up and hands the result to `done`, on another thread. On error there is no thread
/// to be had, and `done` is not called.
pub fn look_up(
    name: String,
    port: u16,
    done: impl FnOnce(Found) + Send + 'static,
) -> io::Result<()> {
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
    Thread::spawn("resolve", body).map(drop)
}
