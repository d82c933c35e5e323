//! The calls of libzmq that the zmq crate has no safe form of.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::os::fd::BorrowedFd;

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

/// `ZMQ_TCP_MAXRT`: how long what was sent may stay without an answer of the other side's system,
/// milliseconds; the connection is then given up.
pub const TCP_MAXRT: c_int = 80;

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

/// The descriptor that becomes readable when the socket has news: a message, or something to do
/// inside libzmq. It is edge-triggered: only after a receive has said that nothing is waiting does
/// its next becoming readable mean anything.
pub fn fd(socket: &zmq::Socket) -> zmq::Result<BorrowedFd<'_>> {
    let fd = socket.get_fd()?;
    // SAFETY: the descriptor belongs to the socket and stays open as long as it; the borrow keeps
    // the socket from being closed meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
