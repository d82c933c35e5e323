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
    let mut expire = |before| {
        let mut forgotten = Vec::new();
        replica.expire_each(before, |name, _| forgotten.push(name.key.to_string()));
        forgotten
    };
    assert!(expire(now).is_empty());
    assert_eq!(expire(now + Duration::from_secs(1)), ["k"]);
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

#[test]
fn a_change_of_topic_is_told() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    let merge = |replica: &mut Replica, event: Event<'_>| replica.merge(&event, now).left;
    assert_eq!(merge(&mut replica, Event::set("t", "k", "1").on("x")), None);
    assert_eq!(merge(&mut replica, Event::set("t", "k", "2").on("x")), None);
    let left = merge(&mut replica, Event::set("t", "k", "2").on("y"));
    assert_eq!(left.as_deref(), Some("x"));
    // A delete that names no topic takes the object from where it stood.
    let left = merge(&mut replica, Event::delete("t", "k"));
    assert_eq!(left.as_deref(), Some("y"));
    // A tombstone stands nowhere.
    let delete = stamped(Event::delete("t", "k").on("x"), 1);
    assert_eq!(merge(&mut replica, delete), None);
    let set = stamped(Event::set("t", "k", "3").on("y"), 2);
    assert_eq!(merge(&mut replica, set), None);
}

#[test]
fn rows_of_a_topic_are_dropped_a_few_at_a_time() {
    let (mut replica, now) = (Replica::new(), Instant::now());
    for n in 0..10 {
        let (key, topic) = (n.to_string(), ["x", "y"][n % 2]);
        let version = 1 + n as u64;
        replica.apply(&stamped(Event::set("t", &key, "1").on(topic), version), now);
    }
    replica.apply(&stamped(Event::delete("t", "8").on("x"), 99), now);
    let (mut cursor, mut dropped, mut turns) = (replica.cursor(), vec![], 1);
    let of_x = |row: &Row| *row.topic == *"x";
    while replica.drop_rows(&mut cursor, 3, of_x, |name, row| {
        dropped.push((name.key.to_string(), !row.is_tombstone()));
    }) {
        turns += 1;
    }
    assert_eq!((turns, replica.len()), (4, 5));
    let of = |n: &str| (n.to_owned(), n != "8");
    assert_eq!(dropped, ["0", "2", "4", "6", "8"].map(of));
    // As if never heard of: the same version is news when the topic is wanted again.
    let again = stamped(Event::set("t", "0", "1").on("x"), 1);
    assert_eq!(replica.apply(&again, now), Verdict::Applied);
}

proptest! {
    /// A walk comes by every row that is there all the time, however rows come and go meanwhile.
    #[test]
    fn a_walk_misses_nothing_that_stays(
        before in prop::collection::btree_set(0u16..300, 1..200),
        during in prop::collection::vec((any::<bool>(), 0u16..300), 0..200),
        most in 1usize..40,
    ) {
        let (mut replica, now) = (Replica::new(), Instant::now());
        for key in &before {
            replica.apply(&Event::set("t", &key.to_string(), "v"), now);
        }
        let (mut cursor, mut seen) = (replica.cursor(), HashSet::new());
        let mut touched = HashSet::new();
        let mut during = during.into_iter();
        while replica.walk(&mut cursor, most, |name, _| { seen.insert(name.key.to_string()); }) {
            for (set, key) in during.by_ref().take(10) {
                touched.insert(key);
                let key = key.to_string();
                let event = if set { Event::set("t", &key, "w") } else { Event::delete("t", &key) };
                replica.apply(&event, now);
            }
        }
        for key in before.iter().filter(|key| !touched.contains(*key)) {
            prop_assert!(seen.contains(&key.to_string()), "{} was passed over", key);
        }
    }

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

/// What a row costs beside its key and value: this, an allocation each for the two, and a place in
/// the map of names (24 bytes, at least 7/16 of them in use). With 300 bytes of value that is well
/// under 2.5 times the row's own; `cargo bench --bench sync snapshot` measures it.
#[test]
fn a_row_stays_small() {
    assert!(size_of::<Option<Entry>>() <= 152);
    assert_eq!(size_of::<(Arc<str>, usize)>(), 24);
}
