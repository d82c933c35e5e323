//! What an agent missed, and how it gets it: real processes, faults that are seen to happen.

mod agents;
mod beginning;
mod checkpoint;
mod crowd;
mod narrow;
mod northbound;
mod overflow;
mod partition;
mod peers;
mod restart;
mod topics;
mod truth;
