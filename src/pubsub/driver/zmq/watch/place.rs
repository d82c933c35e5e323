//! One connection, and what is known of what it sends and takes: pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::tcp::Traffic;
use super::super::unended::Unended;

/// Most that a connection may send without ending a message, where it is not certain that all that has ended was
/// heard: no more than all subscriptions, or a few questions of the longest kind, are on their way at a time. Where
/// it is certain, it is what the longest message may have: libzmq holds what comes in up to 32 times its bytes.
const MAX_UNHEARD: u64 = 8 << 20;

/// The same until something was heard: many may be connected of whom nothing was.
const MAX_FIRST: u64 = 1 << 20;

/// What there may be of parts of messages on all connections together.
pub const MAX_ALL: u64 = 8 << 20;

/// What is taken for heartbeats, and not for a part of a message, without one since. Whoever sends only these is
/// ended after that, and not kept out: that is more than a day at one a second.
pub const MAX_BESIDE: u64 = 1 << 20;

/// What is looked at closer: how much of it libzmq has yet to read from the system.
const LITTLE: u64 = 16 << 10;

/// How long what is sent to a connection may find no room there. Before the system gives it up
/// ([`super::super::give_up_lifeless`]): libzmq must not find it broken.
const STUCK: Duration = Duration::from_secs(8);

/// One connection.
#[derive(Debug)]
pub struct Place {
    /// Rises with each that comes.
    pub order: u64,
    /// When it was seen first.
    pub came: Instant,
    /// Where from, where that matters and as soon as it is certain.
    pub address: Option<IpAddr>,
    /// Whether it has sent anything.
    pub spoke: bool,
    /// Whose it is, once it has sent something; `None` where nobody admits.
    pub node: Option<Arc<str>>,
    /// How many handshakes had been done when it came.
    pub ready: u64,
    /// The number under which it was admitted, once it has sent something; 0 where nobody admits.
    pub number: u64,
    /// Whether it was ended here; libzmq has yet to find out.
    pub ended: bool,
    /// When something that is left of it came last.
    pub late: Option<Instant>,
    /// What it has sent since its last whole message; and how much of that libzmq had read at the last look, and
    /// how much beside.
    pub unended: Unended,
    pub left: u64,
    pub beside: u64,
    /// How much of what was sent to it had arrived at the last look; and at which look something that waits was
    /// first seen to do so, or to have moved.
    arrived: u64,
    moved: Option<Instant>,
}

impl Place {
    /// The next that comes, when so many handshakes had been done.
    pub fn new(order: u64, ready: u64, now: Instant) -> Self {
        Place {
            order,
            came: now,
            address: None,
            spoke: false,
            node: None,
            ready,
            number: 0,
            ended: false,
            late: None,
            unended: Unended::default(),
            left: 0,
            beside: 0,
            arrived: 0,
            moved: None,
        }
    }

    /// Takes in what has come; whether it is in the middle of a message of more than `longest`.
    pub fn measure(
        &mut self,
        traffic: &Traffic,
        heard: Heard,
        longest: u64,
        now: Instant,
        unread: impl FnOnce() -> u64,
    ) -> bool {
        if heard == Heard::Unknown {
            return false;
        }
        let mut left = self.unended.left(traffic.received, now);
        self.beside = self.unended.forgiven();
        if left > LITTLE {
            left = left.saturating_sub(unread());
        }
        // Otherwise it is no part of a message, as far as is known.
        self.left = if heard == Heard::All { left } else { 0 };
        let most = match heard {
            Heard::All => longest,
            _ if self.spoke => MAX_UNHEARD,
            _ => MAX_FIRST,
        };
        left > most
    }

    /// Whether nothing that waits for it was taken for long.
    pub fn is_stuck(&mut self, traffic: &Traffic, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.arrived, traffic.arrived);
        if !traffic.waiting {
            // However long ago this look was: what waits at the next one may have come just before it.
            self.moved = None;
            return false;
        }
        let since = self.moved.filter(|_| traffic.arrived == before);
        let since = *self.moved.insert(since.unwrap_or(now));
        now.saturating_duration_since(since) >= STUCK
    }
}

/// What is known of what has come, at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// All that has ended was heard.
    All,
    /// Not for long.
    Late,
    /// Not now: who is in the middle of a message cannot be told.
    Unknown,
}
