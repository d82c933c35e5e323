//! Heads, topics and missed events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BROKEN, Desk, Heads, Purpose, encode};
use crate::publisher::sync::ask::{Ask, Told};
use crate::publisher::sync::cache::Key;
use crate::publisher::sync::waiters::Waiter;
use crate::sync::Answer;

/// For how long the last events of a topic are given to those who ask for them, whatever has come
/// since: they ask again from where those end.
const TAIL: Duration = Duration::from_millis(50);

impl Desk {
    pub(super) fn heads(
        &mut self,
        waiter: Waiter,
        incarnation: u64,
        (topics, forbidden): (Heads, Heads),
    ) {
        if self.may_wait(&waiter) && self.may_ask(&waiter) {
            self.waiters.wait(&waiter);
            let ask = Ask::Heads {
                incarnation,
                topics,
            };
            self.question(Purpose::Heads(waiter, forbidden), ask);
        }
    }

    pub(super) fn heads_told(&mut self, waiter: &Waiter, told: Told, forbidden: Heads) {
        self.waiters.done(waiter);
        let Told::Heads {
            incarnation,
            head,
            mut behind,
        } = told
        else {
            return self.retry(waiter, BROKEN);
        };
        self.incarnation = incarnation;
        // Behind, wherever they stand: whoever asks for them is told that it may not have them, and
        // does not take what it has for all there is.
        let ever = |(topic, has): (String, u64)| (topic, has.saturating_add(1));
        behind.extend(forbidden.into_iter().map(ever));
        let answer = Answer::Heads {
            incarnation,
            head,
            behind,
        };
        self.answer(waiter, &answer);
    }

    pub(super) fn topics(&mut self, waiter: Waiter, after: String) {
        if self.may_wait(&waiter) && self.may_ask(&waiter) {
            self.waiters.wait(&waiter);
            self.question(Purpose::Topics(waiter), Ask::Topics { after });
        }
    }

    pub(super) fn topics_told(&mut self, waiter: &Waiter, told: Told) {
        self.waiters.done(waiter);
        let Told::Topics {
            incarnation,
            topics,
            more,
        } = told
        else {
            return self.retry(waiter, BROKEN);
        };
        self.incarnation = incarnation;
        let answer = Answer::Topics {
            incarnation,
            topics,
            more,
        };
        self.answer(waiter, &answer);
    }

    pub(super) fn replay(&mut self, waiter: Waiter, key: Key, now: Instant) {
        if let Some(body) = self.shelf.cache.get(&key, now) {
            self.metrics.sync_shared_total.inc();
            self.send(&waiter, body);
            return;
        }
        if !self.may_wait(&waiter) {
            return;
        }
        if let Some(others) = self.replays.get_mut(&key) {
            others.push(waiter.clone());
            self.metrics.sync_shared_total.inc();
            self.waiters.wait(&waiter);
            return;
        }
        if !self.may_ask(&waiter) {
            return;
        }
        self.waiters.wait(&waiter);
        self.replays.insert(key.clone(), vec![waiter]);
        let ask = Ask::Replay {
            incarnation: key.incarnation,
            topic: Arc::clone(&key.topic),
            after: key.after,
        };
        self.question(Purpose::Replay(key), ask);
    }

    pub(super) fn replayed(&mut self, key: Key, told: Told, now: Instant) {
        let waiters = self.replays.remove(&key).unwrap_or_default();
        waiters.iter().for_each(|waiter| self.waiters.done(waiter));
        let answer = match told {
            Told::Events {
                incarnation,
                upto,
                last,
                events,
            } => Answer::Events {
                incarnation,
                upto,
                last,
                events,
            },
            Told::Gone { incarnation } => {
                self.incarnation = incarnation;
                Answer::Gone { incarnation }
            }
            _ => {
                for waiter in waiters {
                    self.retry(&waiter, BROKEN);
                }
                return;
            }
        };
        let body = encode(&answer);
        for waiter in waiters {
            self.send(&waiter, Arc::clone(&body));
        }
        if let Answer::Events {
            incarnation,
            upto,
            last,
            events,
        } = answer
        {
            self.incarnation = incarnation;
            // A piece that others follow stays as it is. The last one may grow, and that there is
            // none is never kept: whoever asks has a reason to.
            if !events.is_empty() {
                self.metrics.sync_built_total.inc();
                let until = (upto >= last).then_some(now + TAIL);
                self.shelf.cache.put(key, body, until, now);
            }
        }
    }
}
