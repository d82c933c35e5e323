use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::publisher::submit::{Code, Request, hole};

const RESEND: Duration = Duration::from_secs(5);

fn window(window: usize, batch_events: usize) -> Window {
    let identity = Identity {
        producer: [1; 16],
        first: 1,
    };
    let options = ClientOptions {
        window,
        batch_events,
        resend: RESEND,
        ..ClientOptions::beside("/x".as_ref())
    };
    Window::new(identity, Limits::new(&options))
}

fn push(window: &mut Window, events: u64) {
    for _ in 0..events {
        let number = window.next_number();
        let payload = number.to_string().into_bytes();
        assert_eq!(window.push(None, payload), Some(number));
    }
}

/// `(first, upto, tag)` of the next request.
fn next(window: &mut Window, now: Instant) -> Option<(u64, u64, u32)> {
    let mut out = Vec::new();
    window.request(now, &mut out).then(|| {
        let request = Request::decode(&out).unwrap();
        (request.head.first, request.upto(), request.head.tag)
    })
}

fn accepted(first: u64, upto: u64, refused: &[u64]) -> Answer {
    let refusal = |number: &u64| Refusal {
        number: *number,
        code: Code::Older,
        reason: String::new(),
    };
    let refused = refused.iter().map(refusal).collect();
    Answer {
        tag: 0,
        first,
        reply: Reply::Accepted { upto, refused },
    }
}

#[test]
fn what_waits_goes_together_and_the_window_bounds_it() {
    let now = Instant::now();
    let mut window = window(2, 3);
    push(&mut window, 1);
    assert_eq!(next(&mut window, now), Some((1, 1, 0)), "at once");
    push(&mut window, 7);
    assert_eq!(next(&mut window, now), Some((2, 4, 0)));
    assert_eq!(next(&mut window, now), None);
    let effect = window.answer(accepted(1, 1, &[]), now);
    assert!(effect.progress);
    assert_eq!(next(&mut window, now), Some((5, 7, 0)));
    let effect = window.answer(accepted(2, 4, &[3]), now);
    assert_eq!(effect.refused.len(), 1);
    assert_eq!(
        window.summary(),
        Summary {
            acknowledged: 3,
            refused: 1,
            pending: 4
        }
    );
    assert!(!window.answer(accepted(2, 4, &[3]), now).progress, "again");
    assert!(
        !window.answer(accepted(8, 90, &[]), now).progress,
        "not sent"
    );
}

#[test]
fn an_answer_out_of_turn_settles_only_its_own() {
    let now = Instant::now();
    let mut window = window(3, 1);
    push(&mut window, 4);
    while next(&mut window, now).is_some() {}
    assert!(window.answer(accepted(2, 2, &[]), now).progress);
    assert_eq!(window.floor(), 1);
    assert_eq!(next(&mut window, now), Some((4, 4, 0)), "its place is free");
    assert!(window.timed_out(now + RESEND));
    window.rewind();
    assert_eq!(next(&mut window, now), Some((1, 1, 1)));
    assert!(window.answer(accepted(1, 1, &[]), now).progress);
    assert_eq!(window.floor(), 3);
    assert_eq!(window.summary().acknowledged, 2);
}

#[test]
fn busy_waits_and_late_answers_to_old_requests_change_nothing() {
    let now = Instant::now();
    let mut window = window(4, 1);
    push(&mut window, 3);
    while next(&mut window, now).is_some() {}
    let busy = |tag| Answer {
        tag,
        first: 1,
        reply: Reply::Busy {
            retry_after_ms: 100,
            reason: "disk full".into(),
        },
    };
    let effect = window.answer(busy(0), now);
    assert!(effect.trouble.unwrap().contains("disk full"));
    let expect = Answer {
        tag: 0,
        first: 2,
        reply: Reply::Expect { number: 1 },
    };
    assert!(!window.answer(expect.clone(), now).progress);
    assert_eq!(next(&mut window, now), None, "paused");
    let later = window.deadline().unwrap();
    assert_eq!(later, now + Duration::from_millis(100));
    assert_eq!(next(&mut window, later), Some((1, 1, 1)));
    window.answer(expect, later);
    assert_eq!(next(&mut window, later), Some((2, 2, 1)), "not rewound");
}

#[test]
fn waits_for_an_answer_grow() {
    let now = Instant::now();
    let mut window = window(4, 1);
    push(&mut window, 1);
    for factor in [1, 2, 4, 8, 8] {
        assert!(next(&mut window, now).is_some());
        assert_eq!(window.deadline(), Some(now + RESEND * factor));
        assert!(window.timed_out(now + RESEND * factor));
        window.rewind();
    }
}

#[test]
fn room_is_bounded_by_count_and_bytes() {
    let identity = Identity {
        producer: [1; 16],
        first: u64::MAX - 2,
    };
    let options = ClientOptions {
        spool_events: 3,
        spool_bytes: 1000,
        ..ClientOptions::beside("/x".as_ref())
    };
    let mut window = Window::new(identity, Limits::new(&options));
    assert!(window.has_room(5000), "one of any size");
    window.push(None, vec![0; 900]);
    assert!(!window.has_room(900));
    assert!(window.push(None, Vec::new()).is_some());
    assert_eq!(window.push(None, Vec::new()), None, "no number is left");
}

/// A service that keeps what it takes over its restarts.
#[derive(Default)]
struct Service {
    last: Option<u64>,
    log: Vec<u64>,
}

impl Service {
    fn take(&mut self, bytes: &[u8], busy: bool) -> Answer {
        let request = Request::decode(bytes).unwrap();
        let head = request.head;
        let reply = if busy {
            Reply::Busy {
                retry_after_ms: 10,
                reason: String::new(),
            }
        } else if let Some(number) = hole(self.last, head.floor, head.first) {
            Reply::Expect { number }
        } else {
            for (item, number) in request.items().zip(head.first..) {
                assert_eq!(item.payload, number.to_string().as_bytes());
                if self.last.is_none_or(|last| number > last) {
                    self.log.push(number);
                    self.last = Some(number);
                }
            }
            Reply::Accepted {
                upto: request.upto(),
                refused: Vec::new(),
            }
        };
        Answer {
            tag: head.tag,
            first: head.first,
            reply,
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Send,
    /// The service takes a request; it is busy, or loses it, or not.
    Serve(bool, bool),
    /// The client takes an answer: from the front, from elsewhere, twice, or never.
    Answer(usize, bool, bool),
    /// The connection is lost with all that is on it.
    Reconnect,
    /// Answers of the last connection may still come; time passes.
    Timeout,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..6u64).prop_map(Step::Push),
        4 => Just(Step::Send),
        4 => (prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(busy, lost)| Step::Serve(busy, lost)),
        4 => (0..3usize, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(place, twice, lost)| Step::Answer(place, twice, lost)),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Timeout),
    ]
}

proptest! {
    #[test]
    fn every_event_is_taken_in_order_and_acknowledged_once(
        script in prop::collection::vec(steps(), 0..200), width in 1..5usize, batch in 1..5usize,
    ) {
        let mut window = window(width, batch);
        let mut service = Service::default();
        let (mut requests, mut answers) = (VecDeque::new(), VecDeque::new());
        let mut now = Instant::now();
        let mut acknowledged = 0;
        // After the script everything works, and all must come to its end.
        let rest = (0..5000).map(|n| match n % 4 {
            0 | 1 => Step::Send,
            2 => Step::Serve(false, false),
            _ => Step::Answer(0, false, false),
        });
        for step in script.into_iter().chain(rest) {
            now += Duration::from_millis(100);
            match step {
                Step::Push(events) => push(&mut window, events),
                Step::Send => {
                    if window.timed_out(now) {
                        requests.clear();
                        window.rewind();
                    }
                    let mut out = Vec::new();
                    if window.request(now, &mut out) {
                        requests.push_back(out);
                    }
                }
                Step::Serve(busy, lost) => {
                    if let Some(request) = requests.pop_front().filter(|_| !lost) {
                        answers.push_back(service.take(&request, busy));
                    }
                }
                Step::Answer(place, twice, lost) => {
                    let place = place.min(answers.len().saturating_sub(1));
                    if let Some(answer) = answers.remove(place).filter(|_| !lost) {
                        if twice {
                            answers.push_back(answer.clone());
                        }
                        window.answer(answer, now);
                    }
                }
                Step::Reconnect => {
                    requests.clear();
                    answers.clear();
                    window.rewind();
                }
                Step::Timeout => window.rewind(),
            }
            // Only what the service has is acknowledged, and it has it in order and once.
            let summary = window.summary();
            prop_assert!(summary.acknowledged >= acknowledged);
            acknowledged = summary.acknowledged;
            prop_assert!(acknowledged <= service.log.len() as u64);
            prop_assert_eq!(acknowledged + summary.pending, window.next_number() - 1);
        }
        let all: Vec<_> = (1..window.next_number()).collect();
        prop_assert_eq!(service.log, all);
        prop_assert_eq!(window.summary().pending, 0);
        prop_assert!(window.is_empty());
        prop_assert_eq!(window.bytes, 0);
    }
}
