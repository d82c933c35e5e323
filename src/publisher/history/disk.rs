//! What is on the disk: the database, and the tail of the journal that is not in it yet.

use redb::{Database, WriteTransaction};

use super::error::Fault;
use super::state::Map;
use super::tail::{Run, Tail};
use super::{Moment, ProducerId};

/// See the module. After an error of any of its functions it is to be opened again.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) database: Database,
    pub(super) tail: Tail,
}

impl Disk {
    /// Journals a group, as durably as the options say.
    pub(super) fn journal(
        &mut self,
        run: Run<'_>,
        producers: &Map<ProducerId, u64>,
        now: Moment,
    ) -> Result<(), Fault> {
        match self.tail.append(run, producers, now)? {
            true => Ok(()),
            false => self.transact(|_| Ok(())),
        }
    }

    /// Does `work` in a transaction that brings the tail to the database first.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let transaction = self.database.begin_write()?;
        self.tail.store(&transaction)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        self.tail.moved();
        Ok(done)
    }

    /// Ends it with `work`, which notes the clean end: the database needs no tail then.
    pub(super) fn close(
        mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.transact(work)?;
        self.database.close()?;
        self.tail.remove();
        Ok(())
    }
}
