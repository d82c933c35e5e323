//! Where a socket connects to or binds, read from what an operator writes.
//!
//! Everything is checked here because libzmq checks little: it binds `tcp://*:99999` on another
//! port, takes an unknown name for a network card, and its binding panics on some bad ipc paths.

mod error;
mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

pub use error::EndpointError;
pub use parse::check_ipc_path;

/// Longest ipc path, bytes: `sun_path` has 108 and the last is NUL.
pub const MAX_IPC_PATH: usize = 107;

/// Longest name of a memory endpoint, bytes.
pub const MAX_MEMORY_NAME: usize = 64;

/// What an entry without a scheme travels over (`publisher_transport`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// TCP, one connection per subscriber.
    #[default]
    Tcp,
    /// Encapsulated PGM multicast; has no security.
    Epgm,
    /// A unix socket on the same host.
    Ipc,
}

impl Transport {
    /// The transport of this name in a configuration.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "tcp" => Some(Transport::Tcp),
            "epgm" => Some(Transport::Epgm),
            "ipc" => Some(Transport::Ipc),
            _ => None,
        }
    }
}

/// What an entry leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// For entries without a scheme.
    pub transport: Transport,
    /// For entries without a port, 1–65535.
    pub port: u16,
}

/// The host of a TCP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A host name in lower case, still to be resolved (by the program).
    Name(String),
    /// `*`: every address of this host. Only for binding.
    Any,
}

/// Where a socket connects to or binds. `Display` gives the uri that libzmq takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://host:port`.
    Tcp {
        /// The host.
        host: Host,
        /// 1–65535.
        port: u16,
    },
    /// `ipc:///path`.
    Ipc {
        /// Absolute, at most [`MAX_IPC_PATH`] bytes.
        path: PathBuf,
    },
    /// `epgm://interface;group:port`.
    Epgm {
        /// The IPv4 address of a network card, or a net (`10.0.0.0/24`) that one is in.
        interface: String,
        /// The multicast group.
        group: Ipv4Addr,
        /// UDP port, 1–65535.
        port: u16,
    },
    /// `memory://name`: within one process, for tests and embedded use.
    Memory {
        /// Letters, digits, `.`, `_` and `-`, at most [`MAX_MEMORY_NAME`] bytes.
        name: String,
    },
}

impl Endpoint {
    /// Reads what a socket connects to: `ip`, `host`, `ip:port`, `host:port`, a bare IPv6 address,
    /// `[v6]`, `[v6]:port`, or a full `tcp://…`, `ipc:///path`, `epgm://interface;group:port`,
    /// `memory://name`. `defaults` gives the scheme and the port where they are left out.
    pub fn parse(entry: &str, defaults: &Defaults) -> Result<Self, EndpointError> {
        let endpoint = Self::any(entry, defaults)?;
        match &endpoint {
            Endpoint::Tcp { host, .. } => match host {
                Host::Any => Err(EndpointError::BindOnly("*".into())),
                Host::Ip(ip) if ip.is_unspecified() => Err(EndpointError::BindOnly(ip.to_string())),
                _ => Ok(endpoint),
            },
            _ => Ok(endpoint),
        }
    }

    /// Reads what a row of the table `publisher` tells to connect to: as [`Endpoint::parse`]. A row comes
    /// from elsewhere: it cannot choose a socket of this host, or multicast, which has no security,
    /// unless the operator has chosen that transport.
    pub fn parse_told(uri: &str, defaults: &Defaults) -> Result<Self, EndpointError> {
        let (what, transport) = match Self::parse(uri, defaults)? {
            Endpoint::Ipc { .. } if defaults.transport != Transport::Ipc => {
                ("a unix socket", "ipc")
            }
            Endpoint::Epgm { .. } if defaults.transport != Transport::Epgm => ("multicast", "epgm"),
            endpoint => return Ok(endpoint),
        };
        Err(EndpointError::NotChosen { what, transport })
    }

    /// Reads what a socket binds: as [`Endpoint::parse`], but `*` and the unspecified addresses
    /// are allowed for a host and names are not.
    pub fn parse_bind(entry: &str, defaults: &Defaults) -> Result<Self, EndpointError> {
        match Self::any(entry, defaults)? {
            Endpoint::Tcp {
                host: Host::Name(name),
                ..
            } => Err(EndpointError::NameInBind(name)),
            endpoint => Ok(endpoint),
        }
    }

    fn any(entry: &str, defaults: &Defaults) -> Result<Self, EndpointError> {
        if entry.is_empty() {
            return Err(EndpointError::Empty);
        }
        match entry.split_once("://") {
            Some(("tcp", rest)) => parse::tcp(rest, defaults.port),
            Some(("ipc", rest)) => parse::ipc(rest),
            Some(("epgm", rest)) => parse::epgm(rest, defaults.port),
            Some(("memory", rest)) => parse::memory(rest),
            Some((scheme, _)) => Err(EndpointError::Scheme(format!("{scheme}://"))),
            None => match defaults.transport {
                Transport::Tcp => parse::tcp(entry, defaults.port),
                Transport::Epgm => parse::epgm(entry, defaults.port),
                Transport::Ipc => parse::ipc(entry),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } => match host {
                Host::Ip(IpAddr::V4(ip)) => write!(f, "tcp://{ip}:{port}"),
                Host::Ip(IpAddr::V6(ip)) => write!(f, "tcp://[{ip}]:{port}"),
                Host::Name(name) => write!(f, "tcp://{name}:{port}"),
                Host::Any => write!(f, "tcp://*:{port}"),
            },
            Endpoint::Ipc { path } => write!(f, "ipc://{}", path.display()),
            Endpoint::Epgm {
                interface,
                group,
                port,
            } => write!(f, "epgm://{interface};{group}:{port}"),
            Endpoint::Memory { name } => write!(f, "memory://{name}"),
        }
    }
}

#[cfg(test)]
mod tests;
