//! The publishing side.

pub mod json_line;
