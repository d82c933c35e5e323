//! A command for each settled batch: the newest state of every row that changed, one JSON line each.
//!
//! A batch is given when nothing has changed for `settle`, or when its first change is `max_delay`
//! old; never within a resync, whose rows are one batch. What a command failed on is given again
//! with what has changed since, after a wait that grows.
//!
//! Rows of a resync are as many as there are. Those that change later would add up, under names of rows
//! that are no more, while the command fails: beyond [`MAX_ROWS`] or [`MAX_BYTES`] of them all is let go and
//! the handler starts over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::event::Event;
use crate::handler::command::run::Runner;
use crate::handler::{Closing, Handler, HandlerError, SyncReason, json};
use crate::util::backoff::Backoff;

/// Waits before a failed batch is given again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Rows that may wait beside those of the last resync, and bytes of them. A batch is given before there are
/// more, however unsettled.
const MAX_ROWS: usize = 16_384;
const MAX_BYTES: usize = 16 << 20;

/// When a batch is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub settle: Duration,
    pub max_delay: Duration,
}

pub(super) struct Batch {
    runner: Runner<()>,
    times: Times,
    sync_events: bool,
    in_sync: bool,
    /// The mark with which the rows begin: they are all there are.
    begun: Option<String>,
    /// The rows that changed.
    rows: HashMap<(Box<str>, Box<str>), Changed>,
    next: u64,
    /// How many of them are beside the last resync, and their bytes.
    beside: (usize, usize),
    /// When the first and the last row of the batch changed.
    changed: Option<(Instant, Instant)>,
    retries: Backoff,
    not_before: Option<Instant>,
    failure: Option<HandlerError>,
}

/// A row that changed.
struct Changed {
    /// Its place in the order of first changes.
    place: u64,
    line: String,
    /// Whether the last resync did not give it.
    beside: bool,
}

impl Batch {
    pub fn new(runner: Runner<()>, times: Times, sync_events: bool) -> Self {
        Batch {
            runner,
            times,
            sync_events,
            in_sync: false,
            begun: None,
            rows: HashMap::new(),
            next: 0,
            beside: (0, 0),
            changed: None,
            retries: Backoff::new(RETRY_MIN, RETRY_MAX, Rng::new()),
            not_before: None,
            failure: None,
        }
    }

    /// When the batch is to be given; `None` while there is none.
    fn due(&self) -> Option<Instant> {
        let (first, last) = self.changed.filter(|_| !self.in_sync)?;
        let settled = (last + self.times.settle).min(first + self.times.max_delay);
        Some(self.not_before.map_or(settled, |at| at.max(settled)))
    }

    fn touch(&mut self, now: Instant) {
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    fn take(&mut self, event: &Event<'_>, now: Instant) {
        let line = json::event(event, self.in_sync);
        let beside = !self.in_sync;
        if beside {
            self.beside.0 += 1;
            self.beside.1 += line.len();
        }
        let mut row = Changed {
            place: self.next,
            line,
            beside,
        };
        let (rows, name) = (&mut self.rows, (event.table.into(), event.key.into()));
        match rows.get_mut(&name) {
            Some(old) => {
                if old.beside {
                    self.beside.0 -= 1;
                    self.beside.1 -= old.line.len();
                }
                row.place = old.place;
                *old = row;
            }
            None => {
                rows.insert(name, row);
                self.next += 1;
            }
        }
        self.touch(now);
    }

    fn is_too_much(&self) -> bool {
        !self.in_sync && (self.beside.0 > MAX_ROWS || self.beside.1 > MAX_BYTES)
    }

    fn let_go(&mut self) {
        (self.rows, self.beside) = (HashMap::new(), (0, 0));
    }

    fn run_if_due(&mut self, now: Instant) {
        let fails = self.not_before.is_some();
        if self.due().is_some_and(|due| due <= now) || (self.is_too_much() && !fails) {
            self.failure = self.run().err();
        }
    }

    fn run(&mut self) -> Result<(), HandlerError> {
        let mut rows: Vec<&Changed> = self.rows.values().collect();
        rows.sort_unstable_by_key(|row| row.place);
        let mut input = String::new();
        let mut put = |line: &str| {
            input.push_str(line);
            input.push('\n');
        };
        if let Some(mark) = &self.begun {
            put(mark);
        }
        rows.iter().for_each(|row| put(&row.line));
        if self.begun.is_some() {
            put(&json::sync_mark("end_sync", None));
        }
        let sync = if self.begun.is_some() {
            "true"
        } else {
            "false"
        };
        let environment = [
            ("FANFARE_ACTION", "batch"),
            ("FANFARE_ROWS", &rows.len().to_string()),
            ("FANFARE_SYNC", sync),
        ];
        match self.runner.run(&environment, input.into_bytes()) {
            Ok(()) => {
                self.let_go();
                (self.begun, self.changed, self.not_before) = (None, None, None);
                self.retries.reset();
                Ok(())
            }
            Err(error) => {
                self.not_before = Some(Instant::now() + self.retries.wait());
                Err(error)
            }
        }
    }
}

impl Handler for Batch {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.in_sync = true;
        if self.sync_events {
            // What waited is covered by the rows that follow. Without the mark the command would
            // not know that what does not follow is gone, and must not lose a delete.
            self.let_go();
            self.begun = Some(json::sync_mark("begin_sync", Some(reason.as_str())));
        }
        // What the resync gives again is no longer beside it.
        for row in self.rows.values_mut().filter(|row| !row.beside) {
            row.beside = true;
            self.beside.0 += 1;
            self.beside.1 += row.line.len();
        }
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let now = Instant::now();
        self.take(event, now);
        // Not left to `idle`: under constant load the queue may never be empty.
        self.run_if_due(now);
        if !self.is_too_much() {
            return Ok(());
        }
        let rows = self.rows.len();
        self.let_go();
        (self.begun, self.changed, self.failure) = (None, None, None);
        let deleted = match self.sync_events {
            true => "",
            false => "; without sync_events the command does not hear which of them are gone",
        };
        Err(HandlerError::Lost(format!(
            "the command fails and {rows} rows wait for it, which is too much: all are given anew{deleted}"
        )))
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.in_sync = false;
        if self.begun.is_some() {
            self.touch(Instant::now());
        }
        Ok(())
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        self.run_if_due(now);
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.due()),
        }
    }

    fn close(&mut self, _closing: Closing) -> Result<(), HandlerError> {
        match self.due() {
            Some(_) => self.run(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::exec;
    use crate::handler::registry::settings;
    use crate::util::stop::StopToken;
    use crate::util::testing::patience;
    use std::fs;

    fn rig(script: &str, more: &str) -> (tempfile::TempDir, Batch) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let toml =
            format!("batch = true\ncommand = ['/bin/sh', '-c', '''{script}''', '{path}']\n{more}");
        let batch = exec::batch(&settings(&toml), &StopToken::never());
        (folder, batch.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Waits as a lane does until nothing is left to do; the errors on the way.
    fn settle(batch: &mut Batch) -> Vec<HandlerError> {
        let mut errors = Vec::new();
        loop {
            match batch.idle(Instant::now()) {
                Ok(None) => return errors,
                Ok(Some(at)) => {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                }
                Err(error) => errors.push(error),
            }
        }
    }

    #[test]
    fn rows_that_change_together_are_given_together() {
        let script =
            r#"echo "$FANFARE_ROWS $FANFARE_SYNC $FANFARE_ACTION" >> "$0/runs"; cat >> "$0/in""#;
        let (folder, mut batch) = rig(script, "settle = 0.05");
        batch.begin_sync(SyncReason::Started).unwrap();
        batch.apply(&Event::set("t", "b", "1")).unwrap();
        batch.apply(&Event::set("t", "a", "1")).unwrap();
        assert_eq!(batch.idle(Instant::now()), Ok(None), "not within a resync");
        batch.end_sync().unwrap();
        batch.apply(&Event::set("t", "b", "2")).unwrap();
        assert_eq!(settle(&mut batch), []);
        batch.apply(&Event::delete("t", "b")).unwrap();
        batch
            .close(Closing {
                deadline: Instant::now(),
            })
            .unwrap();
        let left = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(left("runs"), "2 false batch\n1 false batch\n");
        let lines = [
            json::event(&Event::set("t", "b", "2"), false),
            json::event(&Event::set("t", "a", "1"), true),
            json::event(&Event::delete("t", "b"), false),
        ];
        assert_eq!(left("in"), lines.join("\n") + "\n");
    }

    #[test]
    fn constant_changes_are_given_after_max_delay() {
        let script = r#"echo "$FANFARE_ROWS" >> "$0/runs""#;
        let (folder, mut batch) = rig(script, "settle = 0.1\nmax_delay = 0.2");
        let start = Instant::now();
        let runs = folder.path().join("runs");
        while !runs.exists() {
            batch.apply(&Event::set("t", "k", "1")).unwrap();
            assert!(start.elapsed() < patience(), "never given");
        }
        assert!(start.elapsed() >= Duration::from_millis(200));
    }

    /// Rows come and go while the command fails: what waits for it has a bound.
    #[test]
    fn a_command_that_keeps_failing_starts_over_in_the_end() {
        for (more, says) in [
            ("", "which of them are gone"),
            ("sync_events = true", "anew"),
        ] {
            let script = r#"echo >> "$0/runs"; exit 1"#;
            let (folder, mut batch) =
                rig(script, &format!("settle = 3000\nmax_delay = 3000\n{more}"));
            batch.begin_sync(SyncReason::Started).unwrap();
            for n in 0..100 {
                batch
                    .apply(&Event::set("t", &format!("given {n}"), "1"))
                    .unwrap();
            }
            batch.end_sync().unwrap();
            let mut most = 0;
            let lost = (0..3 * MAX_ROWS).find_map(|n| {
                most = most.max(batch.rows.len());
                batch.apply(&Event::delete("t", &format!("k{n}"))).err()
            });
            let lost = lost.unwrap();
            assert!(
                matches!(&lost, HandlerError::Lost(why) if why.ends_with(says)),
                "{lost}"
            );
            assert!(most <= 100 + MAX_ROWS, "{most}");
            assert!(batch.rows.is_empty() && batch.beside == (0, 0));
            // It was tried before that, although nothing had settled.
            assert_eq!(
                fs::read_to_string(folder.path().join("runs")).unwrap(),
                "\n"
            );
        }
    }

    /// As many as there are may be more than that.
    #[test]
    fn rows_of_a_resync_do_not_count() {
        let (_folder, mut batch) = rig("exit 1", "settle = 3000\nmax_delay = 3000");
        for _ in 0..2 {
            batch.begin_sync(SyncReason::Started).unwrap();
            for n in 0..MAX_ROWS + 100 {
                batch
                    .apply(&Event::set("t", &format!("k{n}"), "1"))
                    .unwrap();
            }
            batch.end_sync().unwrap();
        }
        assert_eq!(batch.beside, (0, 0));
        batch.apply(&Event::set("t", "k1", "2")).unwrap();
        assert_eq!(batch.beside.0, 1);
        assert_eq!(batch.rows.len(), MAX_ROWS + 100);
    }

    #[test]
    fn a_failed_batch_is_given_again_with_what_changed_since() {
        let script =
            r#"[ -e "$0/ok" ] || { echo busy >&2; touch "$0/ok"; exit 1; }; cat > "$0/in""#;
        let (folder, mut batch) = rig(script, "settle = 0.01\nsync_events = true");
        batch.begin_sync(SyncReason::Overflow).unwrap();
        batch.apply(&Event::set("t", "a", "1")).unwrap();
        batch.end_sync().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let failed = batch.idle(Instant::now()).unwrap_err();
        assert!(
            failed.to_string().contains("exit status: 1: busy"),
            "{failed}"
        );
        batch.apply(&Event::set("t", "b", "1")).unwrap();
        let again = batch.idle(Instant::now()).unwrap().unwrap();
        assert!(again >= Instant::now() + RETRY_MIN / 4, "not at once");
        assert_eq!(settle(&mut batch), []);
        let told = fs::read_to_string(folder.path().join("in")).unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("begin_sync") && lines[0].contains("overflow"));
        assert!(lines[2].contains(r#""key":"b""#) && lines[3].contains("end_sync"));
    }
}
