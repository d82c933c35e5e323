//! Folders that settings name and others make.

use std::io::ErrorKind;
use std::path::Path;

use super::BuildError;

/// Makes sure that `folder`, in which the setting `key` names something, is there. One that is not there, or
/// cannot be looked at, may be later: it is on a file system that is not mounted yet, or made by a program
/// that starts at the same time.
pub(super) fn is_there(folder: &Path, key: &str) -> Result<(), BuildError> {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(BuildError::setting(
            key,
            format_args!("{shown} is no folder"),
        )),
        Err(error) => Err(failed(folder, key, &error)),
    }
}

/// What `error` of a look at `path` is: the setting's fault only where no later look can be better.
pub(super) fn failed(path: &Path, key: &str, error: &std::io::Error) -> BuildError {
    let path = path.display();
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename | ErrorKind::NotADirectory => {
            BuildError::setting(key, format_args!("{path}: {error}"))
        }
        _ => BuildError::Environment(format!("{key}: {path}: {error}")),
    }
}
