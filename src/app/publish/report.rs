//! What became of the events, for the one who published them.

use std::fmt;
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::app::logging;
use crate::publisher::client::{Refusal, Summary};
use crate::util::printable;

/// Bytes of a service's reason that are shown.
const REASON: usize = 200;

pub(super) struct Report {
    progress: Progress,
    /// Events there will be, where that is known.
    total: Option<u64>,
    /// Events handed to the client.
    sent: u64,
    summary: Summary,
    /// Lines that were never sent, being bad.
    bad: u64,
    /// Reading or sending ended early.
    gave_up: bool,
    /// `(number, line)`: from this number on lines run along with numbers.
    lines: Vec<(u64, u64)>,
    /// When something was settled last.
    settled: Instant,
}

impl Report {
    pub fn new(terminal: bool) -> Self {
        Report {
            progress: Progress::new(terminal),
            total: None,
            sent: 0,
            summary: Summary::default(),
            bad: 0,
            gave_up: false,
            lines: Vec::new(),
            settled: Instant::now(),
        }
    }

    /// So many events are to come.
    pub fn expect(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.sent == 0
    }

    /// The client took the event of `line` as its `number`.
    pub fn sent(&mut self, number: u64, line: Option<u64>) {
        self.sent += 1;
        if let Some(line) = line
            && self.line_of(number) != Some(line)
        {
            self.lines.push((number, line));
        }
    }

    pub(super) fn line_of(&self, number: u64) -> Option<u64> {
        let after = self.lines.partition_point(|(first, _)| *first <= number);
        let (first, line) = self.lines.get(after.checked_sub(1)?)?;
        Some(line + (number - first))
    }

    /// Since when nothing was settled.
    pub fn idle_since(&self) -> Instant {
        self.settled
    }

    pub fn bad_line(&mut self, line: u64, why: &str) {
        self.bad += 1;
        self.tell(format_args!(
            "line {line}: {}",
            printable::text(why, REASON)
        ));
    }

    pub fn give_up(&mut self, why: &str) {
        self.gave_up = true;
        self.tell(format_args!("{why}"));
    }

    /// Takes what has become known.
    pub fn look(&mut self, summary: Summary, refusals: &[Refusal], trouble: Option<String>) {
        let done = |summary: Summary| summary.acknowledged + summary.refused;
        if done(summary) > done(self.summary) {
            self.settled = Instant::now();
        }
        self.summary = summary;
        for refusal in refusals {
            let reason = printable::text(&refusal.reason, REASON);
            match self.line_of(refusal.number) {
                Some(line) => self.tell(format_args!("line {line}: refused: {reason}")),
                None => self.tell(format_args!("refused: {reason}")),
            }
        }
        self.progress
            .draw(done(summary), self.total, trouble.as_deref());
    }

    /// All that could be waited for was.
    pub fn end(&mut self, waited: Duration, trouble: Option<String>) {
        self.progress.clear();
        let unknown = self.summary.pending;
        if unknown > 0 {
            let why = trouble.unwrap_or_else(|| "the publisher service is too slow".into());
            let why = printable::text(&why, REASON);
            self.tell(format_args!(
                "gave up after {waited:?} without an acknowledgement; it is not known of {unknown} \
                 events whether they were published: {why}"
            ));
        }
    }

    fn tell(&mut self, text: fmt::Arguments<'_>) {
        self.progress.clear();
        logging::tell(text);
    }

    /// Exit status: 0 when every event was acknowledged, else 1.
    pub fn status(&self) -> u8 {
        let fine = self.summary.acknowledged == self.sent && self.bad == 0 && !self.gave_up;
        u8::from(!fine || self.total.is_some_and(|total| self.sent < total))
    }
}

impl fmt::Display for Report {
    /// `acknowledged 3, refused 0`, and how many are unknown or were not sent where there are such.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.summary.refused + self.bad;
        write!(
            f,
            "acknowledged {}, refused {refused}",
            self.summary.acknowledged
        )?;
        if self.summary.pending > 0 {
            write!(f, ", unknown {}", self.summary.pending)?;
        }
        match self
            .total
            .map(|total| total.saturating_sub(self.sent + self.bad))
        {
            None | Some(0) => Ok(()),
            Some(unsent) => write!(f, ", not sent {unsent}"),
        }
    }
}
