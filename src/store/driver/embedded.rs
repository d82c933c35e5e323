//! A store in one file: for a single publisher service without an external database.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::store::{NbStore, StoreError};

/// The driver's alias.
pub const ALIAS: &str = "embedded";

/// The file's name in `state_dir`.
pub const FILE: &str = "nb.redb";

/// Memory for pages of the file, bytes. redb's own default is 1 GiB.
const CACHE: usize = 8 << 20;

/// All rows, by table and key.
const ROWS: TableDefinition<(&str, &str), &str> = TableDefinition::new("rows");

/// Rows in a file. Every change is on disk when the call returns.
#[derive(Debug)]
pub struct EmbeddedStore {
    path: PathBuf,
    /// `None` after an I/O error: redb refuses all further work until the file is opened again, so
    /// the next call does that. One call at a time; none takes longer than a commit.
    database: Mutex<Option<Database>>,
}

impl EmbeddedStore {
    /// Opens `state_dir/nb.redb`, which is made (readable by its owner only) where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Fix`] when the folder or its rights must be mended, or another process has the
    /// file; [`StoreError::Retry`] when the disk is full or fails.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let database = open(&path)?;
        Ok(EmbeddedStore {
            path,
            database: Mutex::new(Some(database)),
        })
    }

    fn database(&self) -> MutexGuard<'_, Option<Database>> {
        // What a panic may have interrupted is a transaction, which is then undone.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on the open database.
    fn with<T>(
        &self,
        act: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.database();
        let database = match slot.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let done = act(&database);
        if !matches!(&done, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *slot = Some(database);
        }
        done.map_err(|error| refused(&self.path, error))
    }

    #[cfg(test)]
    fn close(&self) {
        *self.database() = None;
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    // Made here for its mode, whatever the umask allows.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| refused(path, redb::Error::Io(error)))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let database = builder.create(path);
    database.map_err(|error| refused(path, error.into()))
}

fn refused(path: &Path, error: redb::Error) -> StoreError {
    let what = path.display().to_string();
    let why = match &error {
        redb::Error::DatabaseAlreadyOpen => "another process has it open".into(),
        error => error.to_string(),
    };
    match error {
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::NotFound
                    | ErrorKind::NotADirectory
                    | ErrorKind::IsADirectory
                    | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            StoreError::Retry { what, why }
        }
        redb::Error::PreviousIo => StoreError::Retry { what, why },
        _ => StoreError::Fix { what, why },
    }
}

/// What a reader sees, which is nothing before the first row was ever written.
fn read<T: Default>(
    database: &Database,
    look: impl FnOnce(
        &redb::ReadOnlyTable<(&'static str, &'static str), &'static str>,
    ) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    match database.begin_read()?.open_table(ROWS) {
        Ok(rows) => look(&rows),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(T::default()),
        Err(error) => Err(error.into()),
    }
}

impl NbStore for EmbeddedStore {
    fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.with(|database| {
            read(database, |rows| {
                let mut tables: Vec<String> = Vec::new();
                let mut from = String::new();
                // From table to table, without a look at the rows between.
                while let Some(first) = rows.range((from.as_str(), "")..)?.next() {
                    let table = first?.0.value().0.to_owned();
                    from = format!("{table}\0");
                    tables.push(table);
                }
                Ok(tables)
            })
        })
    }

    fn keys(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.with(|database| {
            read(database, |rows| {
                let mut keys = Vec::new();
                for row in rows.range((table, "")..)? {
                    let (name, _) = row?;
                    let (of, key) = name.value();
                    if of != table {
                        break;
                    }
                    keys.push(key.to_owned());
                }
                Ok(keys)
            })
        })
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.with(|database| {
            read(database, |rows| {
                Ok(rows.get((table, key))?.map(|row| row.value().to_owned()))
            })
        })
    }

    fn set(&self, table: &str, key: &str, value: &str) -> Result<(), StoreError> {
        self.with(|database| {
            let change = database.begin_write()?;
            change.open_table(ROWS)?.insert((table, key), value)?;
            Ok(change.commit()?)
        })
    }

    fn delete(&self, table: &str, key: &str) -> Result<bool, StoreError> {
        self.with(|database| {
            let change = database.begin_write()?;
            let existed = change.open_table(ROWS)?.remove((table, key))?.is_some();
            change.commit()?;
            Ok(existed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn rows_outlive_the_store_and_a_closed_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        store.set("t", "k", "1").unwrap();
        store.close();
        assert_eq!(store.get("t", "k").unwrap().as_deref(), Some("1"));
        drop(store);
        let store = EmbeddedStore::open(folder.path()).unwrap();
        assert_eq!(store.get("t", "k").unwrap().as_deref(), Some("1"));
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_must_be_mended_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let first = EmbeddedStore::open(folder.path()).unwrap();
        let second = EmbeddedStore::open(folder.path()).unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        assert!(matches!(second, StoreError::Fix { .. }));
        drop(first);
        let missing = EmbeddedStore::open(&folder.path().join("no")).unwrap_err();
        assert!(matches!(missing, StoreError::Fix { .. }), "{missing}");
        std::fs::write(folder.path().join(FILE), "no database at all").unwrap();
        assert!(EmbeddedStore::open(folder.path()).is_err());
        let full = refused(
            Path::new("x"),
            redb::Error::Io(ErrorKind::StorageFull.into()),
        );
        assert!(matches!(full, StoreError::Retry { .. }));
    }
}
