//! The publishing side: the service of an API server host, and the client of its workers.

pub mod audience;
pub mod client;
pub mod gate;
pub mod group;
pub mod heartbeat;
pub mod history;
pub mod json_line;
pub mod lease;
pub mod monitor;
pub mod peers;
pub mod permits;
pub mod reach;
pub mod requests;
pub mod service;
pub mod submit;
pub mod sync;
pub mod version;
