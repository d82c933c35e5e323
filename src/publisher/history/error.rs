//! Errors of the history, by what the caller can do about them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why the history could not do it.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk is full or failing, or the history is waiting for [`super::History::reopen`]. It
    /// may work later; nothing is acknowledged until then.
    #[error("{}: {reason}; will be tried again", path.display())]
    Retry {
        /// The database.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// It will not work until someone changes the path, its permissions or the program.
    #[error("{}: {reason}", path.display())]
    Fix {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process has the database open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
}

/// Inside the history: what one step of work on the database met.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system refused.
    Io(io::Error),
    /// The contents are not ours or damaged; another try would find the same.
    Corrupt(String),
    /// Written by a newer version.
    Newer(u32),
    /// Another process has it.
    InUse,
    /// The database refuses to go on after an earlier failure.
    Stuck(String),
}

impl Fault {
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Fault::Corrupt(what.into())
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Fault::Io(error) => error.to_string(),
            Fault::Corrupt(what) => format!("the database is damaged: {what}"),
            Fault::Newer(format) => {
                format!("the database has format {format}, which a newer version wrote")
            }
            Fault::InUse => "in use by another process".into(),
            Fault::Stuck(what) => what.clone(),
        }
    }

    pub(super) fn at(self, path: &Path) -> HistoryError {
        let (path, reason) = (path.to_owned(), self.describe());
        match self {
            Fault::InUse => HistoryError::InUse { path },
            Fault::Newer(_) => HistoryError::Fix { path, reason },
            Fault::Io(error) if is_permanent(error.kind()) => HistoryError::Fix { path, reason },
            _ => HistoryError::Retry { path, reason },
        }
    }
}

/// Errors that waiting does not cure. All others (no space, quota, EIO, a file system remounted
/// read-only, no descriptors left) may pass.
fn is_permanent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
    )
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Fault::InUse,
            // How redb says that the file holds something else.
            redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Fault::Corrupt(error.to_string())
            }
            redb::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Fault::Corrupt(format!("cut short: {error}"))
            }
            redb::Error::Io(error) => Fault::Io(error),
            redb::Error::Corrupted(what) => Fault::Corrupt(what),
            error @ (redb::Error::PreviousIo
            | redb::Error::DatabaseClosed
            | redb::Error::Backend(_)
            | redb::Error::TransactionPoisoned
            | redb::Error::LockPoisoned(_)) => Fault::Stuck(error.to_string()),
            // Tables of other types, old file formats: not written by this program.
            other => Fault::Corrupt(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(
    StorageError,
    DatabaseError,
    TransactionError,
    TableError,
    CommitError
);
