//! What was noted of an input.

use fanfare::agent::recovery::{Input, Note};
use fanfare::event::{Event, EventBatch};
use fanfare::sync::{Answer, Request};

use super::{Expected, Ledger};
use crate::steps::brief;

impl Ledger {
    /// Events are held as long as there is room for them, and what goes with them.
    pub(super) fn check_held(
        &self,
        events: &EventBatch,
        (before, after): (usize, usize),
        notes: &[Note],
    ) {
        let most = self.options.held_bytes;
        let needed = |event: &Event<'_>| {
            event.table.len() + event.key.len() + event.value.map_or(0, str::len) + 256
        };
        if notes.contains(&Note::NotHeld) {
            let mut events = events.iter();
            let full = events.any(|event| after + needed(&event) > most);
            assert!(full, "not held, though there is room");
        } else if events.len() == 1 && after > before {
            let fits = events.iter().all(|event| before + needed(&event) <= most);
            assert!(fits, "held, though there is no room");
        } else if notes == [Note::Gap] {
            assert!(after > before, "neither held nor noted");
        }
    }

    pub(super) fn check_notes(&self, input: &Input, expected: &Expected, notes: &[Note]) {
        let answer = match input {
            Input::Answer(_, answer) => Some(answer),
            _ => None,
        };
        let (events, hello) = (
            matches!(input, Input::Events(_)),
            matches!(input, Input::Hello(_)),
        );
        let request = expected.answered.as_ref().map(|asked| &asked.request);
        let mut exact = Vec::new();
        for note in notes {
            let may = match note {
                Note::AskedToWait
                | Note::Refused(_)
                | Note::Unanswered
                | Note::LowerIncarnation
                | Note::NewIncarnation
                | Note::OtherPublisher => {
                    exact.push(*note);
                    true
                }
                Note::Gap => events || hello || matches!(answer, Some(Answer::Heads { .. })),
                Note::Duplicate | Note::BrokenChain | Note::NotHeld => events,
                Note::Replayed(_) => matches!(answer, Some(Answer::Events { .. })),
                Note::Loaded(_) => matches!(answer, Some(Answer::Rows { .. })),
                Note::Gone => matches!(answer, Some(Answer::Gone { .. })),
                Note::BadDigest => matches!(answer, Some(Answer::Rows { total: Some(_), .. })),
                Note::BadAnswer => answer.is_some(),
                Note::CannotRepair => self.is_blind(),
                Note::TopicNotFollowed => matches!(answer, Some(Answer::Topics { .. })),
            };
            assert!(may, "{note:?} after {}", brief(input));
        }
        assert_eq!(exact, expected.notes, "after {}", brief(input));
        if let Some(verdicts) = &expected.verdicts {
            let of_events =
                |note: &&Note| matches!(note, Note::Gap | Note::Duplicate | Note::BrokenChain);
            let found = notes.iter().filter(of_events);
            assert!(
                found.eq(verdicts),
                "{notes:?}, not {verdicts:?}, after {}",
                brief(input)
            );
        }
        let count = |wanted: Note| notes.iter().filter(|note| **note == wanted).count();
        let bad = count(Note::BadAnswer);
        assert!(bad <= 1);
        if expected.foreign {
            assert_eq!(notes, [Note::BadAnswer]);
        } else if let (Some(asked), Some(request)) = (&expected.answered, request) {
            // A later part may be of a snapshot that another process of the service gave the same name.
            let later = matches!(request, Request::Snapshot { chunk: Some(_), .. });
            if self.honest && !asked.overtaken && !later {
                assert_eq!(bad, 0, "{} answers {request:?}", brief(input));
                let gone = matches!(answer, Some(Answer::Gone { .. }));
                assert_eq!(count(Note::Gone), usize::from(gone));
                let of_replays = notes.iter().filter_map(|note| match note {
                    Note::Replayed(events) => Some(*events),
                    _ => None,
                });
                let wanted = expected.replayed.iter().map(|(_, fetched)| *fetched);
                assert!(
                    of_replays.eq(wanted),
                    "{notes:?}, not {:?}",
                    expected.replayed
                );
            }
            if matches!(answer, Some(Answer::Lapsed)) && later && !asked.overtaken {
                assert_eq!(bad, 0, "a snapshot may lapse");
            }
            let fits = match answer {
                Some(Answer::Heads { .. }) => matches!(request, Request::Heads { .. }),
                Some(Answer::Topics { .. }) => matches!(request, Request::Topics { .. }),
                Some(Answer::Events { .. } | Answer::Gone { .. }) => {
                    matches!(request, Request::Replay { .. })
                }
                Some(Answer::Rows { .. }) => matches!(request, Request::Snapshot { .. }),
                Some(Answer::Lapsed) => later,
                _ => true,
            };
            if !fits && !asked.overtaken {
                assert_eq!(bad, 1, "{} does not answer {request:?}", brief(input));
            }
        }
    }
}
