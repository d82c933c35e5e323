//! Group commit: decide for each event, journal all in one write, then let them be seen.

use std::io;
use std::sync::Arc;

use super::error::Fault;
use super::record::{self, RecordBuf};
use super::state::{Map, Producer, State};
use super::tail::{Cutter, Run};
use super::trim::TRIM_EVERY;
use super::version::{Content, judge, normal, stored_content};
use super::{History, HistoryError, Moment, ProducerId};
use crate::event::{Action, Event, Stamp, codec};

/// One event handed over.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The event. The caller has checked its topic and size; a stamp in it is not looked at.
    pub event: Event<'a>,
    /// The writer's own version of the object; `None` to have one assigned.
    pub version: Option<u64>,
    /// Who handed it over and the number it gave it; numbers of one producer rise.
    pub producer: Option<(ProducerId, u64)>,
}

impl<'a> Submission<'a> {
    /// An event with neither version nor producer, as PUSH workers hand them over.
    pub fn of(event: Event<'a>) -> Self {
        Submission {
            event,
            version: None,
            producer: None,
        }
    }
}

/// What became of a submission. All but [`Outcome::Older`] are a success to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Journalled under this stamp.
    Stamped(Stamp),
    /// This very version is the current one already; nothing to send.
    Duplicate,
    /// A higher version, or the preferred content of the same version, is known; it was dropped.
    /// So is what would bring an object to another topic without a higher version.
    Older {
        /// The version known.
        known: u64,
    },
    /// Its producer's number was taken before; nothing to send. What was decided then is not known.
    AlreadyDone,
}

/// Memory that commits use over and over.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) records: RecordBuf,
    payload: Vec<u8>,
    /// First seq of each new blob and where it begins in `records`.
    cuts: Vec<(u64, usize)>,
    cutter: Cutter,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.cuts.clear();
    }

    fn run(&self) -> Run<'_> {
        Run {
            records: self.records.as_bytes(),
            cuts: &self.cuts,
            cutter: self.cutter,
        }
    }
}

/// A topic that events of the group are on.
struct Moved {
    /// Seq of the last one.
    head: u64,
    /// First seqs of the blobs they stand in.
    blobs: Vec<u64>,
}

/// What a group changes, until it is on the disk.
#[derive(Default)]
struct Pending<'g> {
    rows: Map<(&'g str, &'g str), Content<'g>>,
    heads: Map<Arc<str>, Moved>,
    producers: Map<ProducerId, u64>,
    /// Of the deletes on topics that rows left, each before the event that it is there for.
    leaves: Vec<Stamp>,
    head: u64,
}

impl Pending<'_> {
    /// Stamps an event as the next one.
    fn stamp(
        &mut self,
        state: &State,
        scratch: &mut Scratch,
        event: &Event<'_>,
        version: u64,
        now: Moment,
    ) -> Result<Stamp, Fault> {
        let topic = event.topic_or_all();
        let seq = self.head + 1;
        // Not looked up by an owned name: most events are on a topic that is there.
        let moved = match self.heads.get_mut(topic) {
            Some(moved) => moved,
            None => self.heads.entry(topic.into()).or_insert(Moved {
                head: state.topic_head(topic),
                blobs: Vec::new(),
            }),
        };
        let stamp = Stamp {
            publisher: state.meta.id,
            incarnation: state.meta.incarnation,
            seq,
            prev: std::mem::replace(&mut moved.head, seq),
            version,
            unix_micros: now.unix_micros,
        };
        let blob = scratch.add(event, topic, stamp)?;
        if moved.blobs.last() != Some(&blob) {
            moved.blobs.push(blob);
        }
        self.head = seq;
        Ok(stamp)
    }
}

impl History {
    /// Takes a group of events: stamps and journals those that are new and says, in order, what
    /// became of each. Later ones of a group see the earlier ones. An event that brings an object to
    /// another topic is journalled after a delete on the old one, which has the highest version below
    /// its own: who hears only the old topic lets go of the object, also where another publisher has
    /// changed it there meanwhile, and who hears both keeps it. When this returns, what was stamped is
    /// as durable as the options say; then [`History::committed`] has the events as they are to be
    /// sent. After an error nothing of the group is visible, no outcome is known, and the history must
    /// be reopened.
    pub fn commit(
        &mut self,
        group: &[Submission<'_>],
        now: Moment,
    ) -> Result<Vec<Outcome>, HistoryError> {
        self.scratch.clear();
        self.scratch.cutter = self.disk()?.tail.blobs().cutter();
        let (outcomes, pending) = match self.decide(group, now) {
            Ok(decided) => decided,
            Err(fault) => {
                self.scratch.clear();
                return Err(fault.at(&self.options.path));
            }
        };
        // Where nothing was stamped, producers' numbers wait for the next group: sent again after a
        // crash, such events are judged again.
        if !self.scratch.records.is_empty() {
            let written = match &mut self.disk {
                Some(disk) => disk.journal(self.scratch.run(), &pending.producers, now),
                None => Err(Fault::Stuck("not open".into())),
            };
            if let Err(fault) = written {
                self.scratch.clear();
                return Err(self.fail(fault));
            }
        }
        self.show(group, &outcomes, pending, now);
        Ok(outcomes)
    }

    fn decide<'g>(
        &mut self,
        group: &'g [Submission<'_>],
        now: Moment,
    ) -> Result<(Vec<Outcome>, Pending<'g>), Fault> {
        let mut pending = Pending {
            head: self.state.head,
            ..Pending::default()
        };
        pending.rows.reserve(group.len());
        let mut outcomes = Vec::with_capacity(group.len());
        for submission in group {
            let outcome = self.decide_one(submission, &mut pending, now)?;
            outcomes.push(outcome);
        }
        Ok((outcomes, pending))
    }

    fn decide_one<'g>(
        &mut self,
        submission: &'g Submission<'_>,
        pending: &mut Pending<'g>,
        now: Moment,
    ) -> Result<Outcome, Fault> {
        let History { state, scratch, .. } = self;
        if let Some((producer, number)) = submission.producer {
            let last = pending.producers.get(&producer).copied();
            let last = last.or_else(|| state.producers.get(&producer).map(|last| last.number));
            if last.is_some_and(|last| number <= last) {
                return Ok(Outcome::AlreadyDone);
            }
            pending.producers.insert(producer, number);
        }
        let event = normal(&submission.event);
        let topic = event.topic_or_all();
        let version = match event.action {
            // No change of a row: passed on, but there is nothing to compare it with.
            Action::Other(_) => submission.version.unwrap_or(now.unix_micros),
            _ => {
                let name = (event.table, event.key);
                let stored = pending.rows.get(&name).copied();
                let stored = stored.or_else(|| stored_content(state, event.table, event.key));
                let content = match judge(&event, submission.version, stored, now) {
                    Err(outcome) => return Ok(outcome),
                    Ok(content) => content,
                };
                if let Some(stored) = stored
                    && let Some(from) = stored.leaves(topic)
                {
                    let leave = Event::delete(event.table, event.key).on(from);
                    let version = content.above(stored.version);
                    let stamp = pending.stamp(state, scratch, &leave, version, now)?;
                    pending.leaves.push(stamp);
                }
                pending.rows.insert(name, content);
                content.version
            }
        };
        let stamp = pending.stamp(state, scratch, &event, version, now)?;
        Ok(Outcome::Stamped(stamp))
    }

    /// Makes visible what is on the disk.
    fn show(
        &mut self,
        group: &[Submission<'_>],
        outcomes: &[Outcome],
        pending: Pending<'_>,
        now: Moment,
    ) {
        let state = &mut self.state;
        let mut leaves = pending.leaves.into_iter().peekable();
        for (submission, outcome) in group.iter().zip(outcomes) {
            if let Outcome::Stamped(stamp) = outcome
                && !matches!(submission.event.action, Action::Other(_))
            {
                let event = Event {
                    stamp: Some(*stamp),
                    ..normal(&submission.event)
                };
                // Taken too, as when the journal is read: what is left must be the same.
                if let Some(leave) = leaves.next_if(|leave| leave.seq < stamp.seq) {
                    state.leave(&event, leave, now.instant);
                }
                state.take(&event, now.instant);
            }
        }
        for (topic, moved) in pending.heads {
            state.set_head(&topic, moved.head);
            for blob in moved.blobs {
                state.index.journalled(&topic, blob);
            }
        }
        if pending.head > state.head && self.chores.trim_at == u64::MAX {
            self.chores.trim_at = now.unix_micros + TRIM_EVERY;
        }
        let unix_secs = now.unix_secs();
        for (id, number) in pending.producers {
            state.producers.insert(id, Producer { number, unix_secs });
        }
        state.head = pending.head;
        state.bytes += self.scratch.records.bytes() as u64;
    }
}

impl Scratch {
    /// Adds an event; gives the first seq of the blob it stands in.
    fn add(&mut self, event: &Event<'_>, topic: &str, stamp: Stamp) -> Result<u64, Fault> {
        let event = Event {
            stamp: Some(stamp),
            ..*event
        };
        codec::encode(&event, &mut self.payload);
        let size = record::size(topic, &self.payload);
        let start = self.records.bytes();
        let first = self.cutter.place(stamp.seq, size);
        if first == stamp.seq {
            self.cuts.push((first, start));
        }
        match self.records.append(topic, &self.payload) {
            true => Ok(first),
            false => {
                let why = "an event has a topic over 64 KiB or is over 4 GiB";
                Err(Fault::Io(io::Error::new(io::ErrorKind::InvalidInput, why)))
            }
        }
    }
}
