//! What unit tests wait with.

use std::fs;
use std::time::{Duration, Instant};

/// The longest wait for what must happen; far above what it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest that something may take that is measured, or waited for by others than [`within`]: so
/// much more where `FANFARE_SLOW` says how many times slower the tests are than they are built usually,
/// which `make asan` sets.
pub fn at_most(limit: Duration) -> Duration {
    let said = std::env::var("FANFARE_SLOW").ok();
    limit * said.and_then(|said| said.parse().ok()).unwrap_or(1)
}

/// [`at_most`] what is far above what anything takes.
pub fn patience() -> Duration {
    at_most(PATIENCE)
}

/// When what must happen has not happened.
pub fn deadline() -> Instant {
    Instant::now() + patience()
}

/// Waits until it `holds`.
#[track_caller]
pub fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = deadline();
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process is neither gone nor, where init is slow to reap, dead without being waited for.
pub fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
