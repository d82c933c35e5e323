//! Handlers: the local consumers of events.

pub mod api;
mod command;
pub mod exec;
pub mod file;
mod folder;
pub mod json;
pub mod log;
mod mode;
pub mod pipe;
pub mod registry;
pub mod socket;
pub mod topics;

pub use api::{Build, BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason};
pub use topics::TopicRequests;
