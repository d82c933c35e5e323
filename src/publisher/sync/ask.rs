//! What the sync service asks of the history, which belongs to the thread that publishes.
//!
//! The set is closed, and each is answered within a millisecond or two: the service asks for much in
//! slices.

use std::sync::Arc;

use crate::publisher::history::{History, HistoryError, Replay};
use crate::replica::RowKey;
use crate::sync::{MAX_TOPICS, Packed};
use crate::util::waker::Commands;

use super::Command;

/// Events of one replay, bytes, about.
const REPLAY_BYTES: usize = 512 << 10;

/// Names of one slice.
const NAMES: usize = 1_000;

/// Most that rows of one chunk may have grown to since they were counted, bytes. What is over is
/// not sent: the snapshot is made anew.
const ROWS_BYTES: usize = crate::sync::MAX_UNPACKED;

/// Where a topic stands. Where it is the same, the topic's rows are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub incarnation: u64,
    /// The topic's last seq.
    pub seq: u64,
    /// How many rows it has: one that goes to another topic leaves no event on this.
    pub rows: usize,
    /// How often rows of other publishers changed it: those have no seq here.
    pub merges: u64,
}

impl Position {
    /// Whether a replay leads from here to `now`.
    fn replayable_to(&self, now: &Position) -> bool {
        (self.incarnation, self.merges) == (now.incarnation, now.merges)
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Which of these topics are beyond these positions.
    Heads {
        incarnation: u64,
        topics: Vec<(String, u64)>,
    },
    /// The next events of a topic.
    Replay {
        incarnation: u64,
        topic: Arc<str>,
        after: u64,
    },
    /// The next names of rows of a topic. `known` is what a snapshot has already, which will do where it
    /// is `fresh` and only events of this publisher have come since: they are replayed.
    Names {
        topic: Arc<str>,
        after: Option<RowKey>,
        known: Option<Position>,
        fresh: bool,
    },
    /// The next topics that have rows, by name.
    Topics { after: String },
    /// These rows, where they are still on the topic.
    Rows { topic: Arc<str>, names: Vec<RowKey> },
}

/// Its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What is behind, and the publisher's last seq.
    Heads {
        incarnation: u64,
        head: u64,
        behind: Vec<(String, u64)>,
    },
    /// The next events; `last` is the topic's last seq.
    Events {
        incarnation: u64,
        upto: u64,
        last: u64,
        events: Packed,
    },
    /// They are not in the journal any more, or the position is of another incarnation.
    Gone { incarnation: u64 },
    /// A slice of names and sizes.
    Names {
        position: Position,
        complete_since: u64,
        names: Vec<(RowKey, usize)>,
        more: bool,
    },
    /// A page of topics.
    Topics {
        incarnation: u64,
        topics: Vec<String>,
        more: bool,
    },
    /// Nothing has moved since what is known.
    Unmoved,
    /// What is known will do.
    WillDo,
    /// The rows.
    Rows { incarnation: u64, rows: Packed },
    /// The rows have outgrown a chunk.
    Outgrown,
    /// The history cannot answer just now.
    Broken,
}

/// A question and whom to answer.
#[derive(Debug)]
pub struct Asked {
    pub(super) ticket: u64,
    pub(super) ask: Ask,
    pub(in crate::publisher::sync) to: Arc<Commands<Command>>,
}

impl Asked {
    /// Answers. An error is one of the history, which is then to be reopened.
    pub fn answer(self, history: &History) -> Result<(), HistoryError> {
        let (told, result) = match (history.broken(), self.ask.answer(history)) {
            (None, Ok(told)) => (told, Ok(())),
            (None, Err(error)) => (Told::Broken, Err(error)),
            (Some(_), _) => (Told::Broken, Ok(())),
        };
        if !self.to.send(Command::Told(self.ticket, told)) {
            log::debug!("an answer is not needed any more: the sync service has ended");
        }
        result
    }
}

impl Ask {
    pub(super) fn answer(&self, history: &History) -> Result<Told, HistoryError> {
        Ok(match self {
            Ask::Heads {
                incarnation,
                topics,
            } => heads(history, *incarnation, topics),
            Ask::Replay {
                incarnation,
                topic,
                after,
            } => return replay(history, *incarnation, topic, *after),
            Ask::Names {
                topic,
                after,
                known,
                fresh,
            } => names(
                history,
                topic,
                after.as_ref(),
                known.map(|known| (known, *fresh)),
            ),
            Ask::Topics { after } => {
                let (topics, more) = history.topics(after, MAX_TOPICS);
                Told::Topics {
                    incarnation: history.incarnation(),
                    topics,
                    more,
                }
            }
            Ask::Rows { topic, names } => rows(history, topic, names),
        })
    }
}

fn heads(history: &History, incarnation: u64, topics: &[(String, u64)]) -> Told {
    let now = history.incarnation();
    let heads = topics.iter().map(|(topic, has)| {
        let head = history.topic_head(topic);
        (head > *has || incarnation != now).then(|| (topic.clone(), head))
    });
    Told::Heads {
        incarnation: now,
        head: history.head(),
        behind: heads.flatten().collect(),
    }
}

fn replay(
    history: &History,
    incarnation: u64,
    topic: &str,
    after: u64,
) -> Result<Told, HistoryError> {
    let now = history.incarnation();
    if incarnation != now {
        return Ok(Told::Gone { incarnation: now });
    }
    let last = history.topic_head(topic);
    Ok(match history.replay(Some(topic), after, REPLAY_BYTES)? {
        Replay::Gone => Told::Gone { incarnation: now },
        Replay::Events { records, upto } => {
            let mut events = Packed::default();
            for record in records.iter() {
                events.push(record.payload);
            }
            Told::Events {
                incarnation: now,
                // The publisher's head where that is all: it tells how old the answer is.
                upto: upto.max(after),
                last,
                events,
            }
        }
    })
}

/// `known` is what a snapshot has, and whether that is fresh.
fn names(
    history: &History,
    topic: &str,
    after: Option<&RowKey>,
    known: Option<(Position, bool)>,
) -> Told {
    let position = Position {
        incarnation: history.incarnation(),
        seq: history.topic_head(topic),
        rows: history.topic_rows(topic),
        merges: history.topic_merges(topic),
    };
    match known {
        Some((known, _)) if known == position => return Told::Unmoved,
        Some((known, true)) if known.replayable_to(&position) => return Told::WillDo,
        _ => {}
    }
    let names = history.names(topic, after, NAMES);
    Told::Names {
        position,
        complete_since: history.complete_since(),
        more: names.len() == NAMES,
        names,
    }
}

fn rows(history: &History, topic: &str, names: &[RowKey]) -> Told {
    let (mut rows, mut payload) = (Packed::default(), Vec::new());
    for name in names {
        if !history.row(topic, name, &mut payload) {
            continue;
        }
        if rows.bytes() + Packed::PER_EVENT + payload.len() > ROWS_BYTES {
            return Told::Outgrown;
        }
        rows.push(&payload);
    }
    Told::Rows {
        incarnation: history.incarnation(),
        rows,
    }
}
