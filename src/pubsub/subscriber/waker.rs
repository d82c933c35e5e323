//! Commands to a thread that sleeps in a poll: a bounded channel and a byte on a socket pair.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryIter, bounded};

/// Commands that may wait. The reader takes them between batches, so that this is far from full.
const WAITING: usize = 256;

/// Longest a sender waits for room. A reader that takes no command for this long has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sending side.
#[derive(Debug)]
pub struct Commands<T> {
    sender: Sender<T>,
    bell: UnixStream,
}

/// The receiving side: its owner polls [`Inbox::fd`] and then takes what [`Inbox::drain`] gives.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<T>,
    bell: UnixStream,
}

/// A new pair.
pub fn channel<T>() -> io::Result<(Commands<T>, Inbox<T>)> {
    let (sender, receiver) = bounded(WAITING);
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((
        Commands { sender, bell: ours },
        Inbox {
            receiver,
            bell: theirs,
        },
    ))
}

impl<T> Commands<T> {
    /// Sends one command and wakes its owner; `false` when the owner has ended.
    pub fn send(&self, command: T) -> bool {
        match self.sender.send_timeout(command, PATIENCE) {
            Ok(()) => {
                self.ring();
                true
            }
            Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected(_)) => false,
        }
    }

    fn ring(&self) {
        match (&self.bell).write(&[1]) {
            Ok(_) => {}
            // Full: it is ringing already. Anything else: the owner has ended.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => log::debug!("a reader has ended: {error}"),
        }
    }

    /// Another sender for the same owner.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Commands {
            sender: self.sender.clone(),
            bell: self.bell.try_clone()?,
        })
    }
}

impl<T> Inbox<T> {
    /// Readable when commands may be waiting.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell, then gives what is waiting: in this order no command is overlooked.
    pub fn drain(&mut self) -> TryIter<'_, T> {
        let mut sink = [0; 64];
        while matches!(self.bell.read(&mut sink), Ok(n) if n > 0) {}
        self.receiver.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_in_order_and_a_dead_owner_is_noticed() {
        let (commands, mut inbox) = channel().unwrap();
        assert!(commands.send(1));
        assert!(commands.try_clone().unwrap().send(2));
        assert_eq!(inbox.drain().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(inbox.drain().count(), 0);
        drop(inbox);
        assert!(!commands.send(3));
    }
}
