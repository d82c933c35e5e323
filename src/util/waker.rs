//! Commands to a thread that sleeps in a poll: a channel and a byte on a socket pair.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TryIter, bounded, unbounded};

/// The sending side.
#[derive(Debug)]
pub struct Commands<T> {
    sender: Sender<T>,
    bell: UnixStream,
    rung: Arc<AtomicBool>,
}

/// The receiving side: its owner polls [`Inbox::fd`] and then takes what [`Inbox::drain`] gives.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<T>,
    bell: UnixStream,
    /// Set before the byte is written and taken back after it was read, so that an owner who comes
    /// by for another reason, a reader with every event, need not ask the system whether there is
    /// one. Rejected: a mark after the byte. The owner may be woken by the byte before its mark is
    /// there, on the ringer's own core too, and would then spin for as long as the scheduler lets it.
    rung: Arc<AtomicBool>,
}

/// A new pair.
pub fn channel<T>() -> io::Result<(Commands<T>, Inbox<T>)> {
    // Unbounded: commands come from the operator and from our own threads, never from a peer, and
    // one that were refused, such as a subscription, would be lost without a word.
    over(unbounded())
}

/// A new pair with room for `room` commands: [`Commands::send`] waits for room. For owners that
/// never wait for a sender.
pub fn bounded_channel<T>(room: usize) -> io::Result<(Commands<T>, Inbox<T>)> {
    over(bounded(room))
}

fn over<T>((sender, receiver): (Sender<T>, Receiver<T>)) -> io::Result<(Commands<T>, Inbox<T>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let rung = Arc::new(AtomicBool::new(false));
    Ok((
        Commands {
            sender,
            bell: ours,
            rung: Arc::clone(&rung),
        },
        Inbox {
            receiver,
            bell: theirs,
            rung,
        },
    ))
}

impl<T> Commands<T> {
    /// Sends one command and wakes its owner; waits only for room, see [`bounded_channel`]. `false` when the owner has ended.
    pub fn send(&self, command: T) -> bool {
        let alive = self.sender.send(command).is_ok();
        if alive {
            self.ring();
        }
        alive
    }

    fn ring(&self) {
        // One byte at a time: while it rings, whoever owns it has yet to look.
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        loop {
            match (&self.bell).write(&[1]) {
                Ok(_) => return,
                // Without its byte the mark would silence the bell for ever.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.rung.store(false, Ordering::Release);
                    log::debug!("the owner of a bell has ended: {error}");
                    return;
                }
            }
        }
    }

    /// Another sender for the same owner.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Commands {
            sender: self.sender.clone(),
            bell: self.bell.try_clone()?,
            rung: Arc::clone(&self.rung),
        })
    }
}

impl<T> Inbox<T> {
    /// Readable when commands may be waiting.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell, then gives what is waiting: in this order no command is overlooked. A
    /// mark without its byte stays: the byte is about to come, and will wake the owner once more.
    pub fn drain(&mut self) -> TryIter<'_, T> {
        if self.rung.load(Ordering::Acquire)
            && matches!(self.bell.read(&mut [0; 1]), Ok(n) if n > 0)
        {
            // Whoever found the mark set had sent its command before: that is seen below.
            self.rung.swap(false, Ordering::AcqRel);
        }
        self.receiver.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_was_answered_is_silent() {
        let (commands, mut inbox) = channel().unwrap();
        let ringing = |inbox: &Inbox<u32>| {
            crate::util::poll::readable([inbox.fd()], Some(std::time::Duration::ZERO)).unwrap()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10_000).all(|number| commands.send(number)));
            let mut expected = 0;
            while expected < 10_000 {
                for number in inbox.drain() {
                    assert_eq!(number, expected);
                    expected += 1;
                }
            }
        });
        // The last mark may have come after its command was taken.
        assert_eq!(inbox.drain().count(), 0);
        assert_eq!(ringing(&inbox), [false]);
        assert!(commands.send(1));
        assert_eq!(ringing(&inbox), [true]);
    }

    /// Whoever is woken between the two halves of a ring must not spin until the second.
    #[test]
    fn a_half_rung_bell_neither_rings_on_nor_is_lost() {
        let (commands, mut inbox) = channel().unwrap();
        let ringing = |inbox: &Inbox<u32>| {
            crate::util::poll::readable([inbox.fd()], Some(std::time::Duration::ZERO)).unwrap()
        };
        assert!(commands.sender.send(1).is_ok());
        commands.rung.store(true, Ordering::Release);
        assert_eq!(inbox.drain().collect::<Vec<_>>(), [1]);
        assert_eq!(ringing(&inbox), [false]);
        // Another rings meanwhile, and the first goes on.
        assert!(commands.send(2));
        assert_eq!((&commands.bell).write(&[1]).unwrap(), 1);
        assert_eq!(ringing(&inbox), [true]);
        assert_eq!(inbox.drain().collect::<Vec<_>>(), [2]);
        assert_eq!(ringing(&inbox), [false]);
        assert!(commands.send(3));
        assert_eq!(ringing(&inbox), [true]);
    }

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
