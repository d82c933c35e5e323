//! What the sockets of one party are secured with.

use std::collections::BTreeMap;

use super::key::{PublicKey, SecretKey};

/// The entry of `publisher_keys` for every publisher that has none of its own.
pub const ANY: &str = "*";

/// An agent's: its own key, and those of the publishers that it trusts.
#[derive(Debug, Clone)]
pub struct NodeKeys {
    /// Its own.
    pub secret: SecretKey,
    /// The publishers' by address in canonical form, or [`ANY`].
    pub publishers: BTreeMap<String, PublicKey>,
}

impl NodeKeys {
    /// The key that the publisher at `uri` must prove to have; `None`: there is no reason to trust
    /// it.
    pub fn of_publisher(&self, uri: &str) -> Option<&PublicKey> {
        let own = self.publishers.get(uri);
        own.or_else(|| self.publishers.get(ANY))
    }
}
