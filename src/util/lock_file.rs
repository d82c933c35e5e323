//! One process at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A file that is locked for as long as this lives, whatever ends the process. It holds the
/// process's number, for whoever is refused, and stays behind: removing it would let two processes
/// each lock a file of that name.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it; stop that one, or choose another path.
    #[error("{} is locked by {}", path.display(), holder(*pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The other process, where it could be read.
        pid: Option<u32>,
    },
    /// The file cannot be made or locked.
    #[error("{}: {error}", path.display())]
    System {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl LockFile {
    /// Locks `path`, without waiting.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let system = |error: io::Error| LockError::System {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(system)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(errno) => return Err(system(errno.into())),
        }
        file.set_len(0).map_err(system)?;
        file.rewind().map_err(system)?;
        writeln!(file, "{}", std::process::id()).map_err(system)?;
        Ok(LockFile { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = LockFile::acquire(&path).unwrap();
        let error = LockFile::acquire(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        LockFile::acquire(&path).unwrap();
    }
}
