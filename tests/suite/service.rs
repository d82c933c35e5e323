//! The publisher service as a process: what it acknowledged survives everything.

mod clean;
mod discovery;
mod eio;
mod full;
mod hello;
mod host;
mod kill;
mod kill_push;
mod listener;
mod own;
mod push;
mod twins;
mod versions;
