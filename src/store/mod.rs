//! The northbound store: where the desired state of the network is kept, by table and key.
//!
//! Monitors poll it and publish the differences; publishers keep their leases in it. The drivers
//! are found by alias in [`registry`].

pub mod api;
pub mod driver;
pub mod publisher_row;
pub mod registry;

pub use api::{NbStore, StoreError};
pub use publisher_row::{PUBLISHER_TABLE, PublisherRow};

#[cfg(test)]
mod conformance;
