use super::*;
use fastrand::Rng;
use proptest::prelude::*;

fn session() -> Session {
    Session::new(&SubscriberOptions::default(), Rng::with_seed(7))
}

const UP_FIRST: Action = Action::Announce(LinkChange::Up { again: false });
const UP_AGAIN: Action = Action::Announce(LinkChange::Up { again: true });
const DOWN: Action = Action::Announce(LinkChange::Down);

/// Brings `session` to live at `now`.
fn go_live(session: &mut Session, now: Instant) -> Vec<Action> {
    session.step(Input::Start, now);
    session.step(Input::Resolved, now);
    session.step(Input::Up, now)
}

/// Lets the deadline come and steps; returns the time and the actions.
fn tick(session: &mut Session) -> (Instant, Vec<Action>) {
    let now = session.deadline().expect("a deadline");
    (now, session.step(Input::Tick, now))
}

#[test]
fn the_straight_way() {
    let (mut session, now) = (session(), Instant::now());
    assert_eq!(session.deadline(), None);
    assert_eq!(session.step(Input::Start, now), [Action::Resolve]);
    assert_eq!(session.step(Input::Resolved, now), [Action::Open]);
    assert_eq!(session.step(Input::Up, now), [UP_FIRST]);
}

#[test]
fn every_failure_leads_to_a_new_resolution_after_a_wait() {
    let failures: [&[Input]; 4] = [
        &[Input::ResolveFailed],
        &[Input::Resolved, Input::ConnectFailed],
        &[Input::Resolved, Input::Refused],
        &[Input::Resolved, Input::Down],
    ];
    for failure in failures {
        let (mut session, now) = (session(), Instant::now());
        session.step(Input::Start, now);
        for &input in failure {
            session.step(input, now);
        }
        assert!(session.deadline().unwrap() > now, "{failure:?}");
        assert_eq!(
            session.step(Input::Tick, now),
            [],
            "not before its time: {failure:?}"
        );
        assert_eq!(tick(&mut session).1, [Action::Resolve], "{failure:?}");
    }
}

#[test]
fn a_late_resolution_and_a_late_connection_are_given_up() {
    for steps in [&[Input::Start][..], &[Input::Start, Input::Resolved]] {
        let (mut session, now) = (session(), Instant::now());
        for &input in steps {
            session.step(input, now);
        }
        assert_eq!(tick(&mut session).1, [Action::CountTimeout]);
        // What the given-up attempt still says changes nothing.
        assert_eq!(session.step(Input::Up, now), []);
        assert_eq!(tick(&mut session).1, [Action::Resolve]);
    }
}

#[test]
fn a_refusal_waits_long() {
    let (mut session, now) = (session(), Instant::now());
    session.step(Input::Start, now);
    session.step(Input::Resolved, now);
    session.step(Input::Refused, now);
    let max = SubscriberOptions::default().reconnect_max;
    assert!(session.deadline().unwrap() >= now + max / 2);
}

/// Garbage within the handshake: libzmq reports a lost connection and nothing else.
#[test]
fn a_loss_within_the_handshake_is_a_refusal() {
    let (mut session, now) = (session(), Instant::now());
    session.step(Input::Start, now);
    session.step(Input::Resolved, now);
    assert_eq!(session.step(Input::Down, now), [Action::CountRefusal]);
    let max = SubscriberOptions::default().reconnect_max;
    assert!(session.deadline().unwrap() >= now + max / 2);
    assert_eq!(session.step(Input::Down, now), [], "it is counted once");
}

#[test]
fn a_loss_is_announced_and_the_return_says_so() {
    let (mut session, now) = (session(), Instant::now());
    go_live(&mut session, now);
    assert_eq!(session.step(Input::Down, now), [DOWN]);
    let (now, actions) = tick(&mut session);
    assert_eq!(actions, [Action::Resolve]);
    session.step(Input::Resolved, now);
    assert_eq!(session.step(Input::Up, now), [UP_AGAIN]);
}

#[test]
fn no_hello_means_legacy_and_legacy_may_be_silent_for_ever() {
    let (mut session, now) = (session(), Instant::now());
    go_live(&mut session, now);
    let (mut now, actions) = tick(&mut session);
    assert_eq!(actions, [Action::TreatAsLegacy, Action::SubscribeToHellos]);
    let silence = SubscriberOptions::default().max_idle_time * SILENT_HELLOS;
    for _ in 0..5 {
        let before = now;
        session.step(Input::Heard, now);
        let actions;
        (now, actions) = tick(&mut session);
        assert_eq!(actions, [Action::SubscribeToHellos]);
        assert_eq!(now - before, silence);
    }
    // A publisher upgraded while connected is noticed.
    assert_eq!(
        session.step(Input::Hello, now),
        [Action::DropLegacySubscriptions]
    );
    assert!(session.is_fanfare());
}

#[test]
fn three_missed_hellos_are_silence() {
    let (mut session, start) = (session(), Instant::now());
    go_live(&mut session, start);
    assert_eq!(
        session.step(Input::Hello, start),
        [Action::DropLegacySubscriptions]
    );
    assert_eq!(session.step(Input::Hello, start), []);
    let idle = SubscriberOptions::default().max_idle_time;
    let greeted = start + idle;
    session.step(Input::Hello, greeted);
    // What comes beside hellos proves nothing of what does not come.
    session.step(Input::Heard, greeted + idle);
    assert_eq!(session.deadline(), Some(greeted + idle * 3));
    let (_, actions) = tick(&mut session);
    assert_eq!(actions, [Action::CountSilence, DOWN]);
}

#[test]
fn a_message_proves_the_connection() {
    for (input, then) in [
        (Input::Heard, vec![UP_FIRST]),
        (
            Input::Hello,
            vec![UP_FIRST, Action::DropLegacySubscriptions],
        ),
    ] {
        let (mut session, now) = (session(), Instant::now());
        session.step(Input::Start, now);
        session.step(Input::Resolved, now);
        assert_eq!(session.step(input, now), then);
        assert_eq!(session.step(Input::Up, now), [], "it is told once");
    }
}

#[test]
fn a_silent_publisher_may_come_back_as_a_legacy_one() {
    let (mut session, now) = (session(), Instant::now());
    go_live(&mut session, now);
    session.step(Input::Hello, now);
    assert!(session.is_fanfare());
    tick(&mut session);
    assert!(!session.is_fanfare());
}

#[test]
fn a_publisher_that_drops_us_at_once_is_not_hammered() {
    let (mut session, mut now) = (session(), Instant::now());
    session.step(Input::Start, now);
    let mut waits = Vec::new();
    for _ in 0..12 {
        session.step(Input::Resolved, now);
        session.step(Input::Up, now);
        session.step(Input::Down, now);
        let until = session.deadline().unwrap();
        waits.push(until - now);
        now = until;
        session.step(Input::Tick, now);
    }
    assert!(
        waits[11] >= SubscriberOptions::default().reconnect_max / 2,
        "{waits:?}"
    );
    // One that lasted is a good one: the next wait is short.
    session.step(Input::Resolved, now);
    session.step(Input::Up, now);
    let later = now + Duration::from_secs(60);
    session.step(Input::Down, later);
    assert!(session.deadline().unwrap() - later <= SubscriberOptions::default().reconnect_min);
}

fn any_input() -> impl Strategy<Value = Input> {
    use Input::*;
    prop::sample::select(vec![
        Start,
        Resolved,
        ResolveFailed,
        Up,
        ConnectFailed,
        Refused,
        Down,
        Heard,
        Hello,
        Tick,
    ])
}

proptest! {
    /// Whatever happens: it never rests without a deadline unless connected, announcements
    /// alternate, and a link is opened only after a resolution.
    #[test]
    fn it_always_comes_back(inputs in prop::collection::vec((any_input(), 0u64..20_000), 1..200)) {
        let mut session = session();
        let mut now = Instant::now();
        session.step(Input::Start, now);
        let (mut up, mut resolved) = (false, true);
        for (input, millis) in inputs {
            now += Duration::from_millis(millis);
            for action in session.step(input, now) {
                match action {
                    Action::Announce(LinkChange::Up { .. }) => { prop_assert!(!up); up = true }
                    Action::Announce(LinkChange::Down) => { prop_assert!(up); up = false }
                    Action::Resolve => resolved = true,
                    Action::Open => { prop_assert!(resolved); resolved = false }
                    _ => {}
                }
            }
            prop_assert!(up || session.deadline().is_some());
        }
        // Left alone with a working network, it is connected within a few steps.
        for _ in 0..8 {
            if up { break; }
            now = session.deadline().map_or(now, |deadline| deadline.max(now));
            for input in [Input::Tick, Input::Resolved, Input::Up] {
                for action in session.step(input, now) {
                    up |= matches!(action, Action::Announce(LinkChange::Up { .. }));
                }
            }
        }
        prop_assert!(up);
    }
}
