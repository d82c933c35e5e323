//! The publisher service as a process: what it acknowledged survives everything.

mod clean;
mod discovery;
mod eio;
mod full;
mod hello;
mod kill;
mod limits;
mod own;
mod push;
mod sync;
mod threads;
mod twins;
mod versions;
