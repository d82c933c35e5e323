//! A disk that fails when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Shared by a test and the backend under its history.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    limited: AtomicBool,
    left: AtomicI64,
    no_sync: AtomicBool,
    no_commit: AtomicBool,
    no_replay: AtomicBool,
    header_written: AtomicBool,
    hits: AtomicI64,
}

impl Faults {
    /// The disk is full after `bytes` more bytes.
    pub fn full_after(&self, bytes: i64) {
        self.0.left.store(bytes, Ordering::Relaxed);
        self.0.limited.store(true, Ordering::Relaxed);
    }

    /// Every fsync fails.
    pub fn fail_sync(&self) {
        self.0.no_sync.store(true, Ordering::Relaxed);
    }

    /// Every fsync of a written header fails: all of a commit is in the file by then.
    pub fn fail_last_sync(&self) {
        self.0.header_written.store(false, Ordering::Relaxed);
        self.0.no_commit.store(true, Ordering::Relaxed);
    }

    /// The journal can be written and opened, but nothing of it given.
    pub fn fail_replays(&self, fail: bool) {
        self.0.no_replay.store(fail, Ordering::Relaxed);
    }

    /// All is well again, but for what is given of the journal.
    pub fn heal(&self) {
        self.0.no_commit.store(false, Ordering::Relaxed);
        self.0.limited.store(false, Ordering::Relaxed);
        self.0.no_sync.store(false, Ordering::Relaxed);
    }

    /// How often something was refused.
    pub fn hits(&self) -> i64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    pub fn before_write(&self, offset: u64, len: usize) -> io::Result<()> {
        if offset == 0 {
            self.0.header_written.store(true, Ordering::Relaxed);
        }
        let left = self.0.left.fetch_sub(len as i64, Ordering::Relaxed);
        if self.0.limited.load(Ordering::Relaxed) && left < len as i64 {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    pub fn before_replay(&self) -> io::Result<()> {
        match self.0.no_replay.load(Ordering::Relaxed) {
            true => Err(io::Error::other("injected failure to read")),
            false => Ok(()),
        }
    }

    /// The same for the tail.
    pub fn before_append(&self, len: usize) -> io::Result<()> {
        self.before_write(u64::MAX, len)
    }

    /// The same for the tail, all of whose entry is in the file by then.
    pub fn before_append_sync(&self) -> io::Result<()> {
        if self.0.no_commit.load(Ordering::Relaxed) {
            self.0.header_written.store(true, Ordering::Relaxed);
        }
        self.before_sync()
    }

    pub fn before_sync(&self) -> io::Result<()> {
        let last = self.0.header_written.swap(false, Ordering::Relaxed);
        let no_commit = self.0.no_commit.load(Ordering::Relaxed);
        if self.0.no_sync.load(Ordering::Relaxed) || (no_commit && last) {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::other("injected fsync failure"));
        }
        Ok(())
    }
}
