//! Publishers that cannot be asked: without a sync service, or without hellos.

use super::super::*;
use super::rig::*;

fn hello(rig: &mut Rig, head: u64, recent: &[(&str, u64)]) -> Vec<Action> {
    let hello = Hello {
        sync_endpoint: String::new(),
        ..rig.said(head, head.saturating_sub(1), recent)
    };
    rig.step(Input::Hello(hello))
}

fn blind() -> Rig {
    let mut rig = Rig::new(vec![]);
    rig.want(&[("D", 0)]);
    rig.up();
    assert!(!rig.recovery.is_in_sync());
    let out = hello(&mut rig, 9, &[]);
    assert!(has_note(&out, Note::CannotRepair) && asks(&out).is_empty());
    rig
}

#[test]
fn without_a_service_what_comes_is_followed_with_holes() {
    let mut rig = blind();
    assert!(rig.recovery.is_in_sync(), "there is nothing to wait for");
    let out = rig.event("D", 12, 11);
    assert!(has_note(&out, Note::CannotRepair));
    assert_eq!(applied(&out), [12]);
    assert_eq!(applied(&rig.event("D", 13, 12)), [13]);
    assert!(has_note(&rig.event("D", 13, 12), Note::Duplicate));
    let out = hello(&mut rig, 20, &[("D", 20)]);
    assert!(has_note(&out, Note::Gap) && has_note(&out, Note::CannotRepair));
    assert!(asks(&out).is_empty() && rig.recovery.is_in_sync());
    assert_eq!(applied(&rig.event("D", 21, 20)), [21]);
    // A position would say that all before it is here.
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[])));
}

/// Where what contradicts itself is taken for want of better, it must not take the position back.
#[test]
fn without_a_service_nothing_is_taken_twice() {
    let mut rig = blind();
    assert_eq!(applied(&rig.event("D", 12, 11)), [12]);
    for seq in [12, 11] {
        let out = rig.event("D", seq, seq);
        assert!(has_note(&out, Note::Duplicate) && applied(&out).is_empty());
    }
    assert_eq!(applied(&rig.event("D", 13, 12)), [13]);
}

#[test]
fn a_topic_that_is_wanted_where_nobody_can_be_asked_is_followed_at_once() {
    let mut rig = blind();
    let out = rig.step(Input::Wanted("t1".into()));
    assert!(has_note(&out, Note::CannotRepair) && rig.recovery.is_in_sync());
    assert_eq!(applied(&rig.event("t1", 12, 11)), [12]);
    // So is what a new life begins with.
    rig.incarnation = 6;
    assert_eq!(applied(&rig.event("t1", 3, 0)), [3]);
}

#[test]
fn what_was_held_for_a_service_that_does_not_come_is_handed_on() {
    let mut rig = Rig::new(vec![]);
    rig.want(&[("D", 0)]);
    rig.up();
    assert!(applied(&rig.event("D", 12, 11)).is_empty());
    assert!(applied(&rig.event("D", 14, 13)).is_empty());
    // Once more, with what cannot be: nobody looks at it before.
    assert!(applied(&rig.event("D", 14, 12)).is_empty());
    assert!(applied(&rig.event("D", 13, 12)).is_empty());
    assert_eq!(applied(&hello(&mut rig, 14, &[])), [12, 14]);
    assert_eq!(rig.recovery.standing().held_bytes, 0);
    assert!(applied(&rig.event("D", 14, 13)).is_empty());
    assert_eq!(applied(&rig.event("D", 15, 14)), [15]);
}

#[test]
fn what_was_missed_without_a_service_is_loaded_once_there_is_one() {
    let mut rig = blind();
    let (tag, request) = ask(&rig.hello(9, 9, &[]));
    assert!(matches!(request, Request::Snapshot { .. }));
    assert_eq!(rig.recovery.standing().behind, 1);
    let (tag, _) = ask(&rig.rows(tag, 9, &[]));
    rig.replay(tag, (9, 9), &[]);
    assert!(rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[("D", 9)])));
}

/// A gap may have been noticed before the service was known: what is before it is missing too.
#[test]
fn what_was_missed_without_a_service_is_loaded_though_something_is_replayed() {
    let mut rig = blind();
    assert_eq!(applied(&rig.event("D", 12, 11)), [12]);
    rig.step(Input::Down);
    rig.step(Input::Up { again: true });
    assert!(has_note(&rig.event("D", 15, 14), Note::Gap));
    let (_, request) = ask(&rig.hello(15, 12, &[("D", 15)]));
    assert!(matches!(request, Request::Snapshot { .. }), "{request:?}");
    assert_eq!(rig.recovery.standing().behind, 1);
}

/// The snapshot may be an older one, and what came after it was taken with a hole.
#[test]
fn an_old_snapshot_takes_back_what_was_followed_with_holes() {
    let mut rig = blind();
    assert_eq!(applied(&rig.event("D", 12, 11)), [12]);
    let (tag, _) = ask(&rig.hello(12, 9, &[("D", 12)]));
    let (_, request) = ask(&rig.rows(tag, 9, &[]));
    assert!(
        matches!(request, Request::Replay { after: 9, .. }),
        "{request:?}"
    );
}

#[test]
fn a_service_that_vanishes_leaves_nothing_waiting() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 7)], 9);
    ask(&rig.event("D", 12, 11));
    let out = hello(&mut rig, 12, &[]);
    assert!(
        out.iter()
            .any(|action| matches!(action, Action::Endpoint(None)))
    );
    assert_eq!(applied(&out), [12]);
    let standing = rig.recovery.standing();
    assert_eq!(
        (standing.in_sync, standing.behind, standing.held_bytes),
        (true, 0, 0)
    );
}

#[test]
fn what_nothing_is_missing_of_keeps_its_position_without_a_service() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let out = hello(&mut rig, 9, &[]);
    assert!(!has_note(&out, Note::CannotRepair));
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[("D", 9)])));
    // It is missed by a hello that leaves something out, and then it is not known any more.
    let missed = Hello {
        sync_endpoint: String::new(),
        ..rig.said(20, 15, &[])
    };
    assert!(has_note(
        &rig.step(Input::Hello(missed)),
        Note::CannotRepair
    ));
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[])));
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_legacy_publisher_is_in_sync_while_connected_and_resynced_after_a_break() {
    let mut rig = Rig::new(vec![]);
    rig.want(&[("D", 0)]);
    rig.up();
    rig.step(Input::Legacy);
    assert!(rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.standing().proved, None, "nothing proves it");
    rig.step(Input::Down);
    assert!(!rig.recovery.is_in_sync());
    let out = rig.step(Input::Up { again: true });
    assert!(matches!(
        out.as_slice(),
        [Action::Resync(SyncReason::Reconnected)]
    ));
    assert!(rig.step(Input::Up { again: false }).is_empty());
    // It was replaced by one that says hello.
    ask(&rig.hello(3, 3, &[]));
    assert!(!rig.recovery.is_in_sync());
    rig.step(Input::Down);
    assert!(rig.step(Input::Up { again: true }).is_empty());
}

/// Its hellos are lost, or cannot be read.
#[test]
fn what_is_stamped_by_one_that_says_no_hello_is_followed_with_holes() {
    let mut rig = Rig::new(vec![positions(5, &[("t1", 4)])]);
    rig.want(&[("D", 0), ("t1", 4)]);
    rig.up();
    assert!(rig.step(Input::Legacy).is_empty(), "it may have no stamps");
    let out = rig.event("D", 12, 11);
    assert!(has_note(&out, Note::CannotRepair));
    assert_eq!(applied(&out), [12]);
    assert_eq!(applied(&rig.event("D", 13, 12)), [13]);
    // So is what comes of a new life.
    rig.incarnation = 6;
    assert_eq!(applied(&rig.event("D", 21, 20)), [21]);
    assert_eq!(rig.recovery.standing().held_bytes, 0);
    assert_eq!(rig.recovery.positions(), Some(positions(6, &[])));
    // With a hello all is loaded, though its service is the one that was asked before.
    let out = rig.hello(21, 21, &[]);
    assert_eq!(asks(&out).len(), 2);
    assert!(!rig.recovery.is_in_sync());
    let snapshot = |(_, request): &(u64, Request)| matches!(request, Request::Snapshot { .. });
    assert!(asks(&out).iter().all(snapshot));
}

#[test]
fn questions_that_cannot_be_answered_any_more_are_given_up() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.event("D", 12, 11));
    rig.step(Input::Down);
    rig.step(Input::Up { again: true });
    let out = rig.step(Input::Legacy);
    assert!(has_note(&out, Note::CannotRepair));
    assert_eq!(applied(&out), [12]);
    let out = rig.replay(tag, (11, 11), &[event(5, "D", 11, 9)]);
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(rig.recovery.standing().behind, 0);
    rig.hello(12, 12, &[]);
    let (_, (_, request)) = rig.until_asked();
    assert!(matches!(request, Request::Snapshot { .. }));
}

/// The link is read until the next one is made.
#[test]
fn a_hello_from_before_the_connection_was_lost_does_not_connect_it() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    rig.step(Input::Down);
    let out = rig.hello(12, 9, &[("D", 12)]);
    assert!(asks(&out).is_empty() && !rig.recovery.is_in_sync());
    assert!(!rig.recovery.standing().in_sync);
    rig.step(Input::Up { again: true });
    assert!(!rig.recovery.is_in_sync());
    let (tag, _) = ask(&rig.hello(12, 12, &[]));
    rig.replay(tag, (12, 12), &[event(5, "D", 12, 9)]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn what_is_held_is_bounded_and_what_is_not_held_is_fetched() {
    let options = Options {
        held_bytes: 1000,
        ..options()
    };
    let mut rig = Rig::with(options, vec![positions(5, &[("D", 9)])]);
    rig.want(&[("D", 9)]);
    rig.up();
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    rig.heads(tag, &[]);
    let (tag, _) = ask(&rig.event("D", 12, 11));
    let mut not_held = 0;
    for seq in 13..40 {
        not_held += usize::from(has_note(&rig.event("D", seq, seq - 1), Note::NotHeld));
    }
    assert!((15..27).contains(&not_held), "{not_held}");
    assert!((500..=1000).contains(&rig.recovery.standing().held_bytes));
    let out = rig.replay(tag, (11, 11), &[event(5, "D", 11, 9)]);
    assert!(applied(&out).len() > 2);
    let (_, request) = ask(&out);
    assert!(matches!(request, Request::Replay { .. }));
    assert_eq!(rig.recovery.standing().held_bytes, 0);
}
