//! The file under the database, with an fsync that can be switched off.
//!
//! `Durability::Os` must survive the end of every process but not a power cut: written to the
//! kernel, not waited for the disk. redb's own `Durability::None` is less than that (it keeps
//! commits in the process's memory), so redb commits as always and only its fsync is left out.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Whether commits wait for the disk; shared by the store and its backend, so that an opening and
/// a clean end can be made durable whatever the setting.
#[derive(Debug, Clone)]
pub(super) struct SyncSwitch(Arc<AtomicBool>);

impl SyncSwitch {
    pub(super) fn new(on: bool) -> Self {
        SyncSwitch(Arc::new(AtomicBool::new(on)))
    }

    pub(super) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

/// A [`FileBackend`] that syncs when its switch is on.
#[derive(Debug)]
pub(super) struct Backend {
    file: FileBackend,
    sync: SyncSwitch,
    #[cfg(test)]
    pub(super) faults: super::tests::faults::Faults,
}

impl Backend {
    pub(super) fn new(
        file: File,
        sync: SyncSwitch,
        #[cfg(test)] faults: super::tests::faults::Faults,
    ) -> Result<Self, redb::DatabaseError> {
        Ok(Backend {
            file: FileBackend::new(file)?,
            sync,
            #[cfg(test)]
            faults,
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write(len, 0)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_sync()?;
        match self.sync.0.load(Ordering::Relaxed) {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write(offset, data.len())?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
