//! A handler that writes down what it is told.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use fanfare::dispatch::LaneOptions;
use fanfare::dispatch::hub::SeatOptions;
use fanfare::event::{Action, Event};
use fanfare::handler::{Handler, HandlerError, SyncReason};

use super::{until, wait_for};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub table: String,
    pub key: String,
    /// `None`: the object is gone.
    pub value: Option<String>,
    pub topic: String,
}

#[derive(Debug, Clone)]
pub enum Told {
    Begin(SyncReason),
    Row(Row, SystemTime),
    End,
}

/// What one handler was told, in order. Clones are the same tape.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Vec<Told>>>);

struct Recorder(Tape);

impl Handler for Recorder {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.0.push(Told::Begin(reason));
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.0.note(event);
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.0.push(Told::End);
        Ok(())
    }
}

/// So wide that the handler is given every event.
pub fn wide() -> SeatOptions {
    SeatOptions {
        queue_length: 1 << 16,
        queue_bytes: 1 << 30,
        ..SeatOptions::default()
    }
}

impl Tape {
    /// A handler that records on this tape.
    pub fn handler(&self) -> LaneOptions {
        let tape = self.clone();
        let build = Box::new(move |_: &_| Ok(Box::new(Recorder(tape.clone())) as _));
        LaneOptions::new("recorder", wide(), build)
    }

    /// Forgets what it was told, and keeps the memory.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub fn push(&self, told: Told) {
        self.0.lock().unwrap().push(told);
    }

    pub fn note(&self, event: &Event<'_>) {
        let row = Row {
            table: event.table.into(),
            key: event.key.into(),
            value: match event.action {
                Action::Delete => None,
                _ => event.value.map(str::to_owned),
            },
            topic: event.topic_or_all().into(),
        };
        self.push(Told::Row(row, SystemTime::now()));
    }

    pub fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    /// The rows, those of brackets too, with the time at which they came.
    pub fn timed_rows(&self) -> Vec<(Row, SystemTime)> {
        let told = self.told();
        told.into_iter()
            .filter_map(|told| match told {
                Told::Row(row, at) => Some((row, at)),
                _ => None,
            })
            .collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        self.timed_rows().into_iter().map(|(row, _)| row).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.key).collect()
    }

    pub fn count(&self) -> usize {
        let told = self.0.lock().unwrap();
        told.iter()
            .filter(|told| matches!(told, Told::Row(..)))
            .count()
    }

    /// Why the handler was told to start over, each time.
    pub fn begins(&self) -> Vec<SyncReason> {
        let told = self.told();
        told.into_iter()
            .filter_map(|told| match told {
                Told::Begin(reason) => Some(reason),
                _ => None,
            })
            .collect()
    }

    /// Waits until `count` brackets are closed.
    #[track_caller]
    pub fn synced(&self, count: usize) {
        wait_for(&format!("{count} resyncs are complete"), || {
            let told = self.0.lock().unwrap();
            told.iter().filter(|told| matches!(told, Told::End)).count() >= count
        });
    }

    /// Waits for a row of this key.
    #[track_caller]
    pub fn has(&self, key: &str) -> Row {
        until(&format!("row {key} arrives"), || {
            self.rows().into_iter().find(|row| row.key == key)
        })
    }

    /// Waits for so many rows.
    #[track_caller]
    pub fn has_count(&self, count: usize) {
        wait_for(&format!("{count} rows arrive"), || self.count() >= count);
    }

    /// The state a handler would hold that follows the contract: brackets replace everything.
    pub fn state(&self) -> std::collections::BTreeMap<(String, String), String> {
        let mut state = std::collections::BTreeMap::new();
        let mut open: Option<std::collections::BTreeMap<_, _>> = None;
        for told in self.told() {
            match told {
                Told::Begin(_) => open = Some(Default::default()),
                Told::End => state = open.take().expect("a bracket is open"),
                Told::Row(row, _) => {
                    let target = open.as_mut().unwrap_or(&mut state);
                    let name = (row.table, row.key);
                    match row.value {
                        Some(value) => drop(target.insert(name, value)),
                        None => drop(target.remove(&name)),
                    }
                }
            }
        }
        state
    }
}
