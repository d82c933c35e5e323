//! A file per row: `folder/table/key` holds the value as it was published.
//!
//! Nothing is kept in memory: the files are the state. A row whose file holds its value already is
//! not written, so that a resync touches only what differs; when it ends, files of rows that it did
//! not name are removed. Files are not brought to the disk one by one: after a crash the next
//! start's resync compares each with its row.
//!
//! The folder is the module's own, which its mark says: what stands in a folder that is neither
//! empty nor marked is somebody else's, and a sweep would destroy it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Common;
use super::names::{escape, unescape};
use super::notify::Notify;
use crate::event::{Action, Event};
use crate::handler::{BuildError, Closing, Handler, HandlerError, SyncReason, folder};
use crate::util::atomic_file::{AtomicFile, is_temporary};
use crate::util::printable;

/// The file that makes a folder ours.
const MARK: &str = ".fanfare-rows";

pub(super) struct Tree {
    folder: PathBuf,
    mode: u32,
    notify: Option<Notify>,
    /// The files that the open resync named, each `table/key`.
    seen: Option<HashSet<PathBuf>>,
    /// The folder was made ours; nothing is written before.
    claimed: bool,
    /// A resync has ended.
    synced: bool,
}

impl Tree {
    pub fn new(named: &str, common: Common) -> Result<Self, BuildError> {
        let fault = |why: String| BuildError::setting("folder", why);
        let path = std::path::absolute(named).map_err(|error| fault(error.to_string()))?;
        let Some(parent) = path.parent() else {
            return Err(fault(format!("{} must not be it", path.display())));
        };
        folder::is_there(parent, "folder")?;
        let foreign = foreign(&path).map_err(|error| folder::failed(&path, "folder", &error))?;
        if let Some(why) = foreign {
            return Err(fault(why));
        }
        Ok(Tree {
            folder: path,
            mode: common.mode,
            notify: common.notify,
            seen: None,
            claimed: false,
            synced: false,
        })
    }

    /// Makes the folder ours.
    fn claim(&self) -> Result<(), HandlerError> {
        let claimed = match fs::create_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => match foreign(&self.folder) {
                Ok(None) => fs::write(self.folder.join(MARK), ""),
                Ok(Some(why)) => Err(io::Error::other(why)),
                Err(error) => Err(error),
            },
        };
        claimed.map_err(|error| self.retry(&self.folder, &error))
    }

    fn retry(&self, path: &Path, error: &io::Error) -> HandlerError {
        HandlerError::Retry(format!("{}: {error}", path.display()))
    }

    /// Brings the row's file to its state; says whether it was another.
    fn write(&self, table: &Path, path: &Path, value: Option<&str>) -> io::Result<bool> {
        let Some(value) = value else {
            return match fs::remove_file(path) {
                Ok(()) => {
                    remove_empty(table)?;
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            };
        };
        let held = fs::symlink_metadata(path);
        if held.is_ok_and(|held| held.is_file() && held.len() == value.len() as u64)
            && fs::read(path)? == value.as_bytes()
        {
            return Ok(false);
        }
        match fs::create_dir(table) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ if !fs::symlink_metadata(table)?.is_dir() => {
                return Err(io::Error::other("its folder is no folder"));
            }
            _ => {}
        }
        let file = AtomicFile::new(path, self.mode)?.not_synced();
        file.replace(|out| out.write_all(value.as_bytes()))?;
        Ok(true)
    }

    /// Removes the files of rows that `seen` does not name; says whether there were any.
    fn sweep(&self, seen: &HashSet<PathBuf>) -> io::Result<bool> {
        let mut swept = false;
        for table in fs::read_dir(&self.folder)? {
            let table = table?;
            let name = table.file_name();
            // A link to a folder is no folder here: it may lead out.
            if !is_name(&name) || !table.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(table.path())? {
                let entry = entry?;
                let file = entry.file_name();
                let is_ours = is_temporary(&file)
                    || is_name(&file) && !seen.contains(&Path::new(&name).join(&file));
                if is_ours && !entry.file_type()?.is_dir() {
                    fs::remove_file(entry.path())?;
                    swept = true;
                }
            }
            remove_empty(&table.path())?;
        }
        Ok(swept)
    }

    fn changed(&mut self) {
        if let Some(notify) = &mut self.notify {
            notify.changed(Instant::now());
        }
    }
}

/// Why `folder` must not be swept; `None` when it is ours, empty or not there.
fn foreign(folder: &Path) -> io::Result<Option<String>> {
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if fs::symlink_metadata(folder.join(MARK)).is_ok() || entries.next().is_none() {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} holds files and no {MARK}: name a folder that is empty or not there",
        folder.display()
    )))
}

fn is_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| unescape(name).is_some())
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

impl Handler for Tree {
    fn begin_sync(&mut self, _reason: SyncReason) -> Result<(), HandlerError> {
        self.claim()?;
        self.claimed = true;
        self.seen = Some(HashSet::new());
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        if !self.claimed {
            let why = io::Error::other("is not this handler's folder");
            return Err(self.retry(&self.folder, &why));
        }
        let value = match event.action {
            Action::Create | Action::Set => Some(event.value.unwrap_or("")),
            Action::Delete => None,
            Action::Other(action) => {
                return Err(HandlerError::Permanent(format!(
                    "{} is no change of a row",
                    printable::name(action, 64)
                )));
            }
        };
        let (Some(table), Some(key)) = (escape(event.table), escape(event.key)) else {
            let why = "its table or key is too long for the name of a file";
            return Err(HandlerError::Permanent(why.into()));
        };
        if let (Some(seen), Some(_)) = (&mut self.seen, value) {
            seen.insert(Path::new(&table).join(&key));
        }
        let table = self.folder.join(table);
        let path = table.join(key);
        match self.write(&table, &path, value) {
            Ok(true) => self.changed(),
            Ok(false) => {}
            Err(error) => return Err(self.retry(&path, &error)),
        }
        if let Some(notify) = self.notify.as_mut().filter(|_| self.seen.is_none()) {
            notify.run_if_due(Instant::now());
        }
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        let Some(seen) = self.seen.take() else {
            return Ok(());
        };
        let swept = self
            .sweep(&seen)
            .map_err(|error| self.retry(&self.folder, &error))?;
        // After a start always: a former run may have ended between a file and the command.
        if swept || !self.synced {
            self.changed();
        }
        self.synced = true;
        Ok(())
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        match self.notify.as_mut().filter(|_| self.seen.is_none()) {
            Some(notify) => notify.idle(now),
            None => Ok(None),
        }
    }

    fn close(&mut self, _closing: Closing) -> Result<(), HandlerError> {
        self.notify.as_mut().map_or(Ok(()), Notify::close)
    }
}

#[cfg(test)]
mod tests;
