//! A command that is run when files changed.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::handler::command::run::Runner;
use crate::handler::{BuildError, HandlerError};
use crate::util::backoff::Backoff;
use crate::util::stop::StopToken;

/// Longest wait before a command that failed is run again.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Runs the command after a change, at most once in an interval. It is given nothing: it reads the
/// files. One that fails is run again after a wait that grows.
pub(super) struct Notify {
    runner: Runner<()>,
    interval: Duration,
    retries: Backoff,
    changed: bool,
    not_before: Option<Instant>,
    failure: Option<HandlerError>,
}

impl Notify {
    pub fn new(
        command: Vec<String>,
        timeout: Duration,
        interval: Duration,
        stop: StopToken,
    ) -> Result<Self, BuildError> {
        Ok(Notify {
            runner: Runner::new(command, timeout, stop)?,
            interval,
            retries: Backoff::new(interval, RETRY_MAX, Rng::new()),
            changed: false,
            not_before: None,
            failure: None,
        })
    }

    /// Something changed. The first run waits for an interval too: changes come together.
    pub fn changed(&mut self, now: Instant) {
        self.changed = true;
        self.not_before.get_or_insert(now + self.interval);
    }

    /// To be called now and then; what went wrong is kept for [`Notify::idle`].
    pub fn run_if_due(&mut self, now: Instant) {
        if self.changed && self.not_before.is_none_or(|at| at <= now) {
            self.failure = self.run().err();
        }
    }

    /// Runs the command if it is due; says when it will be.
    pub fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        self.run_if_due(now);
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.not_before.filter(|_| self.changed)),
        }
    }

    /// Runs the command if something changed since the last time.
    pub fn close(&mut self) -> Result<(), HandlerError> {
        match self.changed {
            true => self.run(),
            false => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), HandlerError> {
        let done = self.runner.run(&[], Vec::new());
        let wait = match &done {
            Ok(()) => {
                self.changed = false;
                self.retries.reset();
                self.interval
            }
            Err(_) => self.retries.wait().max(self.interval),
        };
        self.not_before = Some(Instant::now() + wait);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const INTERVAL: Duration = Duration::from_millis(50);

    fn rig(script: &str) -> (tempfile::TempDir, Notify) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let command = ["/bin/sh", "-c", script, path].map(str::to_owned).to_vec();
        let patience = Duration::from_secs(20);
        let notify = Notify::new(command, patience, INTERVAL, StopToken::never()).unwrap();
        (folder, notify)
    }

    fn runs(folder: &tempfile::TempDir) -> usize {
        fs::read_to_string(folder.path().join("runs")).map_or(0, |runs| runs.lines().count())
    }

    fn settle(notify: &mut Notify) -> usize {
        let mut failures = 0;
        loop {
            match notify.idle(Instant::now()) {
                Ok(None) => return failures,
                Ok(Some(at)) => std::thread::sleep(at.saturating_duration_since(Instant::now())),
                Err(_) => failures += 1,
            }
        }
    }

    #[test]
    fn many_changes_are_one_run() {
        let (folder, mut notify) = rig(r#"echo >> "$0/runs""#);
        assert_eq!(notify.idle(Instant::now()), Ok(None));
        let start = Instant::now();
        for round in 1..=3 {
            for _ in 0..10 {
                notify.changed(Instant::now());
                notify.run_if_due(start);
            }
            assert_eq!(settle(&mut notify), 0);
            assert_eq!(runs(&folder), round);
            assert!(start.elapsed() >= INTERVAL * round as u32);
        }
        notify.close().unwrap();
        assert_eq!(runs(&folder), 3);
        notify.changed(Instant::now());
        notify.close().unwrap();
        assert_eq!(runs(&folder), 4);
    }

    #[test]
    fn a_failure_is_told_and_mended() {
        let (folder, mut notify) = rig(r#"echo >> "$0/runs"; [ $(wc -l < "$0/runs") -ge 3 ]"#);
        notify.changed(Instant::now());
        assert_eq!(settle(&mut notify), 2);
        assert_eq!(runs(&folder), 3);
    }
}
