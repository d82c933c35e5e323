//! Files moved aside: what a history cannot go on with is kept, for whoever looks into what happened.
//!
//! A damaged one is also the note that this history began without rows that its publisher had. It
//! survives restarts, and who moves it away says that the loss is known.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::Fault;
use super::{HistoryError, Moment, tail};

/// Why a file was moved: it is damaged.
pub(super) const DAMAGED: &str = "corrupt";

/// Why a file was moved: it is another publisher's.
pub(super) const OF_ANOTHER: &str = "other";

/// Moves the database at `path` aside, and its tail; gives where to.
pub(super) fn take(path: &Path, why: &str, now: Moment) -> Result<PathBuf, HistoryError> {
    let seconds = now.unix_micros / 1_000_000;
    let named = |number: u32| {
        let mut name = begin(path.as_os_str().to_owned(), why);
        name.push(seconds.to_string());
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let free = (0..100).map(named).find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| named(100));
    std::fs::rename(path, &aside).map_err(|error| Fault::Io(error).at(path))?;
    // It goes with it: whoever looks into what happened finds both.
    match std::fs::rename(tail::path(path), tail::path(&aside)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Fault::Io(error).at(&tail::path(path)))
        }
        _ => Ok(aside),
    }
}

/// Whether a damaged database, or the tail of one, lies beside `path`.
pub(super) fn has_damaged(path: &Path) -> Result<bool, Fault> {
    let Some(name) = path.file_name() else {
        return Ok(false);
    };
    let begin = begin(name.to_owned(), DAMAGED);
    for entry in std::fs::read_dir(folder(path)).map_err(Fault::Io)? {
        let name = entry.map_err(Fault::Io)?.file_name();
        if name.as_bytes().starts_with(begin.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder that `path` is in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What the names of files that were moved aside begin with.
fn begin(mut name: OsString, why: &str) -> OsString {
    name.push(format!(".{why}-"));
    name
}
