//! The common part of subscribers: `SubscriberAgentBase`, one reader thread per publisher.

pub mod base;
pub mod follow;
mod intake;
pub mod link;
mod names;
mod reader;
mod resolve;
pub mod session;

pub use base::SubscriberAgentBase;
pub use follow::Follow;
pub use link::{Link, Received, Signal, Transport};
