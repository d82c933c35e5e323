use super::*;

const LIMITS: Limits = Limits {
    places: 4,
    rate: 1_000,
};

fn admission(limits: Limits) -> (Admission, Instant) {
    let now = Instant::now();
    (Admission::new(limits, now, Rng::with_seed(1)), now)
}

/// The only connection of its node.
fn client(number: usize) -> Waiter {
    link(number, 0)
}

fn link(node: usize, number: usize) -> Waiter {
    Waiter {
        client: [node.to_be_bytes(), number.to_be_bytes()].concat().into(),
        owner: node.to_be_bytes().into(),
        address: None,
        tag: 1,
    }
}

/// Begins, and is given a snapshot.
fn join(admission: &mut Admission, client: &Waiter, snapshot: u64, now: Instant) {
    assert_eq!(admission.begin(client, now), Ok(()));
    admission.joined(client, snapshot, now);
}

#[test]
fn places_are_bounded_and_freed_by_the_last_chunk() {
    let (mut admission, now) = admission(LIMITS);
    for number in 0..4 {
        join(&mut admission, &client(number), 7, now);
    }
    assert!(admission.begin(&client(4), now).is_err());
    assert_eq!((admission.places(), admission.waiting()), (4, 1));
    assert!(admission.wanted(7) && !admission.wanted(8));
    admission.ended(&client(1), 7, now);
    admission.ended(&client(9), 7, now);
    assert_eq!(admission.begin(&client(4), now), Ok(()));
    assert_eq!((admission.places(), admission.waiting()), (4, 0));
    assert!(admission.begin(&client(5), now).is_err());
    admission.failed(&client(4), now);
    assert_eq!(admission.begin(&client(5), now), Ok(()));
}

#[test]
fn those_at_one_address_leave_room_for_others() {
    let (mut admission, now) = admission(LIMITS);
    let at = |number: usize, last: u8| Waiter {
        address: Some([192, 0, 2, last].into()),
        ..client(number)
    };
    for number in 0..3 {
        join(&mut admission, &at(number, 1), 7, now);
    }
    assert!(admission.begin(&at(3, 1), now).is_err());
    assert!(admission.goes_on(&at(3, 1), (7, 1), now).is_err());
    join(&mut admission, &at(4, 2), 7, now);
    assert!(admission.begin(&at(5, 3), now).is_err());
    admission.ended(&at(0, 1), 7, now);
    assert_eq!(admission.begin(&at(3, 1), now), Ok(()));
}

#[test]
fn whoever_has_a_place_may_want_more_topics_but_not_any_number() {
    let (mut admission, now) = admission(LIMITS);
    for snapshot in 0..PER_OWNER as u64 - 1 {
        join(&mut admission, &client(1), snapshot, now);
    }
    // One that it was not given yet counts as well.
    assert_eq!(admission.begin(&client(1), now), Ok(()));
    assert!(admission.begin(&client(1), now).is_err());
    assert_eq!(admission.places(), 1);
    admission.ended(&client(1), 3, now);
    assert_eq!(admission.places(), 1, "it is in the middle of others");
    assert_eq!(admission.begin(&client(1), now), Ok(()));
}

#[test]
fn a_node_has_one_place_however_many_connections_it_makes() {
    let (mut admission, start) = admission(LIMITS);
    let mut now = start;
    // It begins whatever it can, and then asks for the same chunk for ever.
    for number in 0..PER_OWNER {
        join(&mut admission, &link(1, number), number as u64, now);
    }
    for number in PER_OWNER..100 {
        assert!(admission.begin(&link(1, number), now).is_err());
    }
    assert_eq!((admission.places(), admission.waiting()), (1, 1));
    for number in 2..5 {
        join(&mut admission, &client(number), 7, now);
    }
    for _ in 0..10 {
        now += Duration::from_secs(25);
        for number in 0..PER_OWNER {
            let chunk = (number as u64, 0);
            assert_eq!(admission.goes_on(&link(1, number), chunk, now), Ok(()));
        }
        admission.tick(now);
        assert!(admission.places() <= 4);
    }
    assert_eq!(admission.places(), 1, "the others were silent");
    admission.gone(&link(1, 0).client);
    assert!(!admission.wanted(0) && admission.wanted(1));
}

/// Asking for the same chunk again keeps no place, and naming a snapshot makes none beyond the limit.
#[test]
fn who_asks_for_the_same_again_and_again_loses_its_place() {
    let (mut admission, start) = admission(LIMITS);
    for number in 0..4 {
        join(&mut admission, &client(number), 7, start);
    }
    let asks = |admission: &mut Admission, now| {
        let mut clients = (0..4).map(client);
        clients.all(|client| admission.goes_on(&client, (7, 0), now).is_ok())
    };
    let now = start + Duration::from_secs(25);
    assert!(asks(&mut admission, now));
    let now = start + SILENT;
    assert_eq!(admission.tick(now), 4);
    for number in 4..8 {
        join(&mut admission, &client(number), 7, now);
    }
    assert!(!asks(&mut admission, now));
    assert_eq!(admission.places(), 4);
    admission.ended(&client(4), 7, now);
    assert_eq!(admission.goes_on(&client(0), (7, 1), now), Ok(()));
}

#[test]
fn one_node_does_not_begin_all_that_may_be_begun_while_others_wait() {
    let (mut admission, start) = admission(Limits {
        places: 1_000,
        rate: 20,
    });
    let (mut greedy, mut refused) = (0, 0);
    for millis in 0..10_000_u64 {
        let now = start + Duration::from_millis(millis);
        for number in 0..10 {
            if admission.begin(&link(1, number), now).is_ok() {
                greedy += 1;
                admission.failed(&link(1, number), now);
            }
        }
        if millis % 100 == 0 {
            match admission.begin(&client(2), now) {
                Ok(()) => {
                    admission.failed(&client(2), now);
                    refused = 0;
                }
                Err(_) => refused += 1,
            }
            assert!(refused < 2, "after {millis} ms");
        }
        admission.tick(now);
    }
    assert!(greedy > 50, "{greedy}");
    assert!(admission.shares.len() <= 2);
}

#[test]
fn who_gets_on_keeps_its_place_and_who_is_silent_does_not() {
    let (mut admission, start) = admission(LIMITS);
    for number in [0, 1] {
        join(&mut admission, &client(number), 7, start);
    }
    // One chunk in 20 s for an hour.
    let mut now = start;
    for chunk in 1..180 {
        now += Duration::from_secs(20);
        assert_eq!(admission.goes_on(&client(0), (7, chunk), now), Ok(()));
        admission.tick(now);
        assert!(admission.wanted(7));
    }
    assert_eq!(admission.places(), 1);
    // It comes back when others have all places, and on another connection.
    for number in 2..5 {
        join(&mut admission, &client(number), 7, now);
    }
    assert!(admission.goes_on(&link(1, 1), (7, 1), now).is_err());
    admission.ended(&client(2), 7, now);
    assert_eq!(admission.goes_on(&link(1, 1), (7, 1), now), Ok(()));
    assert_eq!(admission.places(), 4);
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
                        admission.joined(&client(*number), 1, now);
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
