//! What was sent to a child and is not answered: pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::EventBatch;
use crate::handler::HandlerError;
use crate::util::printable;

/// What one line said.
#[derive(Debug)]
pub(super) enum Line {
    /// This one row or event.
    Row(EventBatch),
    /// `begin_sync`.
    Begin,
    /// `end_sync`.
    End,
    /// A ping.
    Ping,
}

/// Lines without an answer, at most `size`. The hello before them is one as well.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    limit: Duration,
    greeted: bool,
    next: u64,
    /// The number of the last `begin_sync`.
    begun: u64,
    waiting: VecDeque<(u64, Line)>,
    /// Since when the child owes an answer.
    since: Option<Instant>,
    /// When it last gave one.
    heard: Instant,
}

impl Window {
    /// The window of a child that was sent the hello at `now`, and must answer whatever it is sent
    /// within `limit`; with several lines waiting, one of them.
    pub fn new(size: usize, limit: Duration, now: Instant) -> Self {
        Window {
            size,
            limit,
            greeted: false,
            next: 1,
            begun: 0,
            waiting: VecDeque::new(),
            since: Some(now),
            heard: now,
        }
    }

    /// Whether the child has said hello; nothing may be sent before.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether nothing more may be sent until the child answers.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.size || !self.greeted
    }

    /// Whether nothing waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many lines wait for an answer.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the child last answered.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// A line is sent; gives its number.
    pub fn send(&mut self, line: Line, now: Instant) -> u64 {
        let seq = self.next;
        self.next += 1;
        if matches!(line, Line::Begin) {
            self.begun = seq;
        }
        self.waiting.push_back((seq, line));
        self.since.get_or_insert(now);
        seq
    }

    /// The child said hello.
    pub fn hello(&mut self, now: Instant) {
        self.greeted = true;
        self.progress(now);
    }

    /// Everything up to `seq` is done. What was answered before is no fault: a child may say it
    /// again after a nack.
    ///
    /// # Errors
    /// No line of that number was sent.
    pub fn ack(&mut self, seq: u64, now: Instant) -> Result<(), String> {
        self.check("ack", seq)?;
        while self.waiting.front().is_some_and(|(first, _)| *first <= seq) {
            self.waiting.pop_front();
        }
        self.progress(now);
        Ok(())
    }

    /// The ping `seq` is answered.
    ///
    /// # Errors
    /// No line of that number was sent.
    pub fn pong(&mut self, seq: u64, now: Instant) -> Result<(), String> {
        self.check("pong", seq)?;
        let count = self.waiting.len();
        self.waiting
            .retain(|(other, line)| *other != seq || !matches!(line, Line::Ping));
        if self.waiting.len() < count {
            self.progress(now);
        }
        Ok(())
    }

    /// The row `seq` could not be done; gives what failed. That is nothing where the handler has started
    /// over since: then the row follows anew, if it is there.
    ///
    /// # Errors
    /// No row of that number waits. A child that cannot start over must not go on either.
    pub fn nack(
        &mut self,
        seq: u64,
        reason: &str,
        retry: bool,
        now: Instant,
    ) -> Result<Option<(EventBatch, HandlerError)>, String> {
        self.check("nack", seq)?;
        let reason = printable::text(reason, 256).to_string();
        let place = self.waiting.iter().position(|(other, _)| *other == seq);
        match place.and_then(|place| self.waiting.remove(place)) {
            Some((_, Line::Row(event))) => {
                self.progress(now);
                let error = match retry {
                    true => HandlerError::Retry(reason),
                    false => HandlerError::Permanent(reason),
                };
                Ok((seq > self.begun).then_some((event, error)))
            }
            Some((_, Line::Begin | Line::End)) => Err(format!("cannot start over: {reason}")),
            Some((_, Line::Ping)) | None => {
                Err(format!("said nack of {seq}, which is no row that waits"))
            }
        }
    }

    /// When the child must have answered.
    pub fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limit)
    }

    /// What the child has owed for too long.
    pub fn overdue(&self, now: Instant) -> Option<String> {
        let late = self.deadline().is_some_and(|deadline| now >= deadline);
        late.then(|| {
            let limit = self.limit.as_secs_f64();
            let Some((seq, line)) = self.waiting.front() else {
                return format!("said no hello within {limit} s");
            };
            let row = match line {
                Line::Row(event) => event.get(0),
                Line::Begin | Line::End | Line::Ping => None,
            };
            let row = row.map_or(String::new(), |row| {
                let (table, key) = (
                    printable::name(row.table, 64),
                    printable::name(row.key, 128),
                );
                format!(", {table} {key}")
            });
            format!("answered nothing for {limit} s; the next is seq {seq}{row}")
        })
    }

    fn check(&self, what: &str, seq: u64) -> Result<(), String> {
        if !self.greeted {
            return Err(format!("said {what} before hello"));
        }
        if seq >= self.next {
            return Err(format!("said {what} of {seq}, which was never sent"));
        }
        Ok(())
    }

    fn progress(&mut self, now: Instant) {
        self.heard = now;
        self.since = (!self.waiting.is_empty()).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn greeted(size: usize, now: Instant) -> Window {
        let mut window = Window::new(size, LIMIT, now);
        window.hello(now);
        window
    }

    fn row(key: &str) -> Line {
        Line::Row([Event::set("t", key, "1")].into_iter().collect())
    }

    #[test]
    fn an_ack_covers_what_was_before_it() {
        let now = Instant::now();
        let mut window = greeted(3, now);
        for key in ["a", "b", "c"] {
            assert!(!window.is_full());
            window.send(row(key), now);
        }
        assert!(window.is_full());
        window.ack(2, now).unwrap();
        assert_eq!(window.len(), 1);
        window.ack(1, now).unwrap();
        window.ack(3, now).unwrap();
        assert!(window.is_empty() && window.deadline().is_none());
        assert!(window.ack(4, now).unwrap_err().contains("never sent"));
        window.ack(0, now).unwrap(); // the hello has this number
    }

    #[test]
    fn a_nack_is_of_one_row() {
        let now = Instant::now();
        let mut window = greeted(9, now);
        let begin = window.send(Line::Begin, now);
        window.send(row("a"), now);
        let b = window.send(row("b\n"), now);
        let (event, error) = window.nack(b, "no\nroom", false, now).unwrap().unwrap();
        assert_eq!(event.get(0), Some(Event::set("t", "b\n", "1")));
        assert_eq!(error, HandlerError::Permanent("no\\nroom".into()));
        assert_eq!(window.len(), 2);
        assert!(window.nack(b, "again", true, now).is_err());
        assert!(
            window
                .nack(begin, "no", true, now)
                .unwrap_err()
                .contains("start over")
        );
    }

    #[test]
    fn a_nack_from_before_a_resync_only_makes_room() {
        let now = Instant::now();
        let mut window = greeted(9, now);
        let before = window.send(row("a"), now);
        window.send(Line::End, now);
        window.send(Line::Begin, now);
        let in_it = window.send(row("a"), now);
        window.send(Line::End, now);
        assert!(window.nack(before, "", true, now).unwrap().is_none());
        assert_eq!(window.len(), 4);
        assert!(window.nack(in_it, "", true, now).unwrap().is_some());
        assert_eq!(window.len(), 3);
    }

    #[test]
    fn who_answers_nothing_is_overdue() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(9, LIMIT, start);
        assert!(window.is_full(), "before the hello nothing is sent");
        assert!(window.ack(1, start).unwrap_err().contains("before hello"));
        assert!(window.overdue(at(5)).unwrap().contains("no hello"));
        window.hello(at(1));
        assert_eq!(window.overdue(at(1000)), None);
        window.send(row("a"), at(1000));
        window.send(row("b"), at(1001));
        window.ack(1, at(1004)).unwrap();
        assert_eq!(window.overdue(at(1008)), None, "it made progress");
        assert!(window.overdue(at(1009)).unwrap().contains("t b"));
        window.ack(2, at(1009)).unwrap();
        let ping = window.send(Line::Ping, at(2000));
        window.send(row("c"), at(2000));
        window.pong(ping, at(2004)).unwrap();
        assert!(window.pong(ping, at(2008)).is_ok(), "said twice");
        assert!(
            window.overdue(at(2009)).is_some(),
            "a pong twice is no progress"
        );
    }

    proptest! {
        /// Whatever a child answers, each row is answered once at most and nothing grows.
        #[test]
        fn every_row_has_one_answer(answers in prop::collection::vec((0u8..4, 0u64..40), 0..200)) {
            let now = Instant::now();
            let mut window = greeted(8, now);
            let (mut sent, mut failed) = (0, 0);
            for (kind, seq) in answers {
                match kind {
                    0 if !window.is_full() => {
                        window.send(row("k"), now);
                        sent += 1;
                    }
                    1 => _ = window.ack(seq, now),
                    2 => failed += usize::from(window.nack(seq, "", true, now).is_ok()),
                    _ => _ = window.pong(seq, now),
                }
                prop_assert!(window.len() <= 8 && failed + window.len() <= sent);
                prop_assert_eq!(window.is_empty(), window.deadline().is_none());
            }
        }
    }
}
