//! The calls of libzmq that the zmq crate has no safe form of. The only `unsafe` of this crate.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};

/// `ZMQ_MULTICAST_LOOP`: whether a host hears its own multicast.
pub const MULTICAST_LOOP: c_int = 96;

/// `ZMQ_IPC_FILTER_UID`: another user that may connect on ipc; with the first one all others may
/// no longer.
pub const IPC_FILTER_UID: c_int = 59;

/// `ZMQ_XPUB_MANUAL`: a subscription takes effect only when the owner makes it, by setting
/// `ZMQ_SUBSCRIBE` before it receives anything else.
pub const XPUB_MANUAL: c_int = 71;

/// `ZMQ_XPUB_VERBOSER`: every subscription is shown, not only the first to a prefix, and every end
/// of one.
pub const XPUB_VERBOSER: c_int = 78;

/// `ZMQ_ZAP_ENFORCE_DOMAIN`: where nobody answers for the domain, nobody is admitted.
pub const ZAP_ENFORCE_DOMAIN: c_int = 93;

/// An error number as libzmq reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysError {
    /// The system's or libzmq's number.
    pub code: c_int,
    text: String,
}

/// `EADDRINUSE` on Linux.
pub const EADDRINUSE: c_int = 98;

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check(rc: c_int) -> Result<(), SysError> {
    if rc >= 0 {
        return Ok(());
    }
    // SAFETY: reads this thread's error number and a static text for it; both take any state.
    let (code, text) = unsafe {
        let code = zmq_sys::zmq_errno();
        (code, CStr::from_ptr(zmq_sys::zmq_strerror(code)))
    };
    Err(SysError {
        code,
        text: text.to_string_lossy().into_owned(),
    })
}

fn c_string(uri: &str) -> Result<CString, SysError> {
    CString::new(uri).map_err(|_| SysError {
        code: 22,
        text: "an address must not contain NUL".into(),
    })
}

/// Sets an option that the crate has no setter for.
pub fn set_int(socket: &mut zmq::Socket, option: c_int, value: c_int) -> Result<(), SysError> {
    // SAFETY: the pointer is of a live socket, which we hold exclusively; the option reads exactly
    // size_of::<c_int>() bytes of `value`.
    check(unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            option,
            (&raw const value).cast(),
            size_of::<c_int>(),
        )
    })
}

/// Binds. The crate's own `bind` panics on error numbers it does not know, such as ENOTDIR.
pub fn bind(socket: &mut zmq::Socket, uri: &str) -> Result<(), SysError> {
    let uri = c_string(uri)?;
    // SAFETY: a live socket held exclusively and a NUL-terminated text that outlives the call.
    check(unsafe { zmq_sys::zmq_bind(socket.as_mut_ptr(), uri.as_ptr()) })
}

/// Connects. The crate's own `connect` panics as its `bind` does.
pub fn connect(socket: &mut zmq::Socket, uri: &str) -> Result<(), SysError> {
    let uri = c_string(uri)?;
    // SAFETY: as for `bind`.
    check(unsafe { zmq_sys::zmq_connect(socket.as_mut_ptr(), uri.as_ptr()) })
}

/// Ends the monitoring of a socket. The crate cannot pass the null address that does this. Without
/// it, an event that comes after the monitor's reader is gone blocks libzmq's I/O thread.
pub fn stop_monitor(socket: &mut zmq::Socket) -> Result<(), SysError> {
    // SAFETY: a live socket held exclusively; a null address is documented to end the monitoring.
    check(unsafe { zmq_sys::zmq_socket_monitor(socket.as_mut_ptr(), std::ptr::null(), 0) })
}

// The zmq crate's bindings have it, and do not show it.
unsafe extern "C" {
    fn zmq_curve_public(public: *mut c_char, secret: *const c_char) -> c_int;
}

/// The text of the public key that belongs to the text of a secret one, which ends in NUL.
pub fn curve_public(secret: &[u8; 41]) -> Result<String, SysError> {
    let invalid = || SysError {
        code: 22,
        text: "no text of a key".into(),
    };
    let secret = CStr::from_bytes_with_nul(secret).map_err(|_| invalid())?;
    let mut public = [0u8; 41];
    // SAFETY: `secret` is NUL-terminated and outlives the call; `public` has the 41 bytes that the
    // call writes.
    check(unsafe { zmq_curve_public(public.as_mut_ptr().cast(), secret.as_ptr()) })?;
    let text = CStr::from_bytes_until_nul(&public).map_err(|_| invalid())?;
    Ok(text.to_string_lossy().into_owned())
}

// Of the system; the library that Rust itself is linked with has it.
unsafe extern "C" {
    fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut u32,
    ) -> c_int;
}

/// How many bytes have come on the tcp connection that `fd` is, those that libzmq has not read yet
/// too; `None` where it is none, or the system does not tell.
pub fn bytes_received(fd: RawFd) -> Option<u64> {
    const IPPROTO_TCP: c_int = 6;
    const TCP_INFO: c_int = 11;
    // Where `tcpi_bytes_received` stands in Linux' `struct tcp_info`, which only ever grows.
    const AT: usize = 128;
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
    let bytes = known.get(AT..)?.first_chunk::<8>()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// The descriptor that becomes readable when the socket has news: a message, or something to do
/// inside libzmq. It is edge-triggered: only after a receive has said that nothing is waiting does
/// its next becoming readable mean anything.
pub fn fd(socket: &zmq::Socket) -> zmq::Result<BorrowedFd<'_>> {
    let fd = socket.get_fd()?;
    // SAFETY: the descriptor belongs to the socket and stays open as long as it; the borrow keeps
    // the socket from being closed meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Ends the connection that `fd` is, of the peer at this address to this port of ours, where these are
/// known; says whether it did. libzmq has no call that ends one connection of a bound socket; its I/O thread finds it ended.
/// The caller has made sure that libzmq has not reported the connection's end.
pub fn end_connection(fd: RawFd, peer: Option<IpAddr>, port: Option<u16>) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: the number is used for two system calls within this function. Should libzmq have
    // closed it in this very moment, they fail, or meet another socket: nothing that memory safety
    // rests on.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // Another socket that has the number by now is spared where that shows: one that listens has no
    // peer, most have another, and all but those to the same port are to another.
    let ours = || {
        let own = rustix::net::getsockname(fd).ok();
        own.and_then(|own| Some(SocketAddr::try_from(own).ok()?.port()))
    };
    if port.is_some() && ours() != port {
        return false;
    }
    let found = rustix::net::getpeername(fd);
    let same = match (found, peer) {
        (Err(_), _) => false,
        (Ok(_), None) => true,
        (Ok(found), Some(peer)) => {
            let found = found.map(SocketAddr::try_from);
            matches!(found, Some(Ok(found)) if found.ip().to_canonical() == peer.to_canonical())
        }
    };
    same && rustix::net::shutdown(fd, rustix::net::Shutdown::Both).is_ok()
}
