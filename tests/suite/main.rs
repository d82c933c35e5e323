//! Fanfare from outside: real sockets, real processes, peers that know nothing of this crate.
//!
//! Every test that injects a fault also proves that the fault happened. Nothing waits for a fixed
//! time to synchronise: [`rig::until`] waits for a condition, and fails at a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

mod configuration;
mod control;
mod corpus;
mod handlers;
mod hostile;
mod interop;
mod lanes;
mod malformed;
mod memory;
mod multiproc;
mod names;
mod recovery;
mod registration;
mod restart;
mod security;
mod service;
mod siege;
mod slow;
mod stop;
mod topics;
mod transports;
