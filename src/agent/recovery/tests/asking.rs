//! What is asked, and above all what is not.

use super::super::*;
use super::rig::*;

#[test]
fn a_clean_restart_of_the_publisher_costs_no_question() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 7)], 9);
    rig.step(Input::Down);
    assert!(!rig.recovery.is_in_sync());
    assert!(rig.step(Input::Up { again: true }).is_empty());
    assert!(
        !rig.recovery.is_in_sync(),
        "nothing proves it before a hello"
    );
    assert!(rig.hello(9, 9, &[]).is_empty());
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_checkpoint_of_an_unchanged_world_costs_one_round_of_heads() {
    let mut rig = Rig::new(vec![positions(5, &[("D", 9), ("t1", 7)])]);
    rig.want(&[("D", 9), ("t1", 7)]);
    rig.up();
    let out = rig.hello(9, 9, &[]);
    assert!(!has_note(&out, Note::NewIncarnation));
    let (tag, request) = ask(&out);
    let Request::Heads {
        incarnation,
        mut topics,
    } = request
    else {
        panic!("{request:?}")
    };
    topics.sort();
    assert_eq!(
        (incarnation, topics),
        (5, vec![("D".into(), 9), ("t1".into(), 7)])
    );
    assert!(!rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.standing().proved, None);
    assert!(rig.heads(tag, &[]).is_empty());
    assert!(rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.standing().proved, Some(rig.now));
    assert_eq!(
        rig.recovery.positions(),
        Some(positions(5, &[("D", 9), ("t1", 7)]))
    );
}

#[test]
fn a_hello_that_is_newer_costs_one_replay() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let proved = rig.recovery.standing().proved;
    rig.now += Duration::from_secs(1);
    let out = rig.hello(11, 9, &[("D", 11), ("other", 10)]);
    assert!(has_note(&out, Note::Gap));
    let (tag, request) = ask(&out);
    let topic = "D".to_owned();
    assert_eq!(
        request,
        Request::Replay {
            incarnation: 5,
            topic,
            after: 9
        }
    );
    let standing = rig.recovery.standing();
    assert_eq!(
        (standing.in_sync, standing.behind, standing.head),
        (false, 1, 11)
    );
    assert_eq!(
        (standing.proved, standing.hello_at),
        (proved, Some(rig.now))
    );
    // The hello is said once more: it is being asked for already.
    assert!(asks(&rig.hello(11, 11, &[("D", 11)])).is_empty());
    let out = rig.replay(tag, (11, 11), &[event(5, "D", 11, 9)]);
    assert_eq!((applied(&out), asks(&out)), (vec![11], vec![]));
    assert!(has_note(&out, Note::Replayed(1)));
    assert!(rig.recovery.is_in_sync());
    assert_eq!(rig.recovery.standing().proved, Some(rig.now));
}

#[test]
fn events_in_order_cost_nothing_and_duplicates_are_dropped() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let out = rig.event("D", 10, 9);
    assert_eq!((applied(&out), out.len()), (vec![10], 1));
    let out = rig.event("D", 10, 9);
    assert!(has_note(&out, Note::Duplicate));
    assert_eq!((applied(&out), asks(&out)), (vec![], vec![]));
    // Of a batch only what is new goes on.
    let both = event(5, "D", 10, 9)
        .iter()
        .chain(event(5, "D", 12, 10).iter())
        .collect();
    assert_eq!(applied(&rig.step(Input::Events(both))), [12]);
    assert!(applied(&rig.event("unknown", 13, 0)).is_empty());
    assert!(rig.hello(12, 9, &[("D", 12)]).is_empty());
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_missed_hello_costs_one_round() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 7)], 9);
    let (tag, request) = ask(&rig.hello(20, 15, &[]));
    assert!(matches!(request, Request::Heads { .. }));
    // Another one while the first is under way: a second round follows, not a third.
    assert!(asks(&rig.hello(30, 25, &[])).is_empty());
    assert!(asks(&rig.hello(40, 35, &[])).is_empty());
    let (tag, _) = ask(&rig.heads(tag, &[]));
    assert!(!rig.recovery.is_in_sync());
    assert!(rig.heads(tag, &[]).is_empty());
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn an_overflow_costs_one_round_unless_nothing_was_sent() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let hello = |rig: &Rig, head| Hello {
        overflow: true,
        ..rig.said(head, 9, &[])
    };
    let unchanged = hello(&rig, 9);
    assert!(rig.step(Input::Hello(unchanged)).is_empty());
    let more = hello(&rig, 12);
    let (tag, _) = ask(&rig.step(Input::Hello(more)));
    let (_, request) = ask(&rig.heads(tag, &[("D", 12), ("other", 11)]));
    assert!(matches!(request, Request::Replay { after: 9, .. }));
}

#[test]
fn a_claim_that_nothing_meets_costs_one_question() {
    // As when another topic has the same hash.
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.hello(11, 9, &[("D", 11)]));
    assert!(asks(&rig.replay(tag, (11, 9), &[])).is_empty());
    assert!(rig.recovery.is_in_sync());
    assert_eq!(applied(&rig.event("D", 12, 9)), [12]);
}

#[test]
fn a_replay_that_is_older_than_the_claim_is_followed_by_another() {
    // The service gives the same last events to all who ask within a moment.
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.hello(14, 9, &[("D", 14)]));
    let out = rig.replay(tag, (12, 12), &[event(5, "D", 12, 9)]);
    assert!(!rig.recovery.is_in_sync());
    let (tag, request) = ask(&out);
    assert!(matches!(request, Request::Replay { after: 12, .. }));
    rig.replay(tag, (14, 14), &[event(5, "D", 14, 12)]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_replay_that_is_older_than_the_last_hello_is_followed_by_another() {
    // The hello may not have listed the topic.
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.event("D", 12, 11));
    rig.hello(20, 9, &[]);
    let out = rig.replay(
        tag,
        (12, 12),
        &[event(5, "D", 11, 9), event(5, "D", 12, 11)],
    );
    assert!(!rig.recovery.is_in_sync());
    let (tag, request) = ask(&out);
    assert!(matches!(request, Request::Replay { after: 12, .. }));
    rig.replay(tag, (20, 12), &[]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn what_was_claimed_and_is_nowhere_is_asked_for_with_patience() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.hello(14, 9, &[("D", 1 << 60)]));
    let out = rig.replay(tag, (14, 9), &[]);
    assert!(asks(&out).is_empty() && !rig.recovery.is_in_sync());
    let (wait, _) = rig.until_asked();
    assert!(wait >= Duration::from_millis(100));
}

#[test]
fn what_is_claimed_while_it_is_fetched_is_fetched_as_well() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.hello(10, 9, &[("D", 10)]));
    rig.hello(12, 10, &[("D", 12)]);
    let (tag, request) = ask(&rig.replay(tag, (10, 10), &[event(5, "D", 10, 9)]));
    assert!(matches!(request, Request::Replay { after: 10, .. }));
    rig.replay(tag, (12, 12), &[event(5, "D", 12, 10)]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_gap_holds_what_follows_until_the_rest_is_there() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let out = rig.event("D", 13, 12);
    assert!(has_note(&out, Note::Gap) && applied(&out).is_empty());
    let (tag, _) = ask(&out);
    let held = rig.recovery.standing().held_bytes;
    assert!(held > 0);
    assert!(asks(&rig.event("D", 14, 13)).is_empty());
    assert!(rig.recovery.standing().held_bytes > held);
    let out = rig.replay(tag, (12, 12), &[event(5, "D", 12, 9)]);
    assert_eq!(applied(&out), [12, 13, 14]);
    let standing = rig.recovery.standing();
    assert_eq!(
        (standing.in_sync, standing.held_bytes, standing.behind),
        (true, 0, 0)
    );
}

#[test]
fn a_long_replay_is_asked_for_in_parts_before_the_last_one_is_handed_on() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.hello(12, 9, &[("D", 12)]));
    let out = rig.replay(tag, (10, 12), &[event(5, "D", 10, 9)]);
    assert!(
        matches!(out.as_slice(), [Action::Ask(..), Action::Apply(_)]),
        "{out:?}"
    );
    let (tag, request) = ask(&out);
    assert!(matches!(request, Request::Replay { after: 10, .. }));
    // The journal was searched further than the last one given.
    let (tag, request) = ask(&rig.replay(tag, (11, 12), &[]));
    assert!(matches!(request, Request::Replay { after: 11, .. }));
    let out = rig.replay(tag, (12, 12), &[event(5, "D", 12, 10)]);
    assert!(has_note(&out, Note::Replayed(2)));
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn a_snapshot_that_is_old_takes_nothing_back_and_is_followed_by_a_replay() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.event("D", 30, 29));
    let (tag, request) = ask(&rig.gone(tag));
    assert!(matches!(request, Request::Snapshot { chunk: None, .. }));
    assert_eq!(rig.recovery.positions(), Some(positions(5, &[])));
    let out = rig.rows(tag, 4, &[event(5, "D", 4, 0)]);
    assert!(has_note(&out, Note::Loaded(1)));
    let (_, request) = ask(&out);
    assert!(
        matches!(request, Request::Replay { after: 9, .. }),
        "{request:?}"
    );
    let sweep = out.iter().find_map(|action| match action {
        Action::Sweep(sweep) => Some(sweep),
        _ => None,
    });
    let sweep = sweep.unwrap();
    assert_eq!((sweep.life, &*sweep.topic), (life(5), "D"));
    assert_eq!((sweep.seq, sweep.complete_since), (4, 5));
    assert_eq!(sweep.has, [name_hash("t", "k")].into());
}

#[test]
fn what_was_held_while_a_snapshot_came_need_not_be_replayed() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.event("D", 30, 29));
    let (tag, _) = ask(&rig.gone(tag));
    let out = rig.rows(tag, 29, &[]);
    assert_eq!(applied(&out), [30]);
    assert!(matches!(ask(&out).1, Request::Replay { after: 30, .. }));
}

#[test]
fn a_topic_that_comes_back_is_loaded_again_and_asked_for_once() {
    let mut rig = Rig::live(&[("D", 9), ("t1", 7)], 9);
    let (old, _) = ask(&rig.event("t1", 12, 11));
    assert!(rig.recovery.standing().held_bytes > 0);
    rig.step(Input::Unwanted("t1".into()));
    let standing = rig.recovery.standing();
    assert_eq!(
        (standing.behind, standing.held_bytes, standing.in_sync),
        (0, 0, true)
    );
    // Its rows may have been let go, so its kept position is void.
    let (_, request) = ask(&rig.step(Input::Wanted("t1".into())));
    assert!(matches!(request, Request::Snapshot { .. }));
    assert!(
        rig.step(Input::Wanted("t1".into())).is_empty(),
        "it is wanted already"
    );
    assert!(
        rig.replay(old, (12, 12), &[]).is_empty(),
        "nobody waits for that one"
    );
    assert_eq!(rig.recovery.standing().behind, 1);
}

#[test]
fn a_topic_that_is_let_go_while_its_question_is_put_off_is_asked_for_once() {
    let mut rig = Rig::live(&[("D", 9)], 9);
    let (tag, _) = ask(&rig.step(Input::Wanted("t1".into())));
    rig.step(Input::Answer(tag, Answer::RetryAfter(300)));
    rig.step(Input::Unwanted("t1".into()));
    ask(&rig.step(Input::Wanted("t1".into())));
    rig.now += Duration::from_secs(1);
    assert!(rig.step(Input::Tick).is_empty());
}

#[test]
fn no_more_questions_are_under_way_than_may_be() {
    let mut rig = Rig::new(vec![]);
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let topics: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    rig.want(&topics);
    rig.up();
    let first = asks(&rig.hello(0, 0, &[]));
    assert_eq!(first.len(), 4);
    ask(&rig.rows(first[0].0, 0, &[]));
    assert_eq!(rig.recovery.standing().behind, 10);
}

#[test]
fn heads_of_many_topics_are_asked_for_in_parts() {
    let names: Vec<String> = (0..crate::sync::MAX_TOPICS + 1)
        .map(|n| format!("t{n}"))
        .collect();
    let topics: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut rig = Rig::new(vec![positions(5, &topics)]);
    rig.want(&topics);
    rig.up();
    let parts = asks(&rig.hello(1, 1, &[]));
    let len = |request: &Request| match request {
        Request::Heads { topics, .. } => topics.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        parts.iter().map(|(_, part)| len(part)).collect::<Vec<_>>(),
        [1024, 1]
    );
    rig.heads(parts[0].0, &[]);
    assert!(!rig.recovery.is_in_sync());
    rig.heads(parts[1].0, &[]);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn names_of_rows_do_not_run_into_each_other() {
    assert_ne!(name_hash("a", "bc"), name_hash("ab", "c"));
    assert_ne!(name_hash("a", "b"), name_hash("a", "c"));
    assert_eq!(name_hash("a", "b"), name_hash("a", "b"));
}
