//! Fanfare keeps a daemon on every compute node in step with a few API servers.
//!
//! API servers publish changes of their database; every node's agent subscribes to every one of
//! them and hands the changes to local handlers. The wire is that of OpenStack Dragonflow's ZeroMQ
//! driver, so either side can be replaced on its own.
//!
//! # Map
//!
//! A file imports from its own module, from lower layers, and beside it only what stands in the table of
//! `tests/layers.rs`, which has no cycle; that test keeps it so.
//!
//! | layer | modules |
//! |---|---|
//! | leaf | [`event`] and its wire form, [`util`], [`mod@metrics`] |
//! | contracts | [`pubsub`]: the traits, drivers and the common part of subscribers; [`handler`]: the trait, the modules in the box; [`security`]: keys and grants; [`sync`]: the protocol of the sync service; [`replica`]: the rows; [`store`]: the northbound store and its drivers |
//! | engines | [`dispatch`]: readers to handlers; [`agent`]; [`publisher`] |
//! | surface | [`config`], [`status`], [`control`], [`exporter`] |
//! | wiring | [`app`]: the programs |
//!
//! # Writing a handler
//!
//! Implement [`handler::Handler`], add a [`handler::Module`] to [`handler::registry::Registry`],
//! and call [`app::agent::run`] from `main`.
//!
//! # Invariants
//!
//! * A socket is used by the thread that owns it and by no other.
//! * A reader waits for its socket and its commands, never for a handler or a name server.
//! * All lanes are given changes in the order in which the replica took them.
//! * What a peer sends can cost a counter and a log line, not a connection, a resync or memory
//!   beyond a configured bound.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod agent;
pub mod app;
pub mod config;
pub mod control;
pub mod dispatch;
pub mod event;
pub mod exporter;
pub mod handler;
pub mod metrics;
pub mod publisher;
pub mod pubsub;
pub mod replica;
pub mod security;
pub mod status;
pub mod store;
pub mod sync;
pub mod util;

/// The examples of the documents, so that they compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/handlers.md")]
pub struct Documents;
