//! A command for each event, several at a time for different rows.
//!
//! With `concurrency = 1` a call waits for its command and tells how it ended. With more, a call
//! returns when its command runs; one that fails is told by [`Handler::late_failures`]. A row whose
//! command runs is waited for before its next one, so that each row's order is kept. Before and
//! after a resync all are waited for.

use std::time::{Duration, Instant};

use super::has_nul;
use crate::event::{Event, EventBatch};
use crate::handler::command::run::{Done, Runner};
use crate::handler::{Closing, Handler, HandlerError, SyncReason, json};

/// Time between two looks after a process that was killed but is not gone.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a call of `idle` waits for commands; new events wait as long at most.
const END_WAIT: Duration = Duration::from_millis(10);
/// One wait for commands, whose own deadlines end it sooner or later.
const LONG: Duration = Duration::from_secs(3600);

/// What a run is for; nothing for a mark.
type Tag = EventBatch;

pub(super) struct Each {
    runner: Runner<Tag>,
    concurrency: usize,
    sync_events: bool,
    in_sync: bool,
    late: Vec<(EventBatch, HandlerError)>,
}

impl Each {
    pub fn new(runner: Runner<Tag>, concurrency: usize, sync_events: bool) -> Self {
        Each {
            runner,
            concurrency,
            sync_events,
            in_sync: false,
            late: Vec::new(),
        }
    }

    fn start(
        &mut self,
        tag: Tag,
        [table, key, action, topic]: [&str; 4],
        sync: bool,
        mut input: String,
    ) -> Result<(), HandlerError> {
        if let Some(why) = has_nul(&[table, key, topic]) {
            return Err(HandlerError::Permanent(why));
        }
        input.push('\n');
        let environment = [
            ("FANFARE_TABLE", table),
            ("FANFARE_KEY", key),
            ("FANFARE_ACTION", action),
            ("FANFARE_TOPIC", topic),
            ("FANFARE_SYNC", if sync { "true" } else { "false" }),
        ];
        self.runner.start(tag, &environment, input.into_bytes())
    }

    /// Waits until one command at least has ended, or until `until`.
    fn wait(&mut self, until: Instant) {
        let failed = |(tag, result): Done<Tag>| Some((tag, result.err()?));
        self.late
            .extend(self.runner.wait(until).into_iter().filter_map(failed));
    }

    fn wait_for_all(&mut self) {
        while self.runner.running().len() > 0 {
            self.wait(Instant::now() + LONG);
        }
    }

    fn is_running(&self, event: &Event<'_>) -> bool {
        let mut events = self.runner.running().filter_map(|tag| tag.get(0));
        events.any(|other| (other.table, other.key) == (event.table, event.key))
    }

    fn mark(&mut self, action: &str, reason: Option<&str>) -> Result<(), HandlerError> {
        self.wait_for_all();
        if !self.sync_events {
            return Ok(());
        }
        let input = json::sync_mark(action, reason);
        self.start(Tag::new(), ["", "", action, ""], true, input)?;
        self.run_to_end()
    }

    /// Waits for the one command that runs.
    fn run_to_end(&mut self) -> Result<(), HandlerError> {
        loop {
            if let Some((_, result)) = self.runner.wait(Instant::now() + LONG).pop() {
                return result;
            }
        }
    }
}

impl Handler for Each {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.in_sync = true;
        self.mark("begin_sync", Some(reason.as_str()))
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        while self.runner.running().len() >= self.concurrency || self.is_running(event) {
            self.wait(Instant::now() + LONG);
        }
        let sync = self.in_sync;
        let topic = event.topic_or_all();
        let names = [event.table, event.key, event.action.as_str(), topic];
        let tag = [*event].into_iter().collect();
        self.start(tag, names, sync, json::event(event, sync))?;
        match self.concurrency {
            1 => self.run_to_end(),
            _ => Ok(()),
        }
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.in_sync = false;
        self.mark("end_sync", None)
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        if self.runner.running().len() > 0 {
            self.wait(now + END_WAIT);
            return Ok(Some(Instant::now()));
        }
        // Only to be rid of a process that did not go when it was killed; no event failed here.
        Ok(self.runner.reap().err().map(|_| now + REAP_INTERVAL))
    }

    fn late_failures(&mut self, tell: &mut dyn FnMut(&Event<'_>, HandlerError)) {
        for (event, error) in self.late.drain(..) {
            event.iter().for_each(|event| tell(&event, error.clone()));
        }
    }

    fn close(&mut self, closing: Closing) -> Result<(), HandlerError> {
        while self.runner.running().len() > 0 && Instant::now() < closing.deadline {
            self.wait(closing.deadline);
        }
        match self.late.pop() {
            Some((_, error)) => Err(error),
            None => self.runner.reap(),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
