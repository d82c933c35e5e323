//! What an agent missed, and how it gets it: real processes, faults that are seen to happen.

mod agents;
mod beginning;
mod checkpoint;
pub mod cluster;
mod crowd;
mod narrow;
mod northbound;
mod overflow;
mod partition;
mod peers;
mod restart;
pub mod site;
mod topics;
mod truth;
