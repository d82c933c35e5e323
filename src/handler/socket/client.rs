//! One client: pure. It takes input, changes and the time, and has output.
//!
//! What a client has not read is text up to [`MAX_OUT`] and one line, then only names with the
//! newest state of each, which all clients share. Names of rows that are no more would add up for one
//! that never reads: with more than there are rows, and [`SPARE`] more, it is to be given all anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::filter::Filter;
use super::rows::{Change, Name, Row, Rows};
use crate::handler::json;

/// Bytes of output beyond which changes are remembered by name.
const MAX_OUT: usize = 64 * 1024;
/// Names that may wait for a client beyond the number of rows there are.
pub(super) const SPARE: usize = 4096;
/// Longest filter line, bytes.
const MAX_FILTER: usize = 64 * 1024;

/// Where a client stands.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It may still send a filter.
    Choosing { until: Instant },
    /// There are no complete rows yet.
    Waiting,
    /// It was given the rows up to this one.
    Snapshot { last: Option<Name> },
    /// It was given all rows.
    Live,
    /// It was told why, and is to be closed.
    Refused,
}

/// A change that waits.
#[derive(Debug)]
struct Pending {
    /// `None`: what there is now it does not want. It keeps its place, so that there is one only.
    row: Option<Arc<Row>>,
    /// States that are left out for this one.
    skipped: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    state: State,
    filter: Filter,
    input: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    pending: HashMap<Name, Pending>,
    /// The names of `pending`, each once, in the order in which they are given.
    order: VecDeque<Name>,
    skipped: u64,
    /// Whether it was told to start over.
    again: bool,
}

impl Client {
    /// A client of the handler called `handler` that attached at `now` and may send a filter
    /// within `filter_wait`.
    pub fn new(handler: &str, now: Instant, filter_wait: Duration) -> Self {
        let mut client = Client {
            state: State::Choosing {
                until: now + filter_wait,
            },
            filter: Filter::default(),
            input: Vec::new(),
            out: Vec::new(),
            written: 0,
            pending: HashMap::new(),
            order: VecDeque::new(),
            skipped: 0,
            again: false,
        };
        let handler = json::string(handler);
        client.line(&format!(
            r#"{{"type":"hello","protocol":1,"handler":{handler}}}"#
        ));
        client
    }

    /// It sent these bytes. After the filter line they mean nothing.
    pub fn input(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Choosing { .. }) {
            return;
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.input.extend_from_slice(&bytes[..end]);
                self.choose();
            }
            None if self.input.len() + bytes.len() > MAX_FILTER => {
                self.refuse("the filter is too long")
            }
            None => self.input.extend_from_slice(bytes),
        }
    }

    /// It sends nothing more.
    pub fn input_ended(&mut self) {
        if matches!(self.state, State::Choosing { .. }) && !self.input.is_empty() {
            self.choose();
        }
    }

    /// What comes with the time.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            if self.input.is_empty() {
                self.state = State::Waiting;
            } else {
                self.refuse("the filter line did not end in time");
            }
        }
    }

    /// When to call [`Client::tick`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Choosing { until } => Some(until),
            _ => None,
        }
    }

    /// A row changed, and now there are so many. Says whether the client is to start over, because too
    /// much waits for it.
    pub fn offer(&mut self, change: &Change, rows: usize) -> bool {
        self.put(change);
        let too_many = self.pending.len() > rows.saturating_add(SPARE);
        if too_many {
            let waiting = std::mem::take(&mut self.pending);
            self.order = VecDeque::new();
            let left_out = waiting
                .values()
                .map(|each| each.skipped + u64::from(each.row.is_some()));
            self.skipped += left_out.sum::<u64>();
            // What a snapshot has yet to pass is not remembered, and it begins when there is room.
            self.state = State::Waiting;
            self.again = true;
        }
        too_many
    }

    fn put(&mut self, change: &Change) {
        let is_given = match &self.state {
            State::Live => true,
            // What the snapshot has yet to pass, it gives as it is then.
            State::Snapshot { last } => last.as_ref().is_some_and(|last| change.new.name <= *last),
            _ => return,
        };
        if !is_given {
            return;
        }
        let covered = |row: &Arc<Row>| self.filter.covers(row);
        let row = if self.filter.covers(&change.new) {
            Some(Arc::clone(&change.new))
        } else if change.old.as_ref().is_some_and(covered) {
            // It went to another topic: for this client it is gone.
            change.gone()
        } else {
            return;
        };
        let row = row.filter(|row| self.filter.wants(row));
        let name = &change.new.name;
        if let Some(waiting) = self.pending.get_mut(name) {
            waiting.skipped += u64::from(waiting.row.is_some());
            waiting.row = row;
        } else if let Some(row) = row {
            if self.state == State::Live && self.pending.is_empty() && self.unread() < MAX_OUT {
                self.event(&row, 0);
            } else {
                self.order.push_back(Arc::clone(name));
                let row = Some(row);
                self.pending
                    .insert(Arc::clone(name), Pending { row, skipped: 0 });
            }
        }
    }

    /// Makes output of what waits, as far as there is room.
    pub fn fill(&mut self, rows: &Rows) {
        if self.state == State::Waiting && rows.is_complete() {
            let reason = if self.again { "overflow" } else { "attached" };
            self.line(&format!(r#"{{"type":"begin_sync","reason":"{reason}"}}"#));
            self.state = State::Snapshot { last: None };
        }
        while let State::Snapshot { last } = &self.state
            && self.unread() < MAX_OUT
        {
            match rows.after(last.as_ref()) {
                Some(row) => {
                    if self.filter.wants(row) {
                        self.line(&format!(r#"{{"type":"row",{}}}"#, row.body));
                    }
                    let last = Some(Arc::clone(&row.name));
                    self.state = State::Snapshot { last };
                }
                None => {
                    self.line(r#"{"type":"end_sync"}"#);
                    self.state = State::Live;
                }
            }
        }
        while self.state == State::Live && self.unread() < MAX_OUT {
            let Some(name) = self.order.pop_front() else {
                // A client that was slow once keeps no room for it.
                self.pending = HashMap::new();
                self.order = VecDeque::new();
                return;
            };
            if let Some(Pending { row, skipped }) = self.pending.remove(&name) {
                self.skipped += skipped;
                if let Some(row) = row {
                    self.event(&row, skipped);
                }
            }
        }
    }

    /// What is to be written.
    pub fn output(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So much of it was.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.unread() == 0 {
            self.out.clear();
            self.out.shrink_to(MAX_OUT);
            self.written = 0;
        } else if self.written >= MAX_OUT && self.written >= self.unread() {
            // One that reads, but never everything, must not keep what it has read; and what is
            // moved is no more than what was written.
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Whether it is to be closed once its output is written.
    pub fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// States that were left out because it was slow.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn unread(&self) -> usize {
        self.out.len() - self.written
    }

    fn choose(&mut self) {
        let line = std::mem::take(&mut self.input);
        match Filter::parse(&line) {
            Ok(filter) => {
                self.filter = filter;
                self.state = State::Waiting;
            }
            Err(why) => self.refuse(&format!("the filter: {why}")),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.line(&refusal(why));
        self.state = State::Refused;
    }

    fn event(&mut self, row: &Row, skipped: u64) {
        let skipped = match skipped {
            0 => String::new(),
            n => format!(r#","skipped":{n}"#),
        };
        self.line(&format!(r#"{{"type":"event",{}{skipped}}}"#, row.body));
    }

    fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
    }
}

/// The last line to a client that is not served.
pub(super) fn refusal(why: &str) -> String {
    format!(r#"{{"type":"error","reason":{}}}"#, json::string(why))
}

#[cfg(test)]
mod tests;
