//! Handlers: the local consumers of events.

pub mod api;
pub mod exec;
pub mod file;
pub mod json;
pub mod log;
pub mod registry;
pub mod topics;

pub use api::{Build, BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason};
pub use topics::TopicRequests;
