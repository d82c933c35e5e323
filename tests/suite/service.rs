//! The publisher service as a process: what it acknowledged survives everything.

mod clean;
mod discovery;
mod eio;
mod full;
mod hello;
pub mod host;
mod kill;
mod kill_push;
mod limits;
mod listener;
mod own;
mod push;
mod sync;
mod threads;
mod twins;
mod versions;
