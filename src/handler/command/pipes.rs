//! The pipes of a command, none of which ever blocks.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::process::{ChildStderr, ChildStdin};

use crate::util::printable;

/// Bytes of standard error that are kept, the last ones.
const MAX_STDERR: usize = 4096;
/// Bytes of its last line that are reported.
const MAX_REPORTED: usize = 256;

/// Writes what the pipe takes of `input` from `fed` on; closes it when all is written or nobody
/// reads. Not to read its input is the command's own business: its exit status tells whether that
/// is a fault.
pub(super) fn feed(stdin: &mut Option<ChildStdin>, input: &[u8], fed: &mut usize) {
    while let Some(pipe) = stdin {
        let rest = &input[*fed..];
        match pipe.write(rest) {
            Ok(n) if 0 < n && n < rest.len() => *fed += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => *stdin = None,
        }
    }
}

/// Reads once; says whether there may be more. One read only: a command that writes all the time
/// must not keep the deadline from being seen.
pub(in crate::handler) fn drain(stderr: &mut Option<ChildStderr>, tail: &mut Tail) -> bool {
    let Some(pipe) = stderr else {
        return false;
    };
    let mut buffer = [0; 8192];
    match pipe.read(&mut buffer) {
        Ok(n) if n > 0 => {
            tail.push(&buffer[..n]);
            true
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        _ => {
            *stderr = None;
            false
        }
    }
}

/// The end of what a command said; shown as `: ` and its last line, or as nothing.
#[derive(Debug, Default)]
pub(in crate::handler) struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(MAX_STDERR);
        self.0.drain(..excess);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        match text.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => write!(f, ": {}", printable::text(line.trim(), MAX_REPORTED)),
            None => Ok(()),
        }
    }
}
