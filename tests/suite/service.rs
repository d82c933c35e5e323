//! The publisher service as a process: what it acknowledged survives everything.

mod clean;
mod discovery;
mod full;
mod hello;
mod host;
mod kill;
mod listener;
mod push;
mod sync;
mod versions;
