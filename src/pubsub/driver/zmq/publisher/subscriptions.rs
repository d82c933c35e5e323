//! What subscribers ask for.
//!
//! Where they need leave, libzmq is in its manual mode: a subscription is made for the connection
//! that sent what was received last. Two of its ways are taken care of here. It keeps this
//! connection in mind when it has ended and its memory is gone; so nothing is made for one that may
//! have ended. And it takes the wrong connection after a message that is no subscription, until all
//! that waits was received; so nothing is made until then, and who asked for something meanwhile is
//! made to come again.

use std::time::{Duration, Instant};

use super::super::sender::Sender;
use super::super::watch::{Standing, Watch};
use super::super::{curve, failed};
use super::ZmqPublisher;
use crate::event::topic;
use crate::pubsub::api::{PubSubError, Subscription};

/// How long it takes libzmq, at most usually, to hand on more of them where there are more.
const REFILL: Duration = Duration::from_micros(50);

/// How long changes of subscriptions are taken in one go, while events wait: an agent with a hundred
/// topics is done in two or three.
const SLICE: Duration = Duration::from_micros(200);

/// Longest subscription: the longest topic, and the NUL that ends it.
const MAX_PREFIX: usize = topic::MAX_TOPIC_LEN + 1;

/// Longest message: what is done with it, and the subscription.
pub(super) const MAX_MESSAGE: u64 = 1 + MAX_PREFIX as u64;

/// Changes of subscriptions that are taken before the clock is looked at.
const ROUND: usize = 32;

pub(super) type See<'a> = &'a mut dyn FnMut(&Subscription<'_>) -> bool;

/// Whether something is subscribed to or not any more, and what; `None` where no subscriber sends that.
fn change(message: &[u8]) -> Option<(bool, &[u8])> {
    match message.split_first()? {
        // No topic is so long, and libzmq would need much memory for it.
        (0 | 1, prefix) if prefix.len() > MAX_PREFIX => None,
        (added @ (0 | 1), prefix) => Some((*added == 1, prefix)),
        _ => None,
    }
}

impl ZmqPublisher {
    /// Takes in what has come, for a while; says whether there is more.
    pub(super) fn take_in(&mut self, see: See<'_>) -> Result<bool, PubSubError> {
        let begun = Instant::now();
        let mut message = zmq::Message::new();
        let (mut count, mut last, mut all) = (0_usize, None::<Instant>, false);
        loop {
            let Some(socket) = self.bound.socket() else {
                return Ok(false);
            };
            match socket.recv(&mut message, zmq::DONTWAIT) {
                Ok(()) => {
                    self.see(&mut message, see)?;
                    count += 1;
                    last = None;
                    if count.is_multiple_of(ROUND) && begun.elapsed() >= SLICE {
                        break;
                    }
                }
                Err(zmq::Error::EAGAIN) => {
                    self.in_step = true;
                    if count == 0 {
                        all = true;
                        self.changes.idle(begun);
                        break;
                    }
                    // libzmq holds few at a time: where there were some, more may follow at once.
                    let now = Instant::now();
                    let waited = now.saturating_duration_since(*last.get_or_insert(now));
                    if waited >= REFILL || now.saturating_duration_since(begun) >= SLICE {
                        break;
                    }
                    std::thread::yield_now();
                }
                Err(zmq::Error::EINTR) => break,
                Err(error) => {
                    let what = format!("cannot read subscriptions of {}", self.options.endpoint);
                    return Err(failed(what)(error));
                }
            }
        }
        if let Some(watch) = self.bound.watch() {
            watch.look()?;
            watch.thin_out(count, all);
        }
        self.part(see);
        Ok(!all)
    }

    /// Takes in one message of a subscriber.
    fn see(&mut self, message: &mut zmq::Message, see: See<'_>) -> Result<(), PubSubError> {
        // Whosever it is, and whatever becomes of it.
        self.in_step &= matches!(message.first(), Some(0 | 1));
        let known = curve::knows(self.options.key.as_ref(), &self.options.endpoint);
        let Some(sender) = Sender::of(message, known) else {
            // Of a connection that has ended, made by libzmq: its seat tells what it had.
            return Ok(());
        };
        let Some(watch) = self.bound.watch() else {
            return Ok(());
        };
        // For each message, though it costs as much as all the rest: where nobody admits, only this tells
        // a connection from one that had its descriptor a moment ago, and the subscriptions of the one
        // would be taken for those of the other.
        watch.look()?;
        let standing = watch.spoke(&sender);
        self.part(see);
        let may = self.changes.may(&sender, &self.options.peers);
        match standing {
            Standing::Ended | Standing::Over if !may => {
                self.shun(&sender);
                return Ok(());
            }
            // What is late is of no use any more: its end was seen. And its memory may be gone, so that
            // nothing may be made for it. But to hang up at once is no excuse.
            Standing::Over => {
                let itself = |watch: &mut Watch| watch.ended_itself(&sender);
                if change(message).is_none() && self.bound.watch().is_some_and(itself) {
                    self.shun(&sender);
                }
                return Ok(());
            }
            Standing::Ended => return Ok(()),
            Standing::Open => {}
        }
        let now = Instant::now();
        if !self.seats.came(&sender, &self.options.peers, now) || !may {
            self.spurn(&sender);
            return Ok(());
        }
        let Some((added, prefix)) = change(message) else {
            self.spurn(&sender);
            return Ok(());
        };
        let subscription = Subscription {
            prefix,
            added,
            node: sender.node.as_deref(),
        };
        match self.guarded {
            true => self.judge(&sender, &subscription, see),
            false => {
                self.note(&sender, &subscription, see);
                Ok(())
            }
        }
    }

    /// Ends a connection that does what no subscriber does.
    fn spurn(&mut self, sender: &Sender) {
        self.counts.unruly += self.end_as(sender, Watch::spurn);
    }

    /// Keeps somebody like that out whose connection has ended or was ended.
    fn shun(&mut self, sender: &Sender) {
        self.counts.unruly += self.end_as(sender, Watch::shun);
    }

    /// Ends a connection; 1 when it did.
    fn end(&mut self, sender: &Sender) -> u64 {
        self.end_as(sender, Watch::end)
    }

    fn end_as(&mut self, sender: &Sender, end: fn(&mut Watch, &Sender) -> bool) -> u64 {
        let watch = self.bound.watch();
        watch.is_some_and(|watch| end(watch, sender)).into()
    }

    /// A change that libzmq has made.
    fn note(&mut self, sender: &Sender, subscription: &Subscription<'_>, see: See<'_>) {
        let prefix = subscription.prefix;
        if !subscription.added {
            if self.seats.remove(sender, prefix) {
                see(subscription);
            }
        } else if !self.seats.has(sender, prefix) {
            match self.seats.has_room(sender, prefix, &self.options.peers) {
                true => {
                    self.seats.put(sender, prefix, true);
                    see(subscription);
                }
                false => self.refuse_more(sender, prefix),
            }
        }
    }

    /// A change that is to be made, or not.
    fn judge(
        &mut self,
        sender: &Sender,
        subscription: &Subscription<'_>,
        see: See<'_>,
    ) -> Result<(), PubSubError> {
        let is_over = |watch: &mut Watch| watch.is_over(sender);
        if self.bound.watch().is_none_or(is_over) {
            // Late, of one that has ended; or of one that came so soon after it that it cannot be
            // told from it.
            if self
                .seats
                .number(sender.fd)
                .is_none_or(|n| n <= sender.number)
            {
                self.counts.unclear += self.end(sender);
            }
            return Ok(());
        }
        if !self.in_step {
            self.counts.unclear += self.end(sender);
            return Ok(());
        }
        let Some(socket) = self.bound.socket() else {
            return Ok(());
        };
        let cannot = || failed(format!("cannot subscribe at {}", self.options.endpoint));
        let prefix = subscription.prefix;
        if !subscription.added {
            if self.seats.remove(sender, prefix) {
                socket.set_unsubscribe(prefix).map_err(cannot())?;
                see(subscription);
            }
        } else if !self.seats.has(sender, prefix) {
            let room = self.seats.has_room(sender, prefix, &self.options.peers);
            let leave = room && see(subscription);
            if leave {
                socket.set_subscribe(prefix).map_err(cannot())?;
            }
            match room {
                true => self.seats.put(sender, prefix, leave),
                false => self.refuse_more(sender, prefix),
            }
        }
        Ok(())
    }

    /// Ends a connection that asks for more than it may have, or all together may.
    fn refuse_more(&mut self, sender: &Sender, prefix: &[u8]) {
        if !self.seats.is_full(sender, prefix, &self.options.peers) {
            self.counts.greedy += self.end(sender);
            return;
        }
        // It would come at once and ask for as much again, and to forget all of it takes time.
        self.counts.greedy += self.end_as(sender, Watch::spurn);
    }

    /// Takes leave of connections that have ended.
    fn part(&mut self, see: See<'_>) {
        let gone = self.bound.watch().map(Watch::take_gone).unwrap_or_default();
        for fd in gone {
            for prefix in self.seats.leave(fd) {
                see(&Subscription {
                    prefix: &prefix,
                    added: false,
                    node: None,
                });
            }
        }
    }
}
