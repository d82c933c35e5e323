use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(300);
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn row(at: f64) -> String {
    format!(r#"{{"id":"x","uri":"tcp://a:1","last_activity_timestamp":{at}}}"#)
}

fn at(offset: f64) -> String {
    row(NOW.as_secs_f64() + offset)
}

fn rows(list: &[(&str, String)]) -> BTreeMap<String, String> {
    let owned = list
        .iter()
        .map(|(key, value)| ((*key).into(), value.clone()));
    owned.collect()
}

fn keys(verdicts: &Verdicts) -> Vec<&str> {
    let keys = verdicts.stale.iter().map(|(key, _)| key.as_str());
    keys.collect()
}

#[test]
fn age_decides_and_what_makes_no_sense_is_left_alone() {
    let judge = |value: &str| standing(value, NOW, TIMEOUT);
    for fresh in [0.0, -300.0, 300.0, 1.0] {
        assert_eq!(judge(&at(fresh)), Standing::Fresh, "{fresh}");
    }
    assert_eq!(judge(&at(-300.5)), Standing::Stale);
    assert_eq!(judge(&row(0.0)), Standing::Stale);
    for bad in [
        at(300.5),
        row(-1.0),
        "{}".into(),
        "x".into(),
        r#"{"last_activity_timestamp":"1"}"#.into(),
        r#"{"last_activity_timestamp":1e999}"#.into(),
    ] {
        assert!(matches!(judge(&bad), Standing::Malformed(_)), "{bad}");
    }
}

#[test]
fn the_own_row_is_never_removed() {
    let mut monitor = StalePublisherMonitor::new("aa", TIMEOUT);
    let table = rows(&[
        ("aa", at(-9999.0)),
        ("AA", at(-9999.0)),
        ("bb", at(-9999.0)),
        ("cc", at(0.0)),
        ("dd", "?".into()),
    ]);
    let verdicts = monitor.observe(&table, NOW, Instant::now());
    assert_eq!(keys(&verdicts), ["bb"]);
    assert_eq!(verdicts.malformed, 1);
}

#[test]
fn a_clock_that_jumps_ahead_removes_nobody_who_is_seen_to_live() {
    let mut monitor = StalePublisherMonitor::new("own", TIMEOUT);
    let start = Instant::now();
    let step = Duration::from_secs(100);
    let table = |age: f64| rows(&[("lives", at(age)), ("gone", at(-250.0))]);
    assert_eq!(
        monitor.observe(&table(0.0), NOW, start),
        Verdicts::default()
    );
    let verdicts = monitor.observe(&table(100.0), NOW + step, start + step);
    assert_eq!(keys(&verdicts), ["gone"]);
    let ahead = NOW + Duration::from_secs(3600);
    let verdicts = monitor.observe(&table(200.0), ahead, start + step * 2);
    assert_eq!(keys(&verdicts), ["gone"]);
    // It does not change any more: now it is gone, too.
    let verdicts = monitor.observe(&table(200.0), ahead, start + step * 6);
    assert_eq!(keys(&verdicts), ["gone", "lives"]);
}

proptest! {
    #[test]
    fn the_rule_is_its_formula(offset in -1000i32..1000, timeout in 1u64..500) {
        let given = standing(&at(f64::from(offset)), NOW, Duration::from_secs(timeout));
        let age = i64::from(-offset);
        let timeout = timeout as i64;
        prop_assert_eq!(given == Standing::Stale, age > timeout);
        prop_assert_eq!(given == Standing::Fresh, age.abs() <= timeout);
    }

    /// Whatever a row holds, it is judged, and only what is old is removed.
    #[test]
    fn anything_can_be_judged(value in ".*") {
        prop_assert!(matches!(standing(&value, NOW, TIMEOUT), Standing::Malformed(_)));
    }
}
