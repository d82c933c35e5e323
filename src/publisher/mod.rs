//! The publishing side.

pub mod heartbeat;
pub mod json_line;
pub mod lease;
pub mod monitor;
pub mod version;
