//! Keys: who is who on the network.
//!
//! Every party has a CURVE key pair. An agent knows its publishers by their public keys, a publisher
//! its nodes by the files in one directory. Nothing here opens a socket.

pub mod admission;
pub mod admitted;
pub mod authorized;
pub mod file;
pub mod grants;
pub mod key;
pub mod party;
pub mod pending;
mod remedy;
mod z85;
