//! What a faulty service answers.

use fanfare::event::codec;
use fanfare::sync::{Answer, Packed, Refusal};

use crate::world::World;

impl World {
    /// What a faulty service might answer; never a lie that looks true.
    pub fn damage(&mut self, answer: Answer) -> Answer {
        self.counts.note("fault: answer damaged");
        let drop_one = |packed: &Packed, which: usize| {
            let mut fewer = Packed::default();
            for (at, payload) in packed.iter().enumerate() {
                if at != which {
                    fewer.push(payload);
                }
            }
            fewer
        };
        match (self.rng.u8(..7), answer) {
            (0, _) => Answer::Lapsed,
            (1, _) => {
                self.counts.note("fault: refused");
                Answer::Refused {
                    code: Refusal::Malformed,
                    reason: String::new(),
                }
            }
            (
                2,
                Answer::Rows {
                    id,
                    chunk,
                    chunks,
                    incarnation,
                    seq,
                    complete_since,
                    total,
                    rows,
                },
            ) if !rows.is_empty() => {
                let which = self.rng.usize(..rows.len());
                let rows = drop_one(&rows, which);
                Answer::Rows {
                    id,
                    chunk,
                    chunks,
                    incarnation,
                    seq,
                    complete_since,
                    total,
                    rows,
                }
            }
            (
                2,
                Answer::Events {
                    incarnation,
                    upto,
                    last,
                    events,
                },
            ) if !events.is_empty() => {
                let which = self.rng.usize(..events.len());
                // The last one of a part may be missing without a contradiction.
                let upto = if upto < last {
                    upto.min(last - 1)
                } else {
                    upto
                };
                let events = drop_one(&events, which.min(events.len().saturating_sub(2)));
                Answer::Events {
                    incarnation,
                    upto,
                    last,
                    events,
                }
            }
            (
                3,
                Answer::Rows {
                    id,
                    chunk,
                    chunks,
                    incarnation,
                    seq,
                    complete_since,
                    total,
                    rows,
                },
            ) => Answer::Rows {
                id,
                chunk: chunk + 1,
                chunks,
                incarnation,
                seq,
                complete_since,
                total,
                rows,
            },
            (
                3,
                Answer::Events {
                    incarnation,
                    last,
                    events,
                    ..
                },
            ) => Answer::Events {
                incarnation,
                upto: 0,
                last: last + 1,
                events,
            },
            (
                4,
                Answer::Rows {
                    id,
                    chunk,
                    chunks,
                    seq,
                    complete_since,
                    total,
                    rows,
                    incarnation,
                },
            ) => {
                let incarnation = if self.rng.bool() {
                    incarnation + 1
                } else {
                    incarnation - 1
                };
                Answer::Rows {
                    id,
                    chunk,
                    chunks,
                    incarnation,
                    seq,
                    complete_since,
                    total,
                    rows,
                }
            }
            (
                4,
                Answer::Heads {
                    incarnation, head, ..
                },
            ) => Answer::Heads {
                incarnation: incarnation + 1,
                head,
                behind: Vec::new(),
            },
            (
                2..4,
                Answer::Topics {
                    incarnation,
                    topics,
                    ..
                },
            ) => Answer::Topics {
                incarnation,
                // A page that leads nowhere.
                topics: if topics.len() > 1 {
                    vec![String::new()]
                } else {
                    Vec::new()
                },
                more: true,
            },
            (
                4,
                Answer::Events {
                    incarnation,
                    upto,
                    last,
                    events,
                },
            ) => Answer::Events {
                incarnation,
                upto,
                last,
                events: self.foreign(&events),
            },
            (5, Answer::Events { incarnation, .. }) => Answer::Gone { incarnation },
            (5, Answer::Rows { incarnation, .. }) => Answer::Gone { incarnation },
            (6, Answer::Rows { .. } | Answer::Events { .. }) => Answer::Heads {
                incarnation: 1,
                head: 1,
                behind: Vec::new(),
            },
            (_, answer) => answer,
        }
    }

    /// The same events, the first of which is none of the topic's, or of the publisher's, or of no row.
    fn foreign(&mut self, events: &Packed) -> Packed {
        let which = self.rng.u8(..7);
        let (mut others, mut bytes) = (Packed::default(), Vec::new());
        for (place, payload) in events.iter().enumerate() {
            let mut event = codec::decode(payload).unwrap();
            let mut stamp = event.stamp.unwrap();
            if place == 0 {
                match which {
                    0 => event.key = "",
                    1 => event.table = "",
                    2 => event.topic = Some("another"),
                    3 => stamp.publisher[15] ^= 1,
                    4 => stamp.incarnation -= 1,
                    5 => stamp.seq = stamp.prev,
                    _ => stamp.seq = u64::MAX,
                }
            }
            event.stamp = Some(stamp);
            codec::encode(&event, &mut bytes);
            others.push(&bytes);
        }
        others
    }
}
