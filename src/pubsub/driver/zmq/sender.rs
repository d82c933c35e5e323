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
    /// What libzmq tells of a message; `None` for one that libzmq itself made. Where peers are not `known` by
    /// their keys, what it says of who they are is what they themselves say.
    pub fn of(message: &mut zmq::Message, known: bool) -> Option<Sender> {
        let fd = message.gets("__fd")?.parse().ok()?;
        let address = message.gets("Peer-Address");
        // One of a link has the link's name behind it.
        let address = address.and_then(|address| address.split('%').next()?.parse::<IpAddr>().ok());
        let user = if known { message.gets("User-Id") } else { None };
        let admitted = user.and_then(admission::read);
        Some(Sender {
            fd,
            // On a socket of both kinds libzmq shows the old one within the new one.
            address: address.map(|address| address.to_canonical()),
            number: admitted.map_or(0, |(_, number)| number),
            node: admitted.map(|(name, _)| name.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::super::frames::Frames;
    use crate::pubsub::subscriber::Received;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn nobody_says_himself_who_he_is() {
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let uri = socket.get_last_endpoint().unwrap().unwrap();
        let mut peer = TcpStream::connect(&uri["tcp://".len()..]).unwrap();
        let mut greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".to_vec();
        greeting.resize(64, 0);
        let property = |name: &str, value: &str| {
            let length = (value.len() as u32).to_be_bytes();
            let name = [&[name.len() as u8], name.as_bytes()].concat();
            [&name[..], &length, value.as_bytes()].concat()
        };
        let (kind, user) = (
            property("Socket-Type", "DEALER"),
            property("User-Id", "n1#7"),
        );
        let ready = [b"\x05READY", &kind[..], &user].concat();
        let ready = [&[4, ready.len() as u8], &ready[..]].concat();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(&[greeting, ready].concat()).unwrap();
        peer.read_exact(&mut [0; 64]).unwrap();
        let mut head = [0; 2];
        peer.read_exact(&mut head).unwrap();
        peer.read_exact(&mut vec![0; head[1].into()]).unwrap();
        peer.write_all(b"\0\x05hello").unwrap();
        assert_eq!(
            socket
                .poll(zmq::POLLIN, PATIENCE.as_millis() as i64)
                .unwrap(),
            1
        );
        let mut frames = Frames::new();
        let received = frames.receive(&socket, &uri).unwrap();
        assert!(matches!(
            received,
            Received::Message {
                payload: b"hello",
                ..
            }
        ));
        // libzmq takes it from the peer.
        let believed = frames.sender(true).unwrap();
        assert_eq!((believed.node.as_deref(), believed.number), (Some("n1"), 7));
        let known = frames.sender(false).unwrap();
        assert_eq!((known.node, known.number), (None, 0));
        assert_eq!((known.fd, known.address), (believed.fd, believed.address));
        assert!(known.fd > 0 && known.address.is_some());
    }
}
