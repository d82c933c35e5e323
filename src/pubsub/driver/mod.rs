//! The drivers: how events travel.

pub mod memory;
pub mod zmq;
