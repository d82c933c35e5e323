//! Following a publisher on every topic it has.

use super::super::*;
use super::rig::*;

fn rig(all_topics: usize) -> Rig {
    let mut rig = Rig::with(
        Options {
            all_topics,
            ..options()
        },
        Vec::new(),
    );
    rig.up();
    rig
}

fn after(request: &Request) -> &str {
    match request {
        Request::Topics { after } => after,
        other => panic!("{other:?}"),
    }
}

fn listed(rig: &mut Rig, tag: u64, topics: &[&str], more: bool) -> Vec<Action> {
    let answer = Answer::Topics {
        incarnation: rig.incarnation,
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        more,
    };
    rig.step(Input::Answer(tag, answer))
}

fn subscribed(out: &[Action]) -> Vec<&str> {
    let topics = out.iter().filter_map(|action| match action {
        Action::Topics(topics) => Some(topics.iter().map(|topic| &**topic)),
        _ => None,
    });
    topics.flatten().collect()
}

/// Answers what is asked of `topic`, which is empty, until nothing is.
fn load(rig: &mut Rig, mut out: Vec<Action>) {
    while let Some((tag, request)) = asks(&out).first().cloned() {
        out = match request {
            Request::Snapshot { .. } => rig.rows(tag, 0, &[]),
            Request::Replay { .. } => rig.replay(tag, (9, 0), &[]),
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn all_topics_are_listed_loaded_and_subscribed_to() {
    let mut rig = rig(10);
    let (tag, request) = ask(&rig.hello(9, 9, &[]));
    assert_eq!(after(&request), "");
    let out = listed(&mut rig, tag, &["a", "b"], true);
    assert_eq!(subscribed(&out), ["a", "b"]);
    let asked = asks(&out);
    assert_eq!(asked.len(), 3, "{asked:?}");
    let (page, rest): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .partition(|(_, request)| matches!(request, Request::Topics { .. }));
    assert_eq!(after(&page[0].1), "b");
    assert!(!rig.recovery.is_in_sync());
    let mut out = listed(&mut rig, page[0].0, &["c"], false);
    assert_eq!(subscribed(&out), ["c"]);
    out.extend(
        rest.into_iter()
            .map(|(tag, request)| Action::Ask(tag, request)),
    );
    for (tag, request) in asks(&out) {
        load(&mut rig, vec![Action::Ask(tag, request)]);
    }
    assert!(rig.recovery.is_in_sync());
    // The shell says so when it has subscribed: nothing is loaded twice.
    assert!(rig.step(Input::Wanted("a".into())).is_empty());
}

#[test]
fn a_topic_that_is_not_known_makes_the_list_be_asked_for() {
    let mut rig = rig(10);
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    let out = listed(&mut rig, tag, &["a"], false);
    load(&mut rig, out);
    assert!(rig.recovery.is_in_sync());
    assert!(rig.hello(9, 9, &[]).is_empty());
    // A known one does not.
    let (tag, request) = ask(&rig.hello(10, 9, &[("a", 10)]));
    assert!(matches!(request, Request::Replay { .. }));
    rig.replay(tag, (10, 10), &[event(5, "a", 10, 0)]);
    let (tag, request) = ask(&rig.hello(11, 10, &[("new", 11)]));
    assert_eq!(after(&request), "");
    assert!(!rig.recovery.is_in_sync());
    assert_eq!(
        subscribed(&listed(&mut rig, tag, &["a", "new"], false)),
        ["new"]
    );
}

#[test]
fn what_a_lost_hello_may_have_listed_is_asked_for() {
    let mut rig = rig(10);
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    listed(&mut rig, tag, &[], false);
    let out = rig.hello(20, 15, &[]);
    let (_, request) = ask(&out);
    assert_eq!(after(&request), "");
}

#[test]
fn a_list_from_time_to_time_is_no_reason_for_doubt() {
    let mut rig = rig(10);
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    let out = listed(&mut rig, tag, &["a"], false);
    load(&mut rig, out);
    rig.now = rig.recovery.deadline().unwrap();
    let pages = asks(&rig.step(Input::Tick)).into_iter();
    let page = |(_, request): &(u64, Request)| matches!(request, Request::Topics { .. });
    let (tag, _) = pages.into_iter().find(page).unwrap();
    assert!(rig.recovery.is_in_sync());
    // A hello that shows one that is not known is: the list under way may be older.
    assert!(asks(&rig.hello(9, 9, &[("new", 9)])).is_empty());
    assert!(!rig.recovery.is_in_sync());
    let (tag, _) = ask(&listed(&mut rig, tag, &["a"], false));
    assert!(!rig.recovery.is_in_sync());
    let out = listed(&mut rig, tag, &["a", "new"], false);
    assert_eq!(subscribed(&out), ["new"]);
    load(&mut rig, out);
    assert!(rig.recovery.is_in_sync());
}

#[test]
fn topics_beyond_the_bound_are_not_followed() {
    let mut rig = rig(2);
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    let out = listed(&mut rig, tag, &["a", "b", "c"], true);
    assert_eq!(subscribed(&out), ["a", "b"]);
    assert!(has_note(&out, Note::TopicNotFollowed));
    for (tag, request) in asks(&out) {
        load(&mut rig, vec![Action::Ask(tag, request)]);
    }
    assert!(rig.recovery.is_in_sync());
    assert!(rig.hello(10, 9, &[("c", 10)]).is_empty());
}

/// A list that goes in circles is asked for again later, not for ever at once.
#[test]
fn a_page_must_lead_on() {
    let mut rig = rig(10);
    let (tag, _) = ask(&rig.hello(9, 9, &[]));
    let out = listed(&mut rig, tag, &["b"], true);
    let mut pages = asks(&out).into_iter();
    let page = pages.find(|(_, request)| matches!(request, Request::Topics { .. }));
    let out = listed(&mut rig, page.unwrap().0, &["a"], true);
    assert!(has_note(&out, Note::BadAnswer));
    assert!(asks(&out).is_empty());
    let mut empty = self::rig(10);
    let (tag, _) = ask(&empty.hello(9, 9, &[]));
    let out = listed(&mut empty, tag, &[], true);
    assert!(has_note(&out, Note::BadAnswer));
    assert!(asks(&out).is_empty());
    let (waited, (_, request)) = empty.until_asked();
    assert!(waited > Duration::ZERO);
    assert_eq!(after(&request), "");
}

#[test]
fn an_agent_asks_for_no_list() {
    let mut rig = rig(0);
    assert!(asks(&rig.hello(9, 9, &[("x", 9)])).is_empty());
    assert!(asks(&rig.hello(20, 15, &[])).is_empty());
    assert!(rig.recovery.is_in_sync());
}
