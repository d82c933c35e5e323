//! Who is kept out of a port where peers prove nothing: the addresses, and the system that throws away what
//! comes from them.

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::outcasts::Outcasts;
use crate::pubsub::driver::zmq::{filter, tcp};
use crate::util::rate::RateLimit;

/// How often it is looked whose time is over.
const LET_IN: Duration = Duration::from_secs(1);

/// The addresses that are kept out of a port.
pub struct Exile {
    port: u16,
    outcasts: Outcasts,
    /// The socket that listens, once it does.
    listener: Option<RawFd>,
    looked: Instant,
    lines: RateLimit,
}

impl Exile {
    /// Nobody is kept out of this port yet.
    pub fn of(port: u16, now: Instant) -> Self {
        Exile {
            port,
            outcasts: Outcasts::default(),
            listener: None,
            looked: now,
            lines: RateLimit::new(10, Duration::from_secs(60)),
        }
    }

    /// This is the socket that listens.
    pub fn listens(&mut self, fd: RawFd) {
        self.listener = Some(fd);
    }

    /// Whether an address is kept out.
    pub fn has(&self, address: IpAddr) -> bool {
        self.outcasts.has(address)
    }

    /// A handshake with this address has failed; whether it was one too many, and the address is kept out for it.
    pub fn failed(&mut self, address: IpAddr, now: Instant) -> bool {
        self.outcasts.failed(address, now) && self.cast_out(address, "its handshakes fail", now)
    }

    /// Keeps an address out for a while from now on; whether it was not yet.
    pub fn cast_out(&mut self, address: IpAddr, why: &str, now: Instant) -> bool {
        let new = self.outcasts.cast_out(address, now);
        if new {
            if let Some(permit) = self.lines.permit(now) {
                let port = self.port;
                log::warn!("{address} is kept out of port {port} for a minute: {why}{permit}");
            }
            self.keep_out(now);
        }
        new
    }

    /// Lets those in whose time is over. To be called often.
    pub fn let_in(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) >= LET_IN {
            self.looked = now;
            if self.outcasts.let_in(now) {
                self.keep_out(now);
            }
        }
    }

    /// Has the system keep out those who are cast out; where that takes in only a shorter list, those who
    /// stay longest. The others are ended when they come.
    fn keep_out(&mut self, now: Instant) {
        let Some(listener) = self.listener else {
            return;
        };
        let mut out = self.outcasts.all();
        while let Err(error) = tcp::filter(listener, Some(self.port), &filter::program(&out)) {
            if let Some(permit) = self.lines.permit(now) {
                log::warn!(
                    "the system does not keep out {} addresses, the others are ended one by one: {error}{permit}",
                    out.len()
                );
            }
            if out.is_empty() {
                return;
            }
            out.truncate(out.len() / 2);
        }
    }
}
