use super::*;

const LIMITS: Limits = Limits {
    places: 4,
    rate: 1_000,
};

fn admission(limits: Limits) -> (Admission, Instant) {
    let now = Instant::now();
    (Admission::new(limits, now, Rng::with_seed(1)), now)
}

fn client(number: usize) -> Client {
    number.to_be_bytes().into()
}

#[test]
fn places_are_bounded_and_freed_by_the_last_chunk() {
    let (mut admission, now) = admission(LIMITS);
    for number in 0..4 {
        assert_eq!(admission.begin(&client(number), now), Ok(()));
        admission.goes_on(&client(number), 7, now);
    }
    assert!(admission.begin(&client(4), now).is_err());
    assert_eq!((admission.places(), admission.waiting()), (4, 1));
    assert!(admission.wanted(7) && !admission.wanted(8));
    admission.ended(&client(1), 7, now);
    admission.ended(&client(9), 7, now);
    assert_eq!(admission.begin(&client(4), now), Ok(()));
    assert_eq!((admission.places(), admission.waiting()), (4, 0));
    assert!(admission.begin(&client(5), now).is_err());
}

#[test]
fn whoever_has_a_place_may_want_more_topics_but_not_any_number() {
    let (mut admission, now) = admission(LIMITS);
    for snapshot in 0..PER_CLIENT as u64 {
        assert_eq!(admission.begin(&client(1), now), Ok(()));
        admission.goes_on(&client(1), snapshot, now);
    }
    assert!(admission.begin(&client(1), now).is_err());
    assert_eq!(admission.places(), 1);
    admission.ended(&client(1), 3, now);
    assert_eq!(admission.places(), 1, "it is in the middle of others");
    assert_eq!(admission.begin(&client(1), now), Ok(()));
}

#[test]
fn who_gets_on_keeps_its_place_and_who_is_silent_does_not() {
    let (mut admission, start) = admission(LIMITS);
    for number in [0, 1] {
        admission.begin(&client(number), start).unwrap();
        admission.goes_on(&client(number), 7, start);
    }
    // One chunk in 20 s for an hour.
    let mut now = start;
    for _ in 0..180 {
        now += Duration::from_secs(20);
        admission.goes_on(&client(0), 7, now);
        admission.tick(now);
        assert!(admission.wanted(7));
    }
    assert_eq!(admission.places(), 1);
    // It comes back when others have all places.
    for number in 2..5 {
        admission.begin(&client(number), now).unwrap();
    }
    admission.goes_on(&client(1), 7, now);
    assert_eq!(admission.places(), 5);
    assert!(admission.begin(&client(6), now).is_err());
}

#[test]
fn so_many_are_begun_in_a_second() {
    let (mut admission, start) = admission(Limits {
        places: 1_000,
        rate: 10,
    });
    let mut begun = 0;
    for millis in 0..2_000_u64 {
        let now = start + Duration::from_millis(millis);
        begun += usize::from(admission.begin(&client(millis as usize), now).is_ok());
    }
    // Ten at once, and ten in each second.
    assert!((29..=30).contains(&begun), "{begun}");
}

#[test]
fn the_wait_grows_with_those_who_wait_and_is_jittered() {
    let (mut admission, start) = admission(LIMITS);
    for number in 0..4 {
        admission.begin(&client(number), start).unwrap();
    }
    let waits: Vec<_> = (4..504)
        .map(|number| admission.begin(&client(number), start).unwrap_err())
        .collect();
    assert!(waits.iter().all(|wait| *wait >= WAIT_MIN / 2));
    assert!(waits.iter().all(|wait| *wait <= WAIT_MAX * 3 / 2));
    let sum = |waits: &[Duration]| waits.iter().sum::<Duration>();
    assert!(sum(&waits[400..]) > 4 * sum(&waits[..100]));
    assert_ne!(waits[498], waits[499]);
    admission.tick(start + WAIT_MAX * 3);
    assert_eq!(admission.waiting(), 0);
}

/// A thousand clients that do as they are told, each in a place for 20 ms.
#[test]
fn everybody_is_served() {
    let (mut admission, start) = admission(LIMITS);
    let mut due: Vec<_> = (0..1_000).map(|number| (0_u64, number)).collect();
    let (mut busy, mut served, mut asked): (Vec<(u64, usize)>, _, _) = (Vec::new(), 0, 0);
    for millis in 0..60_000_u64 {
        let now = start + Duration::from_millis(millis);
        busy.retain(|(until, number)| {
            let stays = *until > millis;
            if !stays {
                admission.ended(&client(*number), 1, now);
                served += 1;
            }
            stays
        });
        for (at, number) in &mut due {
            if *at <= millis {
                asked += 1;
                *at = match admission.begin(&client(*number), now) {
                    Ok(()) => {
                        admission.goes_on(&client(*number), 1, now);
                        busy.push((millis + 20, *number));
                        u64::MAX
                    }
                    Err(wait) => millis + wait.as_millis() as u64,
                };
            }
        }
        if served == 1_000 {
            // Four places of 20 ms: no less than 5 s.
            assert!(millis < 20_000, "{millis} ms");
            assert!(asked < 20_000, "asked {asked} times");
            return;
        }
    }
    panic!("only {served} were served");
}
