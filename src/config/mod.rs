//! The configuration of the daemons: where it is read from, what it may say, and
//! everything that is wrong with it at once.
//!
//! Each key is declared once, in [`AGENT_KEYS`] or [`PUBLISHER_KEYS`]; the typed structs, the
//! checks and the files under etc/ follow from that.

mod agent;
mod common;
pub mod doc;
mod fault;
mod grants;
mod handlers;
mod keys;
mod kind;
mod layers;
mod lines;
mod load;
#[cfg(test)]
pub(crate) mod manual;
mod parse;
mod publisher;
mod ready;
mod secure;
mod setting;
mod sources;
mod sync;
mod table;
mod tables;
mod text;

#[cfg(test)]
mod tests;

pub use agent::{AGENT_KEYS, AgentConfig, load_agent};
pub use common::Security;
pub use fault::{Fault, Faults};
pub use handlers::{HANDLER_KEYS, HandlerConfig};
pub use keys::{ENV_PREFIX, Key};
pub use kind::Kind;
pub use publisher::{PUBLISHER_KEYS, PublisherConfig, load_publisher};
pub use ready::Ready;
pub use secure::{KeyFault, PublisherKeys};
pub use sources::{DEFAULT_DIR, DROP_IN_DIR, Sources};
pub use text::log_filter_fault;

use crate::handler::registry::Registry;
use crate::pubsub::registry::DRIVERS;

/// What the program that is configured has on board: names in the configuration are checked
/// against it.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// The aliases of the pub/sub drivers.
    pub drivers: Vec<&'a str>,
    /// The handler modules.
    pub modules: &'a Registry,
}

impl<'a> Known<'a> {
    /// The drivers in the box and these modules.
    pub fn new(modules: &'a Registry) -> Self {
        Known {
            drivers: DRIVERS.iter().map(|driver| driver.alias).collect(),
            modules,
        }
    }
}
