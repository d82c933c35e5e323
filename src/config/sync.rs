//! Where the publisher's sync service listens, and what agents are told of it.

use std::net::IpAddr;

use super::publisher::PublisherConfig;
use crate::pubsub::endpoint::{Defaults, Endpoint, EndpointError, Host, Transport, check_ipc_path};
use crate::sync::MAX_UNPACKED;

/// Longest event that an agent can be given again, bytes: what is given with it is little.
pub(super) const MAX_EVENT: usize = MAX_UNPACKED - (64 << 10);

/// Longest address that a hello can hold, bytes.
const MAX_ENDPOINT: usize = 255;

/// Where the service listens, beside a publisher that binds `bind`.
pub(super) fn beside(bind: &Endpoint, port: u16) -> Result<Endpoint, EndpointError> {
    Ok(match bind {
        Endpoint::Tcp { host, .. } => Endpoint::Tcp {
            host: host.clone(),
            port,
        },
        Endpoint::Ipc { path } => {
            let path = format!("{}.sync", path.display());
            check_ipc_path(&path)?;
            Endpoint::Ipc { path: path.into() }
        }
        // An interface may be given as the net it is in; then any of them will do.
        Endpoint::Epgm { interface, .. } => Endpoint::Tcp {
            host: match interface.parse::<IpAddr>() {
                Ok(address) => Host::Ip(address),
                Err(_) => Host::Any,
            },
            port,
        },
        Endpoint::Memory { name } => Endpoint::Memory {
            name: format!("{name}.sync"),
        },
    })
}

/// Checks an address for agents.
pub(super) fn check_told(endpoint: &str, port: u16) -> Result<(), String> {
    let defaults = Defaults {
        transport: Transport::Tcp,
        port,
    };
    match Endpoint::parse(endpoint, &defaults) {
        Err(error) => Err(format!("{endpoint:?}: {error}")),
        Ok(Endpoint::Tcp { .. } | Endpoint::Ipc { .. }) if endpoint.len() <= MAX_ENDPOINT => Ok(()),
        Ok(_) => Err(format!(
            "{endpoint:?} is not an address of tcp or ipc of at most {MAX_ENDPOINT} bytes"
        )),
    }
}

impl PublisherConfig {
    /// What agents are told of the sync service: `tcp://*:port` means the address they receive
    /// events from. Empty where there is none.
    pub fn sync_told(&self) -> String {
        match &self.sync {
            None => String::new(),
            Some(_) if !self.sync_endpoint.is_empty() => self.sync_endpoint.clone(),
            Some(Endpoint::Tcp {
                host: Host::Ip(ip),
                port,
            }) if ip.is_unspecified() => format!("tcp://*:{port}"),
            Some(endpoint) => endpoint.to_string(),
        }
    }
}
