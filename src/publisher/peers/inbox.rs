//! The service's side: what is heard of other publishers, taken a bit at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, never};

use super::{Heard, PeersMetrics};
use crate::agent::recovery::Sweep;
use crate::publisher::history::{History, Moment};
use crate::replica::RowKey;

/// How long rows are merged before events are looked at again.
const TURN: Duration = Duration::from_millis(1);

/// Rows looked at in one go of a sweep.
const SLICE: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Inbox {
    heard: Receiver<Heard>,
    nothing: Receiver<Heard>,
    /// The snapshot whose rows are being looked for, and where to go on. What else is heard waits.
    sweep: Option<(Sweep, Option<RowKey>)>,
    metrics: Arc<PeersMetrics>,
}

impl Inbox {
    /// What comes by `heard`.
    pub fn new(heard: Receiver<Heard>, metrics: Arc<PeersMetrics>) -> Self {
        Inbox {
            heard,
            nothing: never(),
            sweep: None,
            metrics,
        }
    }

    /// For whoever waits for several things: what is got is for [`Inbox::take`].
    pub fn heard(&self) -> &Receiver<Heard> {
        match self.is_busy() {
            true => &self.nothing,
            false => &self.heard,
        }
    }

    /// Whether there is something to do at once.
    pub fn is_busy(&self) -> bool {
        self.sweep.is_some()
    }

    /// Takes what was got from [`Inbox::heard`]; `None`: nothing more will come.
    pub fn take(&mut self, heard: Option<Heard>, history: &mut History) {
        match heard {
            Some(Heard::Rows(events)) => {
                let merged = history.merge(&events, Moment::now());
                self.metrics.rows_changed_total.add(merged.changed);
                self.metrics.rows_known_total.add(merged.known);
                self.metrics.rows_left_out_total.add(merged.left_out);
            }
            // What this publisher lacks of its own, it lacks with a reason.
            Some(Heard::Snapshot(sweep)) if sweep.life.publisher == history.id() => {}
            Some(Heard::Snapshot(sweep)) => self.sweep = Some((sweep, None)),
            None => self.heard = never(),
        }
    }

    /// Does some of what is to be done.
    pub fn turn(&mut self, history: &mut History) {
        let begun = Instant::now();
        while begun.elapsed() < TURN {
            if let Some((sweep, after)) = self.sweep.take() {
                self.sweep(sweep, after, history);
                continue;
            }
            match self.heard.try_recv() {
                Ok(heard) => self.take(Some(heard), history),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.take(None, history),
            }
        }
    }

    fn sweep(&mut self, sweep: Sweep, after: Option<RowKey>, history: &mut History) {
        let gone = |name: &_, row: &_| sweep.ends(name, row);
        let (topic, now) = (Arc::clone(&sweep.topic), Moment::now());
        let (ended, next) = history.end_rows(&topic, after.as_ref(), SLICE, gone, now);
        self.metrics.rows_ended_total.add(ended);
        if next.is_some() {
            self.sweep = Some((sweep, next));
        }
    }
}
