//! Handlers: the local consumers of events.

pub mod api;
mod command;
pub mod exec;
pub mod file;
pub mod json;
pub mod log;
pub mod pipe;
pub mod registry;

pub use api::{Build, BuildError, Closing, Handler, HandlerError, Module, Settings, SyncReason};
