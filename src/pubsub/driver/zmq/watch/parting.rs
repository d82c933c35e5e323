//! Connections that were ended here and that libzmq still has: they are not heard any more, and libzmq
//! is told when all that had come of them was passed on ([`super`] says why).

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::super::tcp;
use super::place::Place;

/// How long whoever is not heard any more stays connected after the last of it has come here: libzmq passes on
/// what it has read a little at a time. Not much longer: what all subscribe to is looked through for each that
/// ends.
const LAST_READ: Duration = Duration::from_millis(100);

/// How often it must have been received meanwhile without anything of it: that time has passed proves nothing
/// while nobody looked, or while others had their turn. What was received counts as that when it was all there
/// was, or more than each connection had a turn for.
const ROUNDS: u32 = 20;
const TURNS: usize = 4;

/// A connection that is not heard any more, and which it is of those with its descriptor.
#[derive(Debug)]
struct Deaf {
    fd: RawFd,
    order: u64,
    /// Since when libzmq has read everything.
    read: Option<Instant>,
    /// When something of it came last, and how often it was received since then.
    late: Option<Instant>,
    rounds: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Parting(Vec<Deaf>);

impl Parting {
    /// A connection is not heard any more.
    pub fn add(&mut self, fd: RawFd, place: &Place) {
        self.0.push(Deaf {
            fd,
            order: place.order,
            read: None,
            late: None,
            rounds: 0,
        });
    }

    /// Tells libzmq of those of whom everything was passed on. So many messages were received from those
    /// that are `open`, to this port of ours, since the last call; and whether these were `all`.
    pub fn close(
        &mut self,
        open: &BTreeMap<RawFd, Place>,
        port: Option<u16>,
        received: usize,
        all: bool,
        now: Instant,
    ) {
        let round = match (all, received >= TURNS * open.len()) {
            (true, _) => ROUNDS / 2,
            (false, enough) => u32::from(enough),
        };
        self.0.retain_mut(|deaf| {
            let place = open.get(&deaf.fd);
            let Some(place) = place.filter(|place| place.order == deaf.order) else {
                return false;
            };
            let Some(read) = deaf.read else {
                deaf.read = (tcp::unread(deaf.fd, port) == 0).then_some(now);
                return true;
            };
            if deaf.late != place.late {
                (deaf.late, deaf.rounds) = (place.late, 0);
                return true;
            }
            deaf.rounds += round;
            let since = place.late.map_or(read, |late| late.max(read));
            let waited = now.saturating_duration_since(since) >= LAST_READ;
            let silent = waited && deaf.rounds >= ROUNDS;
            !silent || !tcp::end_connection(deaf.fd, None, port)
        });
    }
}
