//! The contract of store drivers.

/// Why a store did not do what it was asked, named by what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot just now; the same call may succeed later without anyone's help.
    #[error("{what}: {why}")]
    Retry {
        /// What was tried, with the path or address.
        what: String,
        /// The reason.
        why: String,
    },
    /// It will not until somebody mends something: a path, a right, a damaged file.
    #[error("{what}: {why} (to be mended)")]
    Fix {
        /// What was tried, with the path or address.
        what: String,
        /// The reason.
        why: String,
    },
}

/// A store of rows: text by table and key.
///
/// One store is shared by threads. An implementer must not block without bound in any call: the
/// thread that calls also renews the publisher's lease, so what takes longer than a few seconds
/// must end in [`StoreError::Retry`]. It must not answer with less than it has: a part of the rows
/// is an error, because what is missing in an answer is taken for deleted. It must not panic, and
/// after an error the next call must be served as if it were the first.
///
/// There are no transactions: between two calls others may change anything.
pub trait NbStore: Send + Sync {
    /// The tables that have rows, each once, in any order.
    ///
    /// # Errors
    /// See [`StoreError`]; never a part of the tables.
    fn tables(&self) -> Result<Vec<String>, StoreError>;

    /// The keys of the rows of `table`, each once, in any order; none when there is no such table.
    /// A row that exists during the whole call must be listed.
    ///
    /// # Errors
    /// See [`StoreError`]; never a part of the keys.
    fn keys(&self, table: &str) -> Result<Vec<String>, StoreError>;

    /// The value of a row; `None` when there is no such row. Must not answer `None` where it only
    /// could not find out.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError>;

    /// Makes or replaces a row. Once it returns, every `get` sees the new value, and a persistent
    /// store has it on disk. On error the row is the old or the new one, never a mixture.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn set(&self, table: &str, key: &str, value: &str) -> Result<(), StoreError>;

    /// Removes a row; says whether it existed. As lasting as [`NbStore::set`].
    ///
    /// # Errors
    /// See [`StoreError`].
    fn delete(&self, table: &str, key: &str) -> Result<bool, StoreError>;
}
