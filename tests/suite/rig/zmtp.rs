//! The bytes of ZMTP 3, for peers that keep no rules.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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

/// The second part of a handshake without keys, complete as far as a socket of this kind is
/// concerned.
pub fn ready(kind: &str) -> Vec<u8> {
    let value = [&[0, 0, 0, kind.len() as u8], kind.as_bytes()].concat();
    let command = [b"\x05READY\x0bSocket-Type", &value[..]].concat();
    [&[4, command.len() as u8], &command[..]].concat()
}

/// One frame.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u64).to_be_bytes();
    [&[flags | LONG], &length[..], body].concat()
}

/// A connection to `uri` with its handshake done, as a socket of this kind without keys.
pub fn connect(uri: &str, kind: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&uri["tcp://".len()..]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream.write_all(&greeting("NULL")).unwrap();
    stream.read_exact(&mut [0; 64]).unwrap();
    stream.write_all(&ready(kind)).unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 4, "no command");
    stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
    stream
}
