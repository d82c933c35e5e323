//! From readers to handlers: the hub merges what all publishers say and gives it to the lanes.
//!
//! ```text
//!  reader ─┐                      ┌─▶ bounded channel ─▶ lane thread ─▶ handler
//!  reader ─┼─▶ hub (replica) ─────┤
//!  reader ─┘                      └─▶ bounded channel ─▶ lane thread ─▶ handler
//! ```
//!
//! The hub's lock is held for a batch at a time, never while anybody waits. A reader never waits
//! for a lane: a lane that is full is *behind*, and gets the newest state of what changed once it
//! has worked its queue off ([`catchup`]).

mod by_row;
pub mod catchup;
mod dropped;
pub mod filter;
mod heard;
pub mod hub;
pub mod lane;
pub mod lookout;
pub mod offer;
pub mod onlook;
pub mod quarantine;
pub mod troubles;

pub use catchup::Delivery;
pub use filter::{Actions, Filter};
pub use heard::Heard;
pub use hub::{Hub, SeatOptions};
pub use lane::{Lane, LaneHandle, LaneMetrics, LaneOptions, LaneStatus};
pub use lookout::Lookout;
pub use quarantine::Quarantined;
pub use troubles::Limits;
