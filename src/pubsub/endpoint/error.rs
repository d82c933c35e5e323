//! What is wrong with an entry.

use std::net::IpAddr;

use super::{MAX_IPC_PATH, MAX_MEMORY_NAME};

/// Why an entry is no endpoint, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing is written.
    #[error("is empty; write an address such as 10.0.0.1 or tcp://10.0.0.1:8866")]
    Empty,
    /// libzmq aborts the process on some of the schemes it knows, so only these pass.
    #[error("{0:?} is not a known transport; write tcp://, ipc://, epgm:// or memory://")]
    Scheme(String),
    /// Not a decimal number of 1–65535.
    #[error("{0:?} is not a port; write a number from 1 to 65535")]
    Port(String),
    /// Neither an address nor a name by RFC 1123.
    #[error(
        "{0:?} is neither an IP address nor a host name; write for example 10.0.0.1, [fd00::1] or api1.example.org"
    )]
    Host(String),
    /// It is not clear where the address ends.
    #[error(
        "{0:?} is not an IPv6 address; write it in brackets when a port follows, for example [fd00::1]:8866"
    )]
    Ipv6(String),
    /// `fe80::1%eth0`.
    #[error("IPv6 zones are not supported ({0:?}); write an address that is valid on every link")]
    Zone(String),
    /// A path or a single slash where host and port belong.
    #[error("{0:?} has a slash; write tcp://host:port, or ipc:///path for a unix socket")]
    Slash(String),
    /// `*`, `0.0.0.0` or `::` names nobody to connect to.
    #[error("{0:?} is only for binding; write the address of a publisher")]
    BindOnly(String),
    /// See [`super::Endpoint::parse_told`].
    #[error("is {what}, and publisher_transport is not {transport}")]
    NotChosen {
        /// What it is.
        what: &'static str,
        /// The transport that would have to be chosen.
        transport: &'static str,
    },
    /// A multicast group does not speak TCP.
    #[error("{0} is a multicast group; write epgm://interface;{0}:port")]
    Multicast(IpAddr),
    /// libzmq takes a name to bind for a network card.
    #[error("{0:?} cannot be bound; write an IP address of this host, or * for all of them")]
    NameInBind(String),
    /// Relative, abstract (`@name`) or a wildcard.
    #[error("{0:?} is not an absolute path; write for example ipc:///run/fanfare/publisher.sock")]
    IpcRelative(String),
    /// A folder.
    #[error("{0:?} names a folder; write the path of the socket itself")]
    IpcFolder(String),
    /// See [`MAX_IPC_PATH`].
    #[error("an ipc path has at most {MAX_IPC_PATH} bytes, this one has {0}; write a shorter one")]
    IpcTooLong(usize),
    /// NUL ends a path.
    #[error("an ipc path must not contain NUL; write it without")]
    IpcNul,
    /// No `;`.
    #[error(
        "{0:?} names no multicast group; write epgm://interface;group:port, for example epgm://10.0.0.1;239.192.1.1:8866"
    )]
    EpgmForm(String),
    /// A card's name fails in OpenPGM.
    #[error(
        "{0:?} is not an IPv4 address or net; write the address of the network card (10.0.0.1) or its net (10.0.0.0/24), not its name"
    )]
    EpgmInterface(String),
    /// Not in 224.0.0.0/4.
    #[error("{0:?} is not a multicast group; write one of 224.0.0.0/4, for example 239.192.1.1")]
    EpgmGroup(String),
    /// See [`super::Endpoint::Memory`].
    #[error(
        "{0:?} is not a memory name; write 1 to {MAX_MEMORY_NAME} letters, digits, dots, dashes or underscores"
    )]
    MemoryName(String),
}
