//! The bytes of ZMTP 3, for peers that keep no rules.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::PATIENCE;

/// Another frame of the same message follows.
pub const MORE: u8 = 1;
/// The length has eight bytes.
pub const LONG: u8 = 2;

/// The first 64 bytes.
pub fn greeting(mechanism: &str) -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    greeting.extend_from_slice(mechanism.as_bytes());
    greeting.resize(64, 0);
    greeting
}

/// Asks for a sign of life.
pub const PING: &[u8] = b"\x04\x07\x04PING\0\0";

/// The second part of a handshake without keys, complete as far as a socket of this kind is
/// concerned.
pub fn ready(kind: &str) -> Vec<u8> {
    ready_with(&[("Socket-Type", kind), ("Identity", "")])
}

fn ready_with(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut command = b"\x05READY".to_vec();
    for (name, value) in properties {
        command.push(name.len() as u8);
        command.extend_from_slice(name.as_bytes());
        command.extend_from_slice(&(value.len() as u32).to_be_bytes());
        command.extend_from_slice(value.as_bytes());
    }
    [&[4, command.len() as u8], &command[..]].concat()
}

/// A short frame.
pub fn short(body: &[u8]) -> Vec<u8> {
    [&[0, body.len() as u8], body].concat()
}

/// One frame.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u64).to_be_bytes();
    [&[flags | LONG], &length[..], body].concat()
}

/// An address of the loopback that nobody else connects from: who does harm is kept out by its address.
pub fn stranger() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 66, 0, 1).to_bits() + number % 0xffff)
}

/// A connection to `uri` from `address` and nothing else, unless it takes longer than that.
pub fn tcp(uri: &str, address: Ipv4Addr, patience: Duration) -> io::Result<TcpStream> {
    let to: SocketAddrV4 = uri["tcp://".len()..].parse().unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::bind(&socket, &SocketAddrV4::new(address, 0))?;
    match net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut polled = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut polled, Some(&Timespec::try_from(patience).unwrap()))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    net::sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A connection to `uri` with its handshake done, as a socket of this kind without keys.
pub fn connect(uri: &str, kind: &str) -> TcpStream {
    connect_as(uri, kind, "")
}

/// The same, of one that calls itself `identity`.
pub fn connect_as(uri: &str, kind: &str, identity: &str) -> TcpStream {
    connect_from(uri, kind, identity, stranger())
}

/// The same, from `address`.
pub fn connect_from(uri: &str, kind: &str, identity: &str, address: Ipv4Addr) -> TcpStream {
    connect_with(
        uri,
        &[("Socket-Type", kind), ("Identity", identity)],
        address,
    )
}

/// The same, of one that says this of itself.
pub fn connect_with(uri: &str, properties: &[(&str, &str)], address: Ipv4Addr) -> TcpStream {
    let mut stream = tcp(uri, address, PATIENCE).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream.write_all(&greeting("NULL")).unwrap();
    stream.read_exact(&mut [0; 64]).unwrap();
    stream.write_all(&ready_with(properties)).unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 4, "no command");
    stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
    stream
}

/// Closes a connection by a reset.
pub fn reset(stream: TcpStream) {
    net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}
