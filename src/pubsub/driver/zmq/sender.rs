//! Who sent what was received.

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::security::admission;

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The connection's descriptor.
    pub fd: RawFd,
    /// The number under which it was admitted; 0 where nobody admits.
    pub number: u64,
    /// The node it was admitted as.
    pub node: Option<Arc<str>>,
    /// Where from, on tcp.
    pub address: Option<IpAddr>,
}

impl Sender {
    /// What libzmq tells of a message; `None` for one that libzmq itself made.
    pub fn of(message: &mut zmq::Message) -> Option<Sender> {
        let fd = message.gets("__fd")?.parse().ok()?;
        let address = message.gets("Peer-Address");
        let address = address.and_then(|address| address.parse::<IpAddr>().ok());
        let admitted = message.gets("User-Id").and_then(admission::read);
        Some(Sender {
            fd,
            // On a socket of both kinds libzmq shows the old one within the new one.
            address: address.map(|address| address.to_canonical()),
            number: admitted.map_or(0, |(_, number)| number),
            node: admitted.map(|(name, _)| name.into()),
        })
    }
}
