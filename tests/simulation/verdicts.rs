//! What an event is to a topic, by its stamp, of which all was there before: each case.

use std::collections::BTreeMap;

use fanfare::agent::recovery::{Life, Note, Recovery};
use fanfare::event::EventBatch;

/// Where a topic stands.
#[derive(Clone, Copy)]
enum Place {
    Live(u64),
    /// Something before is fetched.
    Behind(u64),
    /// Nothing is known.
    Unknown,
}

/// What is noted of these events, in their order, by a recovery in sync; `None` where they are of
/// another life.
pub fn verdicts(events: &EventBatch, recovery: &Recovery) -> Option<Vec<Note>> {
    let positions = recovery.positions()?;
    let places = positions.topics.iter();
    let mut places: BTreeMap<&str, Place> = places
        .map(|(topic, seq)| (&**topic, Place::Live(*seq)))
        .collect();
    let mut notes = Vec::new();
    for event in events.iter() {
        let Some(stamp) = event.stamp else { continue };
        let life = Life {
            publisher: stamp.publisher,
            incarnation: stamp.incarnation,
        };
        if life != positions.life {
            return None;
        }
        let Some(place) = places.get_mut(event.topic_or_all()) else {
            continue;
        };
        match *place {
            Place::Live(last) | Place::Behind(last) if stamp.seq <= last => {
                notes.push(Note::Duplicate);
            }
            _ if stamp.prev >= stamp.seq => {
                notes.push(Note::BrokenChain);
                *place = Place::Unknown;
            }
            Place::Live(last) if stamp.prev == last => *place = Place::Live(stamp.seq),
            Place::Live(last) if stamp.prev > last => {
                notes.push(Note::Gap);
                *place = Place::Behind(last);
            }
            Place::Live(_) => {
                notes.push(Note::BrokenChain);
                *place = Place::Unknown;
            }
            Place::Behind(_) | Place::Unknown => {}
        }
    }
    Some(notes)
}
