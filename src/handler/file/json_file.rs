//! The rows as one JSON file.
//!
//! The file is `{"<table>": {"<key>": <value>}}`, sorted, one row per line, and is replaced whole.
//! It always shows a complete state: rows of a resync go to a map of their own, which takes the
//! place of the old one when the resync has ended. A resync that is begun anew, or that is still
//! open at the end, is forgotten; the file then keeps the state before it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Common;
use super::notify::Notify;
use crate::event::{Action, Event};
use crate::handler::{
    BuildError, Closing, Handler, HandlerError, Settings, SyncReason, folder, json,
};
use crate::util::atomic_file::AtomicFile;
use crate::util::printable;

/// Table, key, the value's JSON on one line.
type Rows = BTreeMap<String, BTreeMap<String, Box<str>>>;

pub(super) struct JsonFile {
    file: AtomicFile,
    interval: Duration,
    /// The last complete state and the changes since.
    rows: Rows,
    /// The rows of the open resync.
    partial: Option<Rows>,
    /// A resync has ended. Nothing is written before: what the file holds from the last run is
    /// better than a part of the new state.
    synced: bool,
    /// `rows` differs from the file.
    dirty: bool,
    written_once: bool,
    /// Not written before this.
    not_before: Option<Instant>,
    /// A write that failed while an event was given; `idle` reports it, for it is no fault of the
    /// event, which must not be given again for it.
    failure: Option<HandlerError>,
    notify: Option<Notify>,
}

impl JsonFile {
    pub fn new(settings: &Settings, common: Common) -> Result<Self, BuildError> {
        let Common {
            interval,
            mode,
            notify,
        } = common;
        let path: String = settings.require("path")?;
        let fault = |why: String| BuildError::setting("path", why);
        let file = AtomicFile::new(&path, mode).map_err(|error| fault(error.to_string()))?;
        if Path::new(&path).is_dir() {
            return Err(fault(format!("{path} is a folder; name a file in it")));
        }
        folder::is_there(file.folder(), "path")?;
        Ok(JsonFile {
            file,
            interval,
            rows: Rows::new(),
            partial: None,
            synced: false,
            dirty: false,
            written_once: false,
            not_before: None,
            failure: None,
            notify,
        })
    }

    /// When the file is to be written next; `None` while there is nothing to write.
    fn due(&self, now: Instant) -> Option<Instant> {
        let wanted = self.dirty && self.partial.is_none();
        wanted.then(|| self.not_before.unwrap_or(now))
    }

    fn write_if_due(&mut self, now: Instant) {
        if self.due(now).is_some_and(|due| due <= now) {
            self.failure = self.write(now).err();
        }
    }

    fn write(&mut self, now: Instant) -> Result<(), HandlerError> {
        // Set before the attempt, so that one that fails is repeated no more often.
        self.not_before = Some(now + self.interval);
        if !self.written_once {
            // Not in `build`, which may run beside an agent that is writing this file.
            match self.file.remove_leftovers() {
                Ok(0) | Err(_) => {}
                Ok(n) => log::info!(
                    "{}: removed {n} temporary files of an earlier run",
                    self.file.path().display()
                ),
            }
        }
        let rows = &self.rows;
        self.file
            .replace(|out| render(rows, out))
            .map_err(|error| {
                HandlerError::Retry(format!(
                    "cannot write {}: {error}",
                    self.file.path().display()
                ))
            })?;
        self.written_once = true;
        self.dirty = false;
        if let Some(notify) = &mut self.notify {
            notify.changed(now);
        }
        Ok(())
    }

    fn apply_at(&mut self, event: &Event<'_>, now: Instant) -> Result<(), HandlerError> {
        if let Some(partial) = &mut self.partial {
            return change(partial, event).map(|_| ());
        }
        self.dirty |= change(&mut self.rows, event)? && self.synced;
        // Not left to `idle`: under constant load the queue may never be empty.
        self.write_if_due(now);
        if let Some(notify) = &mut self.notify {
            notify.run_if_due(now);
        }
        Ok(())
    }

    fn end_sync_at(&mut self, now: Instant) {
        if let Some(rows) = self.partial.take() {
            self.dirty |= rows != self.rows;
            self.rows = rows;
        }
        self.dirty |= !self.synced;
        self.synced = true;
        self.write_if_due(now);
    }
}

fn render(rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
    let mut table_start = "{\n";
    for (table, rows) in rows {
        write!(out, "{table_start}  {}: ", json::string(table))?;
        let mut row_start = "{\n";
        for (key, value) in rows {
            write!(out, "{row_start}    {}: {value}", json::string(key))?;
            row_start = ",\n";
        }
        out.write_all(b"\n  }")?;
        table_start = ",\n";
    }
    out.write_all(if rows.is_empty() { b"{}\n" } else { b"\n}\n" })
}

/// Says whether that changed anything. A table without rows is taken out: it would be there or
/// not depending on what was there before.
fn change(rows: &mut Rows, event: &Event<'_>) -> Result<bool, HandlerError> {
    match event.action {
        Action::Create | Action::Set => {
            let value: Box<str> = json::value(event.value).into();
            let table = match rows.get_mut(event.table) {
                Some(table) => table,
                None => rows.entry(event.table.to_owned()).or_default(),
            };
            match table.get_mut(event.key) {
                Some(old) if *old == value => return Ok(false),
                Some(old) => *old = value,
                None => _ = table.insert(event.key.to_owned(), value),
            }
            Ok(true)
        }
        Action::Delete => {
            let Some(table) = rows.get_mut(event.table) else {
                return Ok(false);
            };
            let removed = table.remove(event.key).is_some();
            if table.is_empty() {
                rows.remove(event.table);
            }
            Ok(removed)
        }
        Action::Other(action) => Err(HandlerError::Permanent(format!(
            "{} is no change of a row",
            printable::name(action, 64)
        ))),
    }
}

impl Handler for JsonFile {
    fn begin_sync(&mut self, _reason: SyncReason) -> Result<(), HandlerError> {
        self.partial = Some(Rows::new());
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.apply_at(event, Instant::now())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.end_sync_at(Instant::now());
        Ok(())
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        self.write_if_due(now);
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => {
                let again = self.notify.as_mut().map(|notify| notify.idle(now));
                let again = again.transpose()?.flatten();
                Ok(self.due(now).into_iter().chain(again).min())
            }
        }
    }

    fn close(&mut self, _closing: Closing) -> Result<(), HandlerError> {
        self.partial = None;
        if self.dirty {
            self.write(Instant::now())?;
        }
        self.notify.as_mut().map_or(Ok(()), Notify::close)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
