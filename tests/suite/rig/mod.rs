//! What the tests are made with.

pub mod agent;
pub mod cluster;
pub mod config;
pub mod control;
pub mod counted;
pub mod dealer;
pub mod host;
pub mod impostor;
pub mod listener;
pub mod load;
pub mod logs;
pub mod manager;
pub mod net;
pub mod node;
pub mod peer;
pub mod port;
pub mod process;
pub mod region;
pub mod site;
pub mod stranger;
pub mod tape;
pub mod zmtp;

use std::time::{Duration, Instant};

/// Longest wait for what must happen; far above what it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How many times slower, and larger, the programs are than they are built usually: `FANFARE_SLOW`, which
/// `make asan` sets. All waits and limits of memory are that much more generous.
pub fn slowness() -> u32 {
    let said = std::env::var("FANFARE_SLOW").ok();
    said.and_then(|said| said.parse().ok()).unwrap_or(1)
}

/// The longest that something may take that is measured, or waited for by others than [`within`].
pub fn at_most(limit: Duration) -> Duration {
    limit * slowness()
}

/// Says that the test that calls this is left out, because something is not there that it needs. It fails
/// where all tests must be run: with `TEST_ALL` in the environment, which `.ci/run` sets.
#[track_caller]
pub fn left_out(why: &str) {
    let all = std::env::var("TEST_ALL").is_ok_and(|all| !all.is_empty());
    assert!(!all, "left out: {why}");
    eprintln!("LEFT OUT: {why}");
}

/// Whether this is root, as a test needs it that is left out otherwise.
#[track_caller]
pub fn has_root() -> bool {
    let has = rustix::process::geteuid().is_root();
    if !has {
        left_out("needs root");
    }
    has
}

/// Waits until `found` gives something; fails when it has not within [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, found)
}

/// Waits until `found` gives something; fails when it has not within `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let limit = at_most(limit);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `found` gives something; `None` when it has not within `limit`.
pub fn try_within<T>(limit: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + at_most(limit);
    loop {
        match found() {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            found => return found,
        }
    }
}

/// Waits until `holds`.
#[track_caller]
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// Fails when what began at `begun` took longer than `limit`.
#[track_caller]
pub fn in_time(what: &str, begun: Instant, limit: Duration) {
    let (took, limit) = (begun.elapsed(), at_most(limit));
    eprintln!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
}
