//! The control socket: how operators and their programs talk to a running daemon.
//!
//! A unix socket in `run_dir`, for the daemon's user and the group `fanfare` only, and JSON, one
//! object a line. The daemon begins with a greeting, then answers each request with any number of
//! items and exactly one end:
//!
//! ```text
//! daemon  {"fanfare":"agent","version":"0.1.0","protocol":1}
//! client  {"v":1,"do":"get","table":"lport","key":"p1"}
//! daemon  {"item":{"table":"lport","key":"p1","value":"…","topic":"D","version":7}}
//! daemon  {"done":{"rows":1}}
//! client  {"v":1,"do":"resync","handler":"nobody"}
//! daemon  {"failed":{"code":"not-found","message":"there is no handler nobody"}}
//! ```
//!
//! Requests are [`Request`], answers [`Reply`]. A request that cannot be read is answered with
//! `bad-request` and costs nothing else; unknown members are refused, so that a misspelt one is not
//! taken for its absence. Clients ignore members that they do not know. `v` rises when a
//! request changes its meaning; a daemon answers `bad-version` to one it does not know.
//!
//! | bound | value |
//! |---|---|
//! | a request | [`MAX_REQUEST`] bytes; a longer one ends the connection |
//! | clients | [`MAX_CLIENTS`]; one more is told `busy` |
//! | a client that reads nothing | [`WRITE_TIMEOUT`], then it is dropped |
//! | a client that asks nothing | [`IDLE_TIMEOUT`], then it is dropped |
//! | events that wait for a `watch` | see [`crate::dispatch::onlook`]; more are left out, and the client is told how many |
//!
//! The daemon's own work never waits for a client: each has a thread of its own.

mod calls;
mod client;
mod desk;
// Shown for what fuzzes it, and for nothing else.
#[doc(hidden)]
pub mod lines;
mod reply;
mod request;
mod server;
mod session;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use calls::{Calls, Job, calls};
pub use client::{Client, ClientError};
pub use desk::{Answer, Desk, Fed, Feed};
pub use reply::{Code, Greeting, Refusal, Reply};
pub use request::{Bad, Request};
pub use server::{Control, ControlError, ControlMetrics, Options};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;

/// Longest request, bytes, with the end of its line.
pub const MAX_REQUEST: usize = 64 << 10;

/// Longest answer line that a client takes, bytes. One row's value, escaped, must fit.
pub const MAX_REPLY: usize = 1 << 30;

/// Clients served at a time.
pub const MAX_CLIENTS: usize = 16;

/// A client that has not taken what it is sent for so long is dropped.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that has asked nothing for so long is dropped, so that forgotten ones do not keep
/// others out.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client waits for the next line of an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The socket of `daemon` (`agent`, `publisher`) in `run_dir`.
pub fn socket_path(run_dir: &Path, daemon: &str) -> PathBuf {
    run_dir.join(format!("{daemon}-control.sock"))
}
