//! Incarnations, and other publishers.

use super::super::lives::MAX_KEPT;
use super::super::*;
use super::rig::*;

#[test]
fn a_lower_incarnation_is_not_heard() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    rig.incarnation = 4;
    let out = rig.hello(100, 100, &[("D", 100)]);
    assert!(
        has_note(&out, Note::LowerIncarnation) && out.len() == 1,
        "{out:?}"
    );
    let out = rig.event("D", 10, 9);
    assert!(has_note(&out, Note::LowerIncarnation) && applied(&out).is_empty());
    assert_eq!(rig.recovery.standing().life, Some(life(5)));
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn nor_is_one_that_is_lower_than_what_was_kept() {
    let mut rig = Rig::new(vec![positions(5, &[("D", 9)])]);
    rig.want(&[("D", 9)]);
    rig.up();
    rig.incarnation = 4;
    assert!(has_note(&rig.hello(9, 9, &[]), Note::LowerIncarnation));
    assert_eq!(rig.recovery.positions(), None);
}

#[test]
fn nor_is_one_that_is_lower_than_the_highest_of_several_that_were_kept() {
    let mut rig = Rig::new(vec![positions(5, &[("D", 9)]), positions(6, &[("D", 2)])]);
    rig.want(&[("D", 9)]);
    rig.up();
    assert!(has_note(&rig.hello(9, 9, &[]), Note::LowerIncarnation));
    rig.incarnation = 6;
    assert!(!has_note(&rig.hello(2, 2, &[]), Note::NewIncarnation));
    assert_eq!(rig.recovery.positions(), Some(positions(6, &[("D", 2)])));
}

/// A publisher that is behind what it sent is told by our positions.
#[test]
fn a_head_that_went_back_is_asked_about() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let out = rig.hello(7, 7, &[]);
    assert!(!rig.recovery.is_in_sync());
    let (tag, request) = ask(&out);
    let topics = vec![("D".to_owned(), 9)];
    assert_eq!(
        request,
        Request::Heads {
            incarnation: 5,
            topics
        }
    );
    rig.heads(tag, &[]);
    assert!(rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[("D", 9)])));
}

#[test]
fn a_higher_incarnation_makes_all_positions_void() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (old, _) = ask(&rig.event("D", 12, 11));
    rig.incarnation = 6;
    let out = rig.event("D", 2, 1);
    assert!(has_note(&out, Note::NewIncarnation) && applied(&out).is_empty());
    let (_, request) = ask(&out);
    assert!(matches!(request, Request::Snapshot { .. }));
    assert!(
        rig.step(Input::Answer(old, Answer::Gone { incarnation: 5 }))
            .is_empty()
    );
    assert_eq!(rig.recovery.positions(), Some(positions(6, &[])));
    assert_eq!(rig.recovery.standing().head, 0);
}

#[test]
fn what_is_asked_again_does_not_outlive_the_life_it_was_asked_in() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.event("D", 12, 11));
    rig.step(Input::Answer(tag, Answer::RetryAfter(500)));
    rig.incarnation = 6;
    let (tag, _) = ask(&rig.hello(2, 2, &[]));
    let (tag, _) = ask(&rig.rows(tag, 2, &[]));
    rig.replay(tag, (2, 2), &[]);
    assert!(rig.recovery.is_in_sync());
    rig.now += Duration::from_secs(1);
    assert!(rig.step(Input::Tick).is_empty());
}

#[test]
fn an_answer_begins_no_life() {
    // It may be another publisher's, whose service stood at the same address: its incarnation would
    // make the present publisher's look low for ever.
    for incarnation in [4, 99] {
        let mut rig = Rig::live(&[("D", 9)], 9);
        let (tag, _) = ask(&rig.event("D", 12, 11));
        let out = rig.step(Input::Answer(tag, Answer::Gone { incarnation }));
        assert!(has_note(&out, Note::BadAnswer) && asks(&out).is_empty());
        assert_eq!(rig.recovery.standing().life, Some(life(5)));
        // Nothing of what is here is in doubt.
        let (_, (_, request)) = rig.until_asked();
        assert!(matches!(request, Request::Replay { after: 9, .. }));
    }
}

#[test]
fn another_publisher_is_not_served_by_the_one_before_who_may_come_back() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    assert_eq!(applied(&rig.event("D", 10, 9)), [10]);
    let other = |head| Hello {
        publisher: [8; 16],
        incarnation: 2,
        head,
        since: head,
        sync_endpoint: "tcp://other".into(),
        ..Hello::default()
    };
    // First an event of it: its service is not known yet.
    let mut stamp = event(2, "D", 3, 0).get(0).unwrap().stamp.unwrap();
    stamp.publisher = [8; 16];
    let first = crate::event::Event {
        stamp: Some(stamp),
        ..crate::event::Event::set("t", "k", "v").on("D")
    };
    let out = rig.step(Input::Events([first].into_iter().collect()));
    assert!(
        has_note(&out, Note::OtherPublisher) && asks(&out).is_empty(),
        "{out:?}"
    );
    let out = rig.step(Input::Hello(other(3)));
    let endpoint = Action::Endpoint(Some("tcp://other".into()));
    assert!(
        out.iter()
            .any(|action| format!("{action:?}") == format!("{endpoint:?}"))
    );
    assert!(matches!(ask(&out).1, Request::Snapshot { .. }));
    // Then the first one is back: its position is where it was left.
    let out = rig.hello(10, 10, &[]);
    assert!(has_note(&out, Note::OtherPublisher));
    let (tag, request) = ask(&out);
    let topics = vec![("D".to_owned(), 10)];
    assert_eq!(
        request,
        Request::Heads {
            incarnation: 5,
            topics
        }
    );
    rig.heads(tag, &[]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn publishers_that_were_met_are_remembered_up_to_a_bound() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    for publisher in 0..200u128 {
        rig.step(Input::Hello(Hello {
            publisher: publisher.to_be_bytes(),
            incarnation: 1,
            ..Hello::default()
        }));
    }
    assert_eq!(rig.recovery.kept.len(), MAX_KEPT);
    // Each once.
    for publisher in [1u128, 2, 1, 2, 1] {
        rig.step(Input::Hello(Hello {
            publisher: publisher.to_be_bytes(),
            incarnation: 1,
            ..Hello::default()
        }));
    }
    let mut ids: Vec<_> = rig
        .recovery
        .kept
        .iter()
        .map(|kept| kept.life.publisher)
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), rig.recovery.kept.len());
}

#[test]
fn a_chain_that_cannot_be_makes_the_topic_unknown() {
    for (seq, prev) in [(12, 8), (12, 12), (13, 14)] {
        let mut rig = Rig::live(&[("D", 9)], 9);
        let out = rig.event("D", seq, prev);
        assert!(has_note(&out, Note::BrokenChain), "{seq} after {prev}");
        assert!(applied(&out).is_empty());
        let (tag, request) = ask(&out);
        assert!(matches!(request, Request::Snapshot { .. }));
        let standing = rig.recovery.standing();
        assert_eq!((standing.behind, standing.held_bytes), (1, 0));
        // What was believed of it is void too.
        let (_, request) = ask(&rig.rows(tag, 4, &[]));
        assert!(matches!(request, Request::Replay { after: 4, .. }));
    }
}

#[test]
fn an_event_that_is_not_stamped_goes_on_as_it_is() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let plain = crate::event::Event::set("t", "k", "v").on("D");
    let out = rig.step(Input::Events([plain].into_iter().collect()));
    assert!(matches!(out.as_slice(), [Action::Apply(batch)] if batch.len() == 1));
}

/// A row of the publisher's next life may have come through another one that has it: a snapshot of the
/// life before does not end it.
#[test]
fn a_snapshot_ends_nothing_that_is_newer() {
    use crate::replica::Replica;
    let sweep = Sweep {
        life: life(5),
        topic: "t".into(),
        complete_since: 4,
        seq: 10,
        has: [name_hash("t", "has")].into(),
    };
    let ends = |key: &str, topic: &str, publisher: [u8; 16], incarnation: u64, seq: u64| {
        let stamp = crate::event::Stamp {
            publisher,
            incarnation,
            seq,
            prev: 0,
            version: 1,
            unix_micros: 1,
        };
        let event = crate::event::Event {
            stamp: Some(stamp),
            ..crate::event::Event::set("t", key, "v").on(topic)
        };
        let mut replica = Replica::new();
        replica.apply(&event, Instant::now());
        let name = replica.name("t", key).unwrap();
        let row = replica.get("t", key).unwrap();
        sweep.ends(&name, row)
    };
    for (incarnation, seq, expected) in [
        (5, 10, true),
        (5, 11, false),
        (4, 99, true),
        // Not vouched for.
        (3, 1, false),
        (6, 1, false),
    ] {
        let found = ends("k", "t", PUBLISHER, incarnation, seq);
        assert_eq!(found, expected, "{incarnation}, {seq}");
    }
    assert!(!ends("has", "t", PUBLISHER, 5, 1));
    assert!(!ends("k", "other", PUBLISHER, 5, 1));
    assert!(!ends("k", "t", [1; 16], 5, 1));
}

/// A step ends in the middle, and what it had to hand on with it.
#[test]
fn after_a_panic_every_topic_is_loaded_again() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 4)], 9);
    // These are never handed on, and the answer to that is passed over.
    let lost = rig.event("D", 10, 9);
    assert_eq!(applied(&lost), [10]);
    let (tag, _) = ask(&rig.event("t1", 12, 11));
    assert!(asks(&rig.step(Input::Anew)).is_empty());
    assert!(!rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.standing().held_bytes, 0);
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[])));
    assert!(rig.replay(tag, (12, 12), &[]).is_empty());
    rig.up();
    let out = rig.hello(12, 9, &[]);
    let snapshot = |(_, request): &(u64, Request)| matches!(request, Request::Snapshot { .. });
    assert_eq!(asks(&out).iter().filter(|asked| snapshot(asked)).count(), 2);
    // It is known all the same.
    rig.incarnation = 4;
    assert!(has_note(&rig.event("D", 13, 12), Note::LowerIncarnation));
}
