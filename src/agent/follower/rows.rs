//! Where the rows of those who are followed are.

use std::sync::Arc;

use crate::agent::recovery::Sweep;
use crate::dispatch::Hub;
use crate::handler::SyncReason;

/// What followers need of the place where rows are, beside the sink for events. An agent's is its
/// hub; a publisher service's are its own rows.
pub trait Rows: Send + Sync {
    /// Removes what a complete snapshot lacks; says how many rows those are, 0 where that is done
    /// later.
    fn sweep(&self, sweep: Sweep) -> u64;

    /// A publisher that is followed on all its topics has these.
    fn topics(&self, topics: Vec<Arc<str>>);

    /// Everything expected is here, or is waited for no longer.
    fn open(&self, reason: SyncReason);

    /// What a legacy publisher sent meanwhile on these topics is unknown.
    fn resync(&self, reason: SyncReason, topics: Vec<Arc<str>>);

    /// Whether there is a place to learn it from, which is better done at once.
    fn has_store(&self) -> bool {
        false
    }
}

impl Rows for Hub {
    fn sweep(&self, sweep: Sweep) -> u64 {
        Hub::sweep(self, |name, row| sweep.ends(name, row))
    }

    /// An agent follows the topics that somebody wants.
    fn topics(&self, _: Vec<Arc<str>>) {}

    fn open(&self, reason: SyncReason) {
        Hub::open(self, reason);
    }

    fn resync(&self, reason: SyncReason, _: Vec<Arc<str>>) {
        Hub::resync(self, reason);
    }
}
