//! The common part of subscribers: `SubscriberAgentBase`, one reader thread per publisher.

pub mod base;
mod intake;
pub mod link;
mod reader;
mod resolve;
pub mod session;

pub use base::SubscriberAgentBase;
pub use link::{Link, Received, Signal, Transport};
