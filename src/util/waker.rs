//! Commands to a thread that sleeps in a poll: a channel and a byte on a socket pair.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, Sender, TryIter, unbounded};

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
    // Unbounded: commands come from the operator and from our own threads, never from a peer, and
    // one that were refused, such as a subscription, would be lost without a word.
    let (sender, receiver) = unbounded();
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
    /// Sends one command and wakes its owner, without waiting; `false` when the owner has ended.
    pub fn send(&self, command: T) -> bool {
        let alive = self.sender.send(command).is_ok();
        if alive {
            self.ring();
        }
        alive
    }

    fn ring(&self) {
        match (&self.bell).write(&[1]) {
            Ok(_) => {}
            // Full: it is ringing already. Anything else: the owner has ended.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => log::debug!("the owner of a bell has ended: {error}"),
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
