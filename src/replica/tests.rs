use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn stamped<'a>(event: Event<'a>, version: u64) -> Event<'a> {
    Event {
        stamp: Some(Stamp {
            version,
            ..Stamp::default()
        }),
        ..event
    }
}

fn value(replica: &Replica, key: &str) -> Option<String> {
    replica.get("t", key).and_then(|row| row.value.clone())
}

#[test]
fn without_versions_the_last_heard_wins() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    assert_eq!(
        replica.apply(&Event::set("t", "k", "1").on("x"), now),
        Verdict::Applied
    );
    assert_eq!(
        replica.apply(&Event::set("t", "k", "22").on("y"), now),
        Verdict::Applied
    );
    assert_eq!(value(&replica, "k").as_deref(), Some("22"));
    assert_eq!(&*replica.get("t", "k").unwrap().topic, "y");
    assert_eq!(replica.len(), 1);
    assert_eq!(
        replica.apply(&Event::delete("t", "k"), now),
        Verdict::Applied
    );
    assert_eq!((replica.len(), replica.name("t", "k")), (0, None));
}

#[test]
fn a_tombstone_keeps_older_versions_away_until_it_expires() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    let old = stamped(Event::set("t", "k", "old"), 5);
    assert_eq!(
        replica.apply(&stamped(Event::delete("t", "k"), 6), now),
        Verdict::Applied
    );
    assert_eq!(replica.apply(&old, now), Verdict::Older);
    assert!(replica.is_empty());
    assert_eq!(replica.expire(now), 0);
    assert_eq!(replica.expire(now + Duration::from_secs(1)), 1);
    assert_eq!(replica.apply(&old, now), Verdict::Applied);
}

#[test]
fn a_legacy_publisher_does_not_wipe_versions_out() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    replica.apply(&stamped(Event::set("t", "k", "v10"), 10), now);
    replica.apply(&Event::set("t", "k", "legacy"), now);
    let late = stamped(Event::set("t", "k", "v5"), 5);
    assert_eq!(replica.apply(&late, now), Verdict::Older);
    assert_eq!(value(&replica, "k").as_deref(), Some("legacy"));
    replica.apply(&Event::delete("t", "k"), now);
    assert_eq!(replica.apply(&late, now), Verdict::Older);
    assert!(replica.is_empty());
}

#[test]
fn a_row_is_given_as_an_event() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    let event = stamped(Event::set("t", "k", "1").on("x"), 3);
    replica.apply(&event, now);
    let name = replica.name("t", "k").unwrap();
    assert_eq!(replica.event(&name), event);
    assert_eq!(replica.keys(|_, topic| topic == "x"), vec![name.clone()]);
    assert_eq!(replica.keys(|table, _| table == "other"), []);
    replica.apply(&stamped(Event::delete("t", "k"), 4), now);
    assert_eq!(replica.event(&name), Event::delete("t", "k"));
}

proptest! {
    /// I1: with versions the outcome does not depend on the order, not even for equal versions.
    #[test]
    fn the_order_does_not_matter(
        changes in prop::collection::vec((0u8..3, 0u64..4, prop::option::of(0u8..3)), 1..30),
        seed in any::<u64>(),
    ) {
        let now = Instant::now();
        let run = |changes: &[(u8, u64, Option<u8>)]| {
            let mut replica = Replica::new();
            for (key, version, value) in changes {
                let (key, value) = (key.to_string(), value.map(|v| v.to_string()));
                let event = match &value {
                    Some(value) => Event::set("t", &key, value),
                    None => Event::delete("t", &key),
                };
                replica.apply(&stamped(event, *version), now);
            }
            (0..3).map(|key| value(&replica, &key.to_string())).collect::<Vec<_>>()
        };
        let mut shuffled = changes.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(run(&changes), run(&shuffled));
    }
}
