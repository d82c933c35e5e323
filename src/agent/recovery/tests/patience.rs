//! How long is waited before something is asked for again.

use super::super::*;
use super::rig::*;
use crate::sync::{Packed, Refusal};

/// A topic is being loaded.
fn loading() -> (Rig, u64) {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.step(Input::Wanted("t1".into())));
    (rig, tag)
}

fn again_after(rig: &mut Rig, tag: u64, answer: Answer) -> (Duration, u64) {
    let out = rig.step(Input::Answer(tag, answer));
    assert!(asks(&out).is_empty(), "asked at once: {out:?}");
    let (wait, (tag, _)) = rig.until_asked();
    (wait, tag)
}

fn millis(from: u64, to: u64) -> std::ops::RangeInclusive<Duration> {
    Duration::from_millis(from)..=Duration::from_millis(to)
}

#[test]
fn the_service_says_for_how_long() {
    let (mut rig, tag) = loading();
    let (wait, tag) = again_after(&mut rig, tag, Answer::RetryAfter(1234));
    assert_eq!(wait, Duration::from_millis(1234));
    let (wait, tag) = again_after(&mut rig, tag, Answer::RetryAfter(0));
    assert_eq!(wait, options().retry_min);
    rig.recovery.heads_due = None;
    let (wait, _) = again_after(&mut rig, tag, Answer::RetryAfter(u32::MAX));
    assert_eq!(wait, Duration::from_secs(60));
}

/// Otherwise one of thousands of topics after the other would be asked for, as fast as the service can say
/// that it has no time.
#[test]
fn while_the_service_has_no_time_for_some_it_is_not_asked_for_others() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    rig.recovery.heads_due = None;
    let mut asked = Vec::new();
    for number in 0..1_000 {
        let topic = format!("t{number}");
        asked.extend(asks(&rig.step(Input::Wanted(topic.into()))));
    }
    let mut told = 0;
    while let Some((tag, request)) = asked.pop() {
        assert!(matches!(request, Request::Snapshot { chunk: None, .. }));
        asked.extend(asks(
            &rig.step(Input::Answer(tag, Answer::RetryAfter(1_000))),
        ));
        told += 1;
    }
    assert!((4..8).contains(&told), "{told}");
    // To load is what there is no time for: what was missed is replayed.
    let (tag, request) = ask(&rig.event("D", 12, 11));
    assert!(matches!(request, Request::Replay { .. }), "{request:?}");
    let events = [event(5, "D", 11, 9), event(5, "D", 12, 11)];
    assert!(asks(&rig.replay(tag, (12, 12), &events)).is_empty());
    let told = rig.now;
    let mut asked = asks(&rig.next());
    assert_eq!((rig.now - told, asked.len()), (Duration::from_secs(1), 4));
    let mut loaded = 0;
    while let Some((tag, request)) = asked.pop() {
        asked.extend(asks(&match request {
            Request::Snapshot { .. } => {
                loaded += 1;
                rig.rows(tag, 12, &[])
            }
            _ => rig.replay(tag, (12, 0), &[]),
        }));
    }
    assert_eq!(loaded, 1_000);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn while_the_service_has_no_time_at_all_it_is_asked_nothing() {
    let names: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    let topics: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 9)).collect();
    let mut rig = Rig::live(&topics, 9);
    rig.recovery.heads_due = None;
    let moved: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 12)).collect();
    let mut asked = asks(&rig.hello(12, 9, &moved));
    let mut told = 0;
    while let Some((tag, _)) = asked.pop() {
        asked.extend(asks(&rig.step(Input::Answer(tag, Answer::RetryAfter(500)))));
        told += 1;
    }
    assert!((4..8).contains(&told), "{told}");
    assert!(asks(&rig.step(Input::Wanted("new".into()))).is_empty());
    let told = rig.now;
    assert_eq!(asks(&rig.next()).len(), 4);
    assert_eq!(rig.now - told, Duration::from_millis(500));
}

#[test]
fn what_is_refused_is_not_asked_for_soon() {
    for code in [Refusal::Version, Refusal::Forbidden] {
        let (mut rig, tag) = loading();
        rig.recovery.heads_due = None;
        let reason = String::new();
        let (wait, _) = again_after(&mut rig, tag, Answer::Refused { code, reason });
        assert_eq!(wait, Duration::from_secs(60), "{code:?}");
    }
    let (mut rig, tag) = loading();
    let refused = Answer::Refused {
        code: Refusal::Malformed,
        reason: String::new(),
    };
    assert!(has_note(
        &rig.step(Input::Answer(tag, refused)),
        Note::Refused(Refusal::Malformed)
    ));
    assert!(millis(100, 200).contains(&rig.until_asked().0));
}

#[test]
fn what_is_forbidden_is_shown_and_asked_for_again_when_connected_anew() {
    let (mut rig, tag) = loading();
    rig.recovery.heads_due = None;
    let refused = || Answer::Refused {
        code: Refusal::Forbidden,
        reason: String::new(),
    };
    let told = |out: &[Action]| {
        let told = |action: &&Action| matches!(action, Action::Forbidden(name) if **name == *"t1");
        out.iter().filter(told).count()
    };
    assert_eq!(told(&rig.step(Input::Answer(tag, refused()))), 1);
    let standing = rig.recovery.standing();
    assert_eq!((standing.forbidden, standing.behind), (1, 1));
    assert_eq!(rig.recovery.forbidden(9), ["t1".into()]);
    let (wait, (tag, _)) = rig.until_asked();
    assert_eq!(wait, Duration::from_secs(60));
    // It is said once.
    assert_eq!(told(&rig.step(Input::Answer(tag, refused()))), 0);
    rig.step(Input::Down);
    rig.step(Input::Up { again: true });
    let (tag, request) = ask(&rig.hello(9, 9, &[]));
    assert!(matches!(request, Request::Snapshot { .. }), "{request:?}");
    let out = rig.rows(tag, 9, &[]);
    let (tag, _) = ask(&out);
    rig.replay(tag, (9, 0), &[]);
    assert_eq!(rig.recovery.standing().forbidden, 0);
    assert!(rig.recovery.is_in_sync());
}

/// Where a node may have nothing at all, its heads are refused too.
#[test]
fn what_is_forbidden_is_shown_where_everything_is() {
    let mut rig = Rig::new(vec![positions(5, &[("D", 9)])]);
    rig.want(&[("D", 9)]);
    rig.up();
    let refused = || Answer::Refused {
        code: Refusal::Forbidden,
        reason: String::new(),
    };
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    let out = rig.step(Input::Answer(tag, refused()));
    assert!(has_note(&out, Note::Refused(Refusal::Forbidden)));
    let (tag, request) = ask(&out);
    assert!(matches!(request, Request::Replay { after: 9, .. }));
    rig.step(Input::Answer(tag, refused()));
    assert_eq!(rig.recovery.forbidden(9), ["D".into()]);
    assert!(!rig.recovery.is_in_sync());
    // It may have it now.
    rig.step(Input::Down);
    rig.step(Input::Up { again: true });
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    rig.replay(tag, (9, 9), &[]);
    assert!(rig.recovery.is_in_sync());
}

/// Of a topic that it may not have an agent is told that it is behind. That is no claim that could
/// keep the topic from being in sync when it may have it.
#[test]
fn what_was_said_of_a_forbidden_topic_counts_no_longer() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 8)], 9);
    rig.recovery.heads_due = Some(rig.now);
    let (tag, _) = ask(&rig.step(Input::Tick));
    let (tag, request) = ask(&rig.heads(tag, &[("t1", 1 << 40)]));
    assert!(matches!(request, Request::Replay { .. }), "{request:?}");
    let code = Refusal::Forbidden;
    let reason = String::new();
    rig.step(Input::Answer(tag, Answer::Refused { code, reason }));
    assert!(!rig.recovery.is_in_sync());
    rig.step(Input::Down);
    rig.step(Input::Up { again: true });
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    rig.replay(tag, (9, 8), &[]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_service_that_does_not_answer_is_asked_less_and_less() {
    let (mut rig, _) = loading();
    let mut waits = Vec::new();
    for _ in 0..12 {
        rig.recovery.heads_due = None;
        let asked = rig.now;
        let out = rig.next();
        assert_eq!(rig.now - asked, options().ask_timeout);
        assert!(has_note(&out, Note::Unanswered) && asks(&out).is_empty());
        waits.push(rig.until_asked().0);
    }
    assert!(millis(100, 200).contains(&waits[0]));
    assert!(waits[4] > Duration::from_secs(1), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= options().retry_max));
    assert!(waits[11] >= options().retry_max / 2, "{waits:?}");
}

/// The line is given up with the one that is late, so no other can be answered on it.
#[test]
fn with_one_late_question_all_are_asked_again() {
    let (mut rig, first) = loading();
    rig.recovery.heads_due = None;
    rig.now += options().ask_timeout / 2;
    let (second, _) = ask(&rig.step(Input::Wanted("t2".into())));
    let out = rig.next();
    let late = |action: &&Action| matches!(action, Action::Note(Note::Unanswered));
    assert_eq!(out.iter().filter(late).count(), 1);
    let given_up = rig.now;
    let again = asks(&rig.next());
    assert!(rig.now - given_up < options().ask_timeout / 2);
    assert_eq!(again.len(), 2);
    assert!(rig.rows(first, 3, &[]).is_empty() && rig.rows(second, 3, &[]).is_empty());
    for (tag, _) in again {
        let (tag, _) = ask(&rig.rows(tag, 9, &[]));
        rig.replay(tag, (9, 9), &[]);
    }
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn an_answer_that_comes_too_late_is_passed_over() {
    let (mut rig, tag) = loading();
    rig.next();
    assert!(rig.rows(tag, 3, &[]).is_empty());
    assert_eq!(rig.recovery.standing().behind, 1);
}

#[test]
fn a_broken_snapshot_is_asked_for_less_and_less() {
    let (mut rig, mut tag) = loading();
    let mut waits = Vec::new();
    for _ in 0..8 {
        rig.recovery.heads_due = None;
        // Each begins well.
        let (second, request) = ask(&rig.chunk(tag, (0, 2), 3, Packed::default(), None));
        assert!(matches!(
            request,
            Request::Snapshot {
                chunk: Some((3, 1)),
                ..
            }
        ));
        let out = rig.chunk(second, (1, 2), 3, Packed::default(), Some((1, 1)));
        assert!(has_note(&out, Note::BadDigest) && asks(&out).is_empty());
        let (wait, (next, request)) = rig.until_asked();
        assert!(matches!(request, Request::Snapshot { chunk: None, .. }));
        waits.push(wait);
        tag = next;
    }
    assert!(millis(100, 200).contains(&waits[0]));
    assert!(waits[7] > Duration::from_secs(5), "{waits:?}");
    // One that is whole ends that.
    let (tag, _) = ask(&rig.rows(tag, 3, &[]));
    rig.replay(tag, (9, 3), &[]);
    assert!(rig.recovery.is_in_sync());
    let (tag, _) = ask(&rig.event("D", 12, 11));
    let (wait, _) = again_after(&mut rig, tag, Answer::Lapsed);
    assert!(millis(100, 200).contains(&wait), "{wait:?}");
}

#[test]
fn a_snapshot_whose_events_are_gone_is_not_fetched_over_and_over() {
    let (mut rig, tag) = loading();
    let (tag, _) = ask(&rig.rows(tag, 3, &[]));
    let out = rig.gone(tag);
    assert!(has_note(&out, Note::Gone) && asks(&out).is_empty());
    let (wait, (_, request)) = rig.until_asked();
    assert!(millis(100, 200).contains(&wait));
    assert!(matches!(request, Request::Snapshot { chunk: None, .. }));
}

#[test]
fn answers_that_do_not_fit_are_no_answers() {
    let replay = |upto, last, events: &[EventBatch]| Answer::Events {
        incarnation: 5,
        upto,
        last,
        events: packed(events),
    };
    let foreign = {
        let mut stamp = event(5, "D", 12, 9).get(0).unwrap().stamp.unwrap();
        stamp.publisher = [8; 16];
        let event = crate::event::Event::set("t", "k", "v").on("D");
        [crate::event::Event {
            stamp: Some(stamp),
            ..event
        }]
        .into_iter()
        .collect()
    };
    let unstamped: EventBatch = [crate::event::Event::set("t", "k", "v").on("D")]
        .into_iter()
        .collect();
    let nameless = |table, key| -> EventBatch {
        let stamp = event(5, "D", 12, 9).get(0).unwrap().stamp;
        let event = crate::event::Event::set(table, key, "v").on("D");
        [crate::event::Event { stamp, ..event }]
            .into_iter()
            .collect()
    };
    let mut garbage = Packed::default();
    garbage.push(b"x");
    let wrong = [
        // Leads nowhere.
        replay(9, 12, &[]),
        replay(8, 12, &[]),
        // Claims to be whole and is not.
        replay(12, 12, &[]),
        // Does not follow.
        replay(12, 12, &[event(5, "D", 12, 11)]),
        replay(12, 12, &[event(5, "D", 9, 9)]),
        replay(11, 12, &[event(5, "D", 9, 9)]),
        // Is beyond what it says.
        replay(11, 12, &[event(5, "D", 12, 9)]),
        // Is another's.
        replay(12, 12, &[event(4, "D", 12, 9)]),
        replay(12, 12, &[event(5, "t1", 12, 9)]),
        replay(12, 12, &[foreign]),
        replay(12, 12, &[unstamped]),
        // Names no row.
        replay(12, 12, &[nameless("", "k")]),
        replay(12, 12, &[nameless("t", "")]),
        Answer::Events {
            incarnation: 5,
            upto: 12,
            last: 12,
            events: garbage,
        },
        // Answers another question.
        Answer::Lapsed,
        Answer::Heads {
            incarnation: 5,
            head: 1,
            behind: vec![],
        },
    ];
    for answer in wrong {
        let mut rig = Rig::live(&[("D", 9)], 9);
        let (tag, _) = ask(&rig.event("D", 12, 11));
        let what = format!("{answer:?}");
        let out = rig.step(Input::Answer(tag, answer));
        assert!(has_note(&out, Note::BadAnswer), "{what}");
        assert!(
            applied(&out).is_empty() && asks(&out).is_empty(),
            "{what}: {out:?}"
        );
        // What came so far is void.
        let (_, (_, request)) = rig.until_asked();
        assert!(matches!(request, Request::Snapshot { .. }), "{what}");
    }
}

#[test]
fn chunks_that_do_not_fit_are_no_answers() {
    for (chunk, chunks) in [(1, 2), (0, 0), (2, 1)] {
        let (mut rig, tag) = loading();
        let out = rig.chunk(tag, (chunk, chunks), 3, Packed::default(), Some((0, 0)));
        assert!(has_note(&out, Note::BadAnswer), "{chunk} of {chunks}");
        assert!(asks(&out).is_empty());
    }
    let (mut rig, tag) = loading();
    let (second, _) = ask(&rig.chunk(tag, (0, 3), 3, Packed::default(), None));
    let out = rig.chunk(second, (2, 3), 3, Packed::default(), Some((0, 0)));
    assert!(has_note(&out, Note::BadAnswer) && asks(&out).is_empty());
}

#[test]
fn a_round_from_time_to_time_is_no_reason_for_doubt() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (wait, (tag, request)) = rig.until_asked();
    assert!(matches!(request, Request::Heads { .. }));
    assert!(millis(30_000, 60_000).contains(&wait), "{wait:?}");
    assert!(rig.recovery.is_in_sync());
    rig.heads(tag, &[]);
    // It finds a subscription that was lost.
    let (_, (tag, _)) = rig.until_asked();
    ask(&rig.heads(tag, &[("D", 11)]));
    assert!(!rig.recovery.is_in_sync());
}

#[test]
fn rounds_are_spread_over_time() {
    let mut waits = Vec::new();
    for seed in 0..200 {
        let mut rig = Rig::live(&[("D", 9)], 9);
        rig.recovery.rng = Rng::with_seed(seed);
        let (_, (tag, _)) = rig.until_asked();
        rig.heads(tag, &[]);
        waits.push(rig.until_asked().0);
    }
    waits.sort();
    let (first, last) = (waits[0], waits[199]);
    assert!(millis(30_000, 32_000).contains(&first), "{first:?}");
    assert!(millis(58_000, 60_000).contains(&last), "{last:?}");
}

#[test]
fn a_round_that_is_not_answered_is_not_asked_twice_over() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    rig.until_asked();
    let mut asked = 0;
    let end = rig.now + Duration::from_secs(600);
    while rig.now < end {
        asked += asks(&rig.next()).len();
    }
    assert!((10..40).contains(&asked), "{asked}");
}

#[test]
fn what_was_under_way_when_the_service_was_lost_is_asked_for_again() {
    let (mut rig, _) = loading();
    assert!(rig.step(Input::Lost).is_empty());
    let (wait, _) = rig.until_asked();
    assert!(millis(100, 200).contains(&wait), "{wait:?}");
    // Nothing was under way: that is no failure.
    let mut rig = Rig::live(&[("D", 9)], 9);
    (0..10).for_each(|_| drop(rig.step(Input::Lost)));
    let (tag, _) = ask(&rig.step(Input::Wanted("t1".into())));
    let (wait, _) = again_after(&mut rig, tag, Answer::Lapsed);
    assert!(millis(100, 200).contains(&wait), "{wait:?}");
}

#[test]
fn nothing_is_asked_without_a_connection() {
    let (mut rig, tag) = loading();
    rig.step(Input::Down);
    let mut asked = Vec::new();
    for _ in 0..3 {
        if rig.recovery.deadline().is_some() {
            asked.extend(asks(&rig.next()));
        }
    }
    assert!(asked.is_empty());
    assert_eq!(rig.recovery.deadline(), None, "nothing to wake up for");
    assert!(rig.rows(tag, 1, &[]).is_empty());
    assert!(rig.step(Input::Up { again: true }).is_empty());
    assert!(!asks(&rig.hello(9, 9, &[])).is_empty());
}
