//! The drivers.

pub mod embedded;
pub mod memory;
