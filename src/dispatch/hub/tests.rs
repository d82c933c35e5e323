use super::*;

/// A reader that was left behind goes on, and its positions with it.
#[test]
fn what_comes_after_the_end_is_taken_and_handed_to_nobody() {
    let hub = Hub::new();
    let seat = hub.join(SeatOptions::default(), Arc::default());
    hub.close();
    hub.publish([Event::set("t", "late", "1")].into_iter().collect());
    let value = hub.with_replica(|replica| replica.get("t", "late")?.value.clone());
    assert_eq!(value.as_deref(), Some("1"));
    assert!(
        seat.work
            .try_iter()
            .all(|work| !matches!(work, Work::Events(_)))
    );
}
