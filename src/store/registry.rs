//! The drivers by alias.

use std::path::PathBuf;
use std::sync::Arc;

use super::api::{NbStore, StoreError};
use super::driver::embedded::{self, EmbeddedStore};
use super::driver::memory::{self, MemoryStore};

/// What drivers are told.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// An existing folder of the process's own, for what is kept over restarts.
    pub state_dir: PathBuf,
}

/// One entry.
pub struct Driver {
    /// What a configuration calls it.
    pub alias: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Opens the store.
    pub open: fn(&StoreOptions) -> Result<Arc<dyn NbStore>, StoreError>,
}

/// Every driver.
pub static DRIVERS: &[Driver] = &[
    Driver {
        alias: embedded::ALIAS,
        about: "a file in state_dir, for one publisher service",
        open: |options| Ok(Arc::new(EmbeddedStore::open(&options.state_dir)?)),
    },
    Driver {
        alias: memory::ALIAS,
        about: "in memory, forgotten at the end of the process; for trials",
        open: |_| Ok(Arc::new(MemoryStore::new())),
    },
];

/// The driver of this alias.
pub fn find(alias: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.alias == alias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn every_driver_is_found_by_its_one_alias_and_conforms() {
        for driver in DRIVERS {
            assert!(std::ptr::eq(find(driver.alias).unwrap(), driver));
            assert!(!driver.about.is_empty());
            let folder = tempfile::tempdir().unwrap();
            let options = StoreOptions {
                state_dir: folder.path().to_owned(),
            };
            conformance::check((driver.open)(&options).unwrap());
        }
        assert!(find("no_such_driver").is_none());
    }
}
