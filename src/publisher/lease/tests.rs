use proptest::prelude::*;

use super::*;
use crate::store::driver::memory::MemoryStore;

const NOW: Duration = Duration::from_millis(1_700_000_000_250);

fn identity(incarnation: u64, uri: &str) -> Identity {
    Identity {
        id: [7; 16],
        uri: uri.into(),
        incarnation,
        instance: 9,
    }
}

#[test]
fn the_row_is_the_contract() {
    let lease = Lease::new(identity(3, "tcp://a:1"));
    let row: serde_json::Value = serde_json::from_str(&lease.value(NOW)).unwrap();
    let expected = serde_json::json!({
        "id": "07".repeat(16),
        "uri": "tcp://a:1",
        "last_activity_timestamp": 1_700_000_000.25,
        "incarnation": 3,
        "instance": 9,
    });
    assert_eq!(row, expected);
    assert_eq!(lease.key(), "07".repeat(16));
}

#[test]
fn a_former_life_is_no_second_publisher() {
    let former = Lease::new(identity(1, "tcp://a:1")).value(NOW);
    let mut lease = Lease::new(identity(2, "tcp://b:1"));
    assert_eq!(lease.judge(None), Finding::Absent);
    assert_eq!(lease.judge(Some(&former)), Finding::Former);
    assert_eq!(lease.judge(Some("nonsense")), Finding::Former);
    lease.written();
    assert_eq!(lease.judge(None), Finding::Absent);
    assert_eq!(lease.judge(Some(&lease.value(NOW))), Finding::Ours);
    assert_eq!(lease.judge(Some("nonsense")), Finding::Spoiled);
    assert_eq!(
        lease.judge(Some(&former)),
        Finding::Foreign {
            uri: Some("tcp://a:1".into()),
            incarnation: Some(1)
        }
    );
}

#[test]
fn two_with_one_id_both_say_so() {
    let store = MemoryStore::new();
    let (first_metrics, second_metrics) = (MonitorMetrics::default(), MonitorMetrics::default());
    let mut first = Keeper::new(identity(1, "tcp://a:1"));
    let mut second = Keeper::new(identity(2, "tcp://a:1"));
    for _ in 0..3 {
        first.renew(&store, &first_metrics, NOW).unwrap();
        second.renew(&store, &second_metrics, NOW).unwrap();
    }
    assert_eq!(first_metrics.lease_conflicts_total.get(), 2);
    assert_eq!(second_metrics.lease_conflicts_total.get(), 2);
    store.fail_next(1);
    assert!(first.renew(&store, &first_metrics, NOW).is_err());
    assert_eq!(first_metrics.lease_renewals_total.get(), 3);
}

/// What a copied state gives two hosts that are reached by one name.
#[test]
fn two_that_differ_in_nothing_else_see_each_other_too() {
    let store = MemoryStore::new();
    let metrics = [MonitorMetrics::default(), MonitorMetrics::default()];
    let mut keepers = [1, 2].map(|instance| {
        Keeper::new(Identity {
            instance,
            ..identity(1, "tcp://a:1")
        })
    });
    for _ in 0..2 {
        for (keeper, metrics) in keepers.iter_mut().zip(&metrics) {
            keeper.renew(&store, metrics, NOW).unwrap();
        }
    }
    for metrics in &metrics {
        assert_eq!(metrics.lease_conflicts_total.get(), 1);
    }
}

proptest! {
    /// Once written, exactly the same incarnation and uri are ours, at any time.
    #[test]
    fn only_what_we_wrote_is_ours(
        ours in (0u64..3, "[ab]"),
        theirs in (0u64..3, "[ab]"),
        millis in 0u64..4_000_000_000_000,
    ) {
        let mut lease = Lease::new(identity(ours.0, &ours.1));
        lease.written();
        let other = Lease::new(identity(theirs.0, &theirs.1)).value(Duration::from_millis(millis));
        let same = lease.judge(Some(&other)) == Finding::Ours;
        prop_assert_eq!(same, ours == theirs);
    }

    /// Whatever stands in the store, the rule has an answer.
    #[test]
    fn anything_can_be_judged(value in ".*") {
        let mut lease = Lease::new(identity(1, "u"));
        lease.written();
        prop_assert_eq!(lease.judge(Some(&value)), Finding::Spoiled);
    }
}
