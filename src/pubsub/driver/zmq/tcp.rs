//! The connections below libzmq's sockets, most of them tcp, by their descriptors: what the system tells of
//! them, and what it does with them. libzmq says only that one came and went, and has no call that ends one.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::filter::{self, Step};

// Of the system; the library that Rust itself is linked with has them.
unsafe extern "C" {
    fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut u32,
    ) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: u32)
    -> c_int;
}

/// What the system tells of a tcp connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that have come, those that libzmq has not read yet too.
    pub received: u64,
    /// Bytes that were sent and have arrived.
    pub arrived: u64,
    /// Whether any are on their way, or wait for room on the other side.
    pub waiting: bool,
}

/// The traffic on the tcp connection that `fd` is; `None` where it is none, or the system does not tell.
pub fn traffic(fd: RawFd) -> Option<Traffic> {
    const IPPROTO_TCP: c_int = 6;
    const TCP_INFO: c_int = 11;
    // Where these stand in Linux' `struct tcp_info`, which only ever grows.
    const UNACKED: usize = 24;
    const BYTES_ACKED: usize = 120;
    const BYTES_RECEIVED: usize = 128;
    const NOTSENT_BYTES: usize = 144;
    let mut info = [0u8; 256];
    let mut length = info.len() as u32;
    // SAFETY: the call writes at most `length` bytes, which is as many as there are, and how many
    // those were. Any number is a descriptor to it; what is none, or no tcp connection, is refused.
    let rc = unsafe {
        getsockopt(
            fd,
            IPPROTO_TCP,
            TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let known = info.get(..length as usize).filter(|_| rc == 0)?;
    let long = |at: usize| Some(u64::from_ne_bytes(*known.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(u32::from_ne_bytes(*known.get(at..)?.first_chunk()?));
    Some(Traffic {
        received: long(BYTES_RECEIVED)?,
        arrived: long(BYTES_ACKED)?,
        waiting: short(UNACKED)? > 0 || short(NOTSENT_BYTES)? > 0,
    })
}

/// How many bytes have come on a tcp connection; as [`traffic`].
pub fn bytes_received(fd: RawFd) -> Option<u64> {
    traffic(fd).map(|traffic| traffic.received)
}

/// The tcp socket or connection that `fd` still is, as far as can be told: of the peer at this address,
/// to this port of ours, where these are known. The caller has made sure that libzmq has not reported its
/// end.
///
/// Another socket that has the number by now is found out where that shows: most have another peer, and
/// all but those to the same port are to another.
fn found(fd: RawFd, peer: Option<IpAddr>, port: Option<u16>) -> Option<Found> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the number is used for system calls within the functions that call this one. Should libzmq
    // have closed it in this very moment, they fail, or meet another socket: nothing that memory safety
    // rests on.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let own = rustix::net::getsockname(fd).ok()?;
    let own = SocketAddr::try_from(own).ok();
    if port.is_some() && own.map(|own| own.port()) != port {
        return None;
    }
    // One that listens has no peer.
    let other = rustix::net::getpeername(fd);
    let is_peers = |peer: IpAddr| {
        let other = other.clone().ok().flatten();
        let other = other.and_then(|other| SocketAddr::try_from(other).ok());
        other.is_some_and(|other| other.ip().to_canonical() == peer.to_canonical())
    };
    peer.is_none_or(is_peers).then_some(Found {
        fd,
        tcp: own.is_some(),
        connected: other.is_ok(),
    })
}

struct Found {
    fd: BorrowedFd<'static>,
    tcp: bool,
    connected: bool,
}

/// Ends a connection; says whether it did. libzmq has no call that ends one connection of a bound socket;
/// its I/O thread finds it ended.
pub fn end_connection(fd: RawFd, peer: Option<IpAddr>, port: Option<u16>) -> bool {
    let found = found(fd, peer, port).filter(|found| found.connected);
    found.is_some_and(|found| rustix::net::shutdown(found.fd, rustix::net::Shutdown::Both).is_ok())
}

/// Has the system throw away what has come on a tcp connection and was not read yet, and whatever else
/// comes, and take nothing more to send; says whether it does, or the connection has ended while that was
/// done. The other side sees the end of the connection, once it has taken what was on its way; libzmq does not
/// yet.
pub fn deafen(fd: RawFd, peer: Option<IpAddr>, port: Option<u16>) -> bool {
    let found = found(fd, peer, port).filter(|found| found.tcp && found.connected);
    let Some(Found { fd, .. }) =
        found.filter(|found| attach(found.fd, filter::ONLY_ACKNOWLEDGEMENTS).is_ok())
    else {
        return false;
    };
    // Megabytes may wait, all of which libzmq would take in and forget again. No more than the system
    // holds; and what libzmq makes of a message without its middle is of no interest any more: mostly it
    // ends the connection for that, maybe before this has come to its end.
    let mut buffer = [0; 16 << 10];
    let flags = rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::TRUNC;
    for _ in 0..DISCARDS {
        match rustix::net::recv(fd, &mut buffer[..], flags) {
            Ok((_, 1..)) => {}
            // The other side has ended it. With our own end it would be broken, not just over; libzmq
            // finds it over when it reads on.
            Ok((_, 0)) => return true,
            Err(_) => break,
        }
    }
    // Should somebody else have the number by then, bytes may have been taken from him: he ends as well, and
    // comes again.
    if let Err(error) = rustix::net::shutdown(fd, rustix::net::Shutdown::Write) {
        log::debug!("a connection ended while it was ended: {error}");
    }
    true
}

/// Reads of 16 KiB that may be needed for what the system holds of one connection.
const DISCARDS: usize = 1_024;

/// Has the system do so with what comes on a tcp socket, and on the connections that it takes from then on;
/// on ipc nothing is done.
pub fn filter(fd: RawFd, port: Option<u16>, program: &[Step]) -> io::Result<()> {
    let Some(found) = found(fd, None, port).filter(|found| found.tcp) else {
        return Ok(());
    };
    match attach(found.fd, program) {
        // It has ended just now.
        Err(error) if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Where the tcp connection that `fd` still is comes from.
pub fn peer(fd: RawFd, port: Option<u16>) -> Option<IpAddr> {
    let found = found(fd, None, port)?;
    let peer = rustix::net::getpeername(found.fd).ok().flatten()?;
    let peer = SocketAddr::try_from(peer).ok()?;
    Some(peer.ip().to_canonical())
}

/// How many bytes that have come on a connection libzmq has yet to read; none where nobody can tell.
pub fn unread(fd: RawFd, port: Option<u16>) -> u64 {
    let unread = |found: Found| rustix::io::ioctl_fionread(found.fd).ok();
    found(fd, None, port).and_then(unread).unwrap_or_default()
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    steps: *const Step,
}

fn attach(fd: BorrowedFd<'_>, steps: &[Step]) -> io::Result<()> {
    const SOL_SOCKET: c_int = 1;
    const SO_ATTACH_FILTER: c_int = 26;
    let program = Program {
        length: steps.len() as u16,
        steps: steps.as_ptr(),
    };
    // SAFETY: the call reads a `Program`, which is laid out as the system's, and as many steps as that
    // says, which outlive the call; it keeps a copy.
    let rc = unsafe {
        setsockopt(
            fd.as_raw_fd(),
            SOL_SOCKET,
            SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<Program>() as u32,
        )
    };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::super::filter::program;
    use super::*;

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    fn reset(client: TcpStream) {
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    }

    /// What a read gives at last, or nothing for a while.
    fn read(server: &mut TcpStream, patience: Duration) -> Option<Result<usize, ErrorKind>> {
        let until = Instant::now() + patience;
        loop {
            match server.read(&mut [0; 16]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                other => return Some(other.map_err(|error| error.kind())),
            }
        }
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn a_reset_is_not_heard_but_an_end_is() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = Some(listener.local_addr().unwrap().port());
            let (client, mut server) = pair(&listener);
            reset(client);
            assert_eq!(
                read(&mut server, LONG),
                Some(Err(ErrorKind::ConnectionReset))
            );
            filter(listener.as_raw_fd(), port, &program(&[])).unwrap();
            let (mut client, mut server) = pair(&listener);
            client.write_all(b"heard").unwrap();
            assert_eq!(read(&mut server, LONG), Some(Ok(5)));
            reset(client);
            assert_eq!(read(&mut server, SHORT), None);
            let (client, mut server) = pair(&listener);
            drop(client);
            assert_eq!(read(&mut server, LONG), Some(Ok(0)));
        }
    }

    /// Whether somebody at `from` gets a connection.
    fn gets_in(listener: &TcpListener, from: &str) -> bool {
        use rustix::net::{AddressFamily, SocketFlags, SocketType};
        let from: IpAddr = from.parse().unwrap();
        let port = listener.local_addr().unwrap().port();
        let (family, to) = match from {
            IpAddr::V4(_) => (AddressFamily::INET, "127.0.0.1".parse().unwrap()),
            IpAddr::V6(from) => (AddressFamily::INET6, IpAddr::V6(from)),
        };
        let flags = SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
        // It is under way.
        let _ = rustix::net::connect(&socket, &SocketAddr::new(to, port));
        listener.set_nonblocking(true).unwrap();
        let until = Instant::now() + SHORT;
        while Instant::now() < until {
            if let Ok((accepted, peer)) = listener.accept() {
                assert_eq!(peer.ip().to_canonical(), from);
                assert_eq!(super::peer(accepted.as_raw_fd(), Some(port)), Some(from));
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[test]
    fn who_is_kept_out_gets_no_connection() {
        // Of both kinds, and of one.
        for at in ["[::]:0", "127.0.0.1:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = Some(listener.local_addr().unwrap().port());
            let set = |without: &[&str]| {
                let without: Vec<IpAddr> = without.iter().map(|a| a.parse().unwrap()).collect();
                filter(listener.as_raw_fd(), port, &program(&without)).unwrap();
            };
            let mut all = vec!["127.0.0.1", "127.0.0.66", "127.0.0.67"];
            if at.starts_with('[') {
                all.push("::1");
            }
            let gets_in = |from: &&&str| gets_in(&listener, from);
            let out = ["::2", "127.0.0.66", "::1", "127.0.0.67", "0.0.0.1"];
            set(&out);
            assert_eq!(
                all.iter().filter(gets_in).collect::<Vec<_>>(),
                [&"127.0.0.1"]
            );
            set(&["::2", "127.0.0.67", "127.0.0.1"]);
            let mut own = vec!["127.0.0.66"];
            own.extend(all.get(3));
            assert_eq!(
                all.iter().filter(gets_in).collect::<Vec<_>>(),
                own.iter().collect::<Vec<_>>()
            );
            set(&[]);
            assert!(all.iter().all(|from| gets_in(&from)));
            // As many as there may be, and the system takes one list after the other.
            let many: Vec<String> = (0..64).map(|n| format!("2001:db8::{n:x}")).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            set(&many);
            set(&many);
            assert!(all.iter().all(|from| gets_in(&from)));
        }
    }

    /// However much was on its way.
    #[test]
    fn who_is_not_heard_gets_what_was_sent_and_sees_the_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let (mut client, mut server) = pair(&listener);
            let mut sent = 0;
            while let Ok(bytes) = server.write(&[7; 1 << 16]) {
                sent += bytes;
            }
            assert!(sent > 1 << 18 && traffic(server.as_raw_fd()).unwrap().waiting);
            assert!(deafen(server.as_raw_fd(), None, Some(port)));
            client.write_all(b"not heard").unwrap();
            let mut got = Vec::new();
            client.set_read_timeout(Some(LONG)).unwrap();
            client.read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), sent);
            assert_eq!(read(&mut server, SHORT), None);
            let traffic = traffic(server.as_raw_fd()).unwrap();
            assert!(
                traffic.arrived as usize >= sent && !traffic.waiting,
                "{traffic:?}"
            );
            drop(client);
            assert_eq!(read(&mut server, SHORT), None, "nor is its end");
        }
    }

    /// As libzmq does, of a message that has lost its middle.
    #[test]
    fn who_is_ended_by_somebody_else_meanwhile_is_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let until = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < until, "it was never in the midst of it");
            let (mut client, server) = pair(&listener);
            client.set_nonblocking(true).unwrap();
            while client.write(&[7; 1 << 16]).is_ok() {}
            let fd = server.as_raw_fd();
            // SAFETY: the number is that of an open file until the end of the loop.
            let own = unsafe { BorrowedFd::borrow_raw(fd) };
            let unread = || rustix::io::ioctl_fionread(own);
            let all = unread().unwrap();
            let (meanwhile, deaf) = std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let mut left = all;
                    while left == all && Instant::now() < until {
                        left = unread().unwrap();
                    }
                    // The number is kept, lest another test has it.
                    let nothing = std::fs::File::open("/dev/null").unwrap();
                    let mut server = rustix::fd::OwnedFd::from(server);
                    rustix::io::dup2(&nothing, &mut server).unwrap();
                    (left > 0, server)
                });
                let deaf = deafen(fd, None, Some(port));
                (other.join().unwrap(), deaf)
            });
            assert!(deaf);
            if meanwhile.0 {
                return;
            }
        }
    }

    #[test]
    fn who_is_not_heard_can_still_be_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut client, mut server) = pair(&listener);
        let fd = server.as_raw_fd();
        client.write_all(b"heard").unwrap();
        let (other, another) = ("10.9.8.7".parse().ok(), Some(port.wrapping_add(1)));
        assert!(!deafen(fd, other, Some(port)) && !deafen(fd, None, another));
        assert!(!deafen(listener.as_raw_fd(), None, Some(port)) && !deafen(-1, None, None));
        assert_eq!(read(&mut server, LONG), Some(Ok(5)));
        client.write_all(b"not read").unwrap();
        let until = Instant::now() + LONG;
        while unread(fd, Some(port)) == 0 && Instant::now() < until {}
        assert!(unread(fd, Some(port)) > 0 && deafen(fd, None, Some(port)));
        client.write_all(b"not heard").unwrap();
        assert_eq!(read(&mut server, SHORT), None);
        client.set_nonblocking(true).unwrap();
        assert_eq!(read(&mut client, LONG), Some(Ok(0)), "it sees the end");
        assert!(unread(fd, Some(port)) == 0 && end_connection(fd, None, Some(port)));
        assert_eq!(read(&mut server, LONG), Some(Ok(0)));
    }
}
