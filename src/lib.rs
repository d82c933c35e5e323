//! Fanfare keeps a daemon on every compute node in step with a few API servers.
//!

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod dispatch;
pub mod event;
pub mod handler;
pub mod metrics;
pub mod pubsub;
pub mod replica;
pub mod util;
