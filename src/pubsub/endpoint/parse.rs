//! What stands behind each scheme.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{Endpoint, EndpointError, Host, MAX_IPC_PATH, MAX_MEMORY_NAME};

/// Checks the path of an ipc socket, without its scheme.
pub fn check_ipc_path(path: &str) -> Result<(), EndpointError> {
    if path.is_empty() {
        return Err(EndpointError::Empty);
    }
    if path.contains('\0') {
        return Err(EndpointError::IpcNul);
    }
    // This also refuses `@name` (abstract: no permissions guard it) and libzmq's wildcard `*`.
    if !Path::new(path).is_absolute() {
        return Err(EndpointError::IpcRelative(path.into()));
    }
    if path.len() > MAX_IPC_PATH {
        return Err(EndpointError::IpcTooLong(path.len()));
    }
    if path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        return Err(EndpointError::IpcFolder(path.into()));
    }
    Ok(())
}

pub(super) fn ipc(path: &str) -> Result<Endpoint, EndpointError> {
    check_ipc_path(path)?;
    Ok(Endpoint::Ipc { path: path.into() })
}

pub(super) fn memory(name: &str) -> Result<Endpoint, EndpointError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_MEMORY_NAME || !name.bytes().all(known) {
        return Err(EndpointError::MemoryName(name.into()));
    }
    Ok(Endpoint::Memory { name: name.into() })
}

pub(super) fn tcp(rest: &str, default_port: u16) -> Result<Endpoint, EndpointError> {
    if rest.contains('/') {
        return Err(EndpointError::Slash(rest.into()));
    }
    if rest.contains('%') {
        return Err(EndpointError::Zone(rest.into()));
    }
    let (host, port) = if let Ok(ip) = rest.parse::<Ipv6Addr>() {
        (Host::Ip(ip.into()), default_port)
    } else if let Some(bracketed) = rest.strip_prefix('[') {
        let unclear = || EndpointError::Ipv6(rest.into());
        let (ip, tail) = bracketed.split_once(']').ok_or_else(unclear)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| unclear())?;
        let port = match tail.strip_prefix(':') {
            Some(text) => port(text)?,
            None if tail.is_empty() => default_port,
            None => return Err(unclear()),
        };
        (Host::Ip(ip.into()), port)
    } else {
        match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(EndpointError::Ipv6(rest.into())),
            Some((name, text)) => (host(name)?, port(text)?),
            None => (host(rest)?, default_port),
        }
    };
    match host {
        Host::Ip(ip) if ip.is_multicast() => Err(EndpointError::Multicast(ip)),
        host => Ok(Endpoint::Tcp { host, port }),
    }
}

pub(super) fn epgm(rest: &str, default_port: u16) -> Result<Endpoint, EndpointError> {
    let (interface, target) = rest
        .split_once(';')
        .ok_or_else(|| EndpointError::EpgmForm(rest.into()))?;
    if !is_ipv4_or_net(interface) {
        return Err(EndpointError::EpgmInterface(interface.into()));
    }
    let (text, port) = match target.split_once(':') {
        Some((text, number)) => (text, port(number)?),
        None => (target, default_port),
    };
    match text.parse::<Ipv4Addr>() {
        Ok(group) if group.is_multicast() => Ok(Endpoint::Epgm {
            interface: interface.into(),
            group,
            port,
        }),
        _ => Err(EndpointError::EpgmGroup(text.into())),
    }
}

fn is_ipv4_or_net(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, number(bits)),
        None => (text, Some(32)),
    };
    let card = |ip: Ipv4Addr| !ip.is_unspecified() && !ip.is_multicast();
    address.parse::<Ipv4Addr>().is_ok_and(card) && bits.is_some_and(|bits| (1..=32).contains(&bits))
}

fn host(text: &str) -> Result<Host, EndpointError> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    if !is_host_name(text) {
        return Err(EndpointError::Host(text.into()));
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

/// RFC 1123, with the underscore that many sites use. A name whose last label is a number is a
/// mistyped address (`10.0.0.256`, `127.1`) that resolvers read in surprising ways.
fn is_host_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

fn port(text: &str) -> Result<u16, EndpointError> {
    match number(text) {
        Some(port) if port != 0 => Ok(port),
        _ => Err(EndpointError::Port(text.into())),
    }
}

/// Decimal digits only: `parse` alone would take `+80`.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
