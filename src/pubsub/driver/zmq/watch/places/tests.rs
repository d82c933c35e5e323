use std::time::Duration;

use super::super::super::tcp::Traffic;
use super::*;

#[test]
fn what_is_late_is_not_taken_for_another_connection() {
    let mut places = Places::default();
    places.came(7, Instant::now());
    assert!(!places.is_over(7, 1));
    places.went(7, None);
    assert!(!places.is_over(7, 1), "it was never admitted");
    places.came(7, Instant::now());
    places.went(7, Some(3));
    // Number 3 may have been given to a connection that has not sent anything yet.
    for (number, over) in [(1, true), (3, true), (4, false)] {
        assert_eq!(places.is_over(7, number), over, "{number}");
        assert!(!places.is_over(8, number));
    }
    assert!(places.ended_itself(7, 3));
    // Where it is known which one has ended, whoever has its descriptor by now is known to be another.
    places.came(7, Instant::now());
    let sender = Sender {
        number: 5,
        ..from(7, Some("n1"))
    };
    assert_eq!(places.spoke(&sender), (Standing::Open, false));
    places.went(7, Some(9));
    assert!(places.is_over(7, 5) && !places.is_over(7, 6));
    places.came(7, Instant::now());
    places.open.get_mut(&7).unwrap().ended = true;
    places.went(7, Some(8));
    assert!(!places.ended_itself(7, 8) && places.ended_itself(7, 9));
}

#[test]
fn of_whom_a_handshake_was_is_known_where_only_one_is_open() {
    let mut places = Places::default();
    assert!(
        !places.is_unready(7),
        "it may have come before it was watched"
    );
    places.came(7, Instant::now());
    assert!(places.is_unready(7));
    places.handshake_done();
    places.came(8, Instant::now());
    assert!(!places.is_unready(7) && places.is_unready(8));
}

#[test]
fn what_is_late_is_not_booked_on_another_connection() {
    let of = |number, node| Sender {
        number,
        ..from(7, Some(node))
    };
    let mut places = Places::default();
    places.came(7, Instant::now());
    assert_eq!(places.spoke(&of(4, "n1")), (Standing::Open, false));
    places.went(7, Some(4));
    assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, false));
    places.came(7, Instant::now());
    // It may be of either.
    assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, true));
    assert!(places.nodes.is_empty() && !places.open[&7].spoke);
    assert_eq!(places.spoke(&of(5, "n2")), (Standing::Open, false));
    assert_eq!(places.spoke(&of(4, "n1")), (Standing::Over, false));
    assert_eq!(places.nodes.len(), 1);
}

/// What is kept of those who have gone is for each descriptor, not for each of them.
#[test]
fn strangers_without_end_leave_nothing_behind() {
    let mut places = Places::default();
    for number in 0..100_000u64 {
        let fd = (number % 50) as RawFd;
        places.came(fd, Instant::now());
        let admitted = number.is_multiple_of(3).then_some(number);
        places.went(fd, admitted);
    }
    assert_eq!((places.over.len(), places.open.len()), (50, 0));
}

fn from(fd: RawFd, node: Option<&str>) -> Sender {
    Sender {
        fd,
        number: 0,
        node: node.map(Into::into),
        address: None,
    }
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let rules = PeerRules {
        max_connections: 6,
        max_silent: 3,
        ..PeerRules::default()
    };
    let mut places = Places::default();
    let cut = |places: &mut Places, expected: &[RawFd], what: &str| {
        assert_eq!(places.crowd(&rules, false), expected, "{what}");
        assert!(places.crowd(&rules, false).is_empty(), "{what}");
        // None of them could be ended then.
        assert_eq!(places.crowd(&rules, true), expected, "{what}");
        for fd in expected {
            places.open.get_mut(fd).unwrap().ended = true;
        }
    };
    (1..=3).for_each(|fd| places.came(fd, Instant::now()));
    cut(&mut places, &[], "there is room");
    places.came(4, Instant::now());
    cut(&mut places, &[1], "the oldest");
    cut(&mut places, &[], "ended once");
    places.went(1, Some(0));
    for fd in 2..=4 {
        assert_eq!(places.spoke(&from(fd, None)), (Standing::Open, false));
    }
    (5..=7).for_each(|fd| places.came(fd, Instant::now()));
    cut(&mut places, &[], "there is room again");
    places.spoke(&from(5, None));
    places.came(8, Instant::now());
    cut(&mut places, &[8], "the newest, of all");
    assert_eq!(places.spoke(&from(8, None)).0, Standing::Ended);
    assert_eq!(places.spoke(&from(1, None)).0, Standing::Over);
}

#[test]
fn one_node_has_few_connections() {
    let mut places = Places::default();
    let all = NODE_CONNECTIONS as RawFd;
    for fd in 0..=all {
        places.came(fd, Instant::now());
        let too_many = fd == all;
        assert_eq!(places.spoke(&from(fd, Some("n1"))).1, too_many, "{fd}");
        assert!(!places.spoke(&from(fd, Some("n1"))).1, "said once");
    }
    places.came(100, Instant::now());
    assert!(!places.spoke(&from(100, Some("n2"))).1, "another node");
    for fd in [0, 1] {
        places.went(fd, Some(0));
    }
    places.came(0, Instant::now());
    assert!(!places.spoke(&from(0, Some("n1"))).1, "it has room again");
    for fd in 0..=100 {
        places.went(fd, Some(0));
    }
    assert!(places.nodes.is_empty());
}

#[test]
fn many_connections_are_looked_at_in_turn() {
    let (mut places, now) = (Places::new(LONGEST), Instant::now());
    let count = 2 * LOOKS + 1;
    (0..count).for_each(|fd| places.came(fd as RawFd, Instant::now()));
    let asked = std::cell::RefCell::new(Vec::new());
    let traffic = |fd| {
        asked.borrow_mut().push(fd);
        Some(Traffic {
            received: if fd == 700 { LONGEST + 1 } else { 0 },
            ..Traffic::default()
        })
    };
    let mut look = || {
        let bad = places.bad(now, Heard::All, traffic, |_| 0);
        (bad.endless, bad.complete)
    };
    assert_eq!(look(), (vec![], false));
    assert_eq!(asked.borrow().len(), LOOKS);
    assert_eq!(look(), (vec![700], false));
    assert_eq!(look(), (vec![], true));
    let mut all = asked.take();
    all.dedup();
    assert_eq!(all.len(), count);
    // And again from the first.
    assert!(!look().1 && asked.borrow()[0] == 0);
}

const LONGEST: u64 = 300_000;

/// Looks at connections, on each of which so much has come, and so much of it was not read.
fn look(places: &mut Places, at: Instant, heard: Heard, sent: &[(RawFd, u64, u64)]) -> Bad {
    let of = |fd| sent.iter().find(|(other, ..)| *other == fd);
    let traffic = |fd| {
        let (_, received, _) = *of(fd)?;
        Some(Traffic {
            received,
            ..Traffic::default()
        })
    };
    places.bad(at, heard, traffic, |fd| {
        of(fd).map_or(0, |(.., unread)| *unread)
    })
}

#[test]
fn a_message_is_no_longer_than_any_may_be() {
    let (mut places, start) = (Places::new(LONGEST), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    (1..=2).for_each(|fd| places.came(fd, start));
    places.spoke(&from(1, None));
    assert!(
        look(&mut places, at(0), Heard::All, &[(1, 9, 0), (2, 9, 0)])
            .endless
            .is_empty()
    );
    let both = |sent, unread| [(1, sent, unread), (2, sent, unread)];
    let longest = LONGEST + 1_000;
    let mut judge =
        |heard, sent, unread| look(&mut places, at(1), heard, &both(sent, unread)).endless;
    // What the system holds is not in libzmq's hands yet.
    assert!(judge(Heard::All, longest + 19_000, 20_000).is_empty());
    // It may have ended, and nobody has come to hear it.
    assert!(judge(Heard::Unknown, u64::MAX >> 1, 0).is_empty());
    assert!(judge(Heard::Late, longest, 0).is_empty());
    assert_eq!(judge(Heard::Late, 2 << 20, 0), [2]);
    assert_eq!(judge(Heard::Late, 9 << 20, 0), [1, 2]);
    assert_eq!(judge(Heard::All, longest, 0), [1, 2]);
}

#[test]
fn parts_of_messages_are_bounded_together() {
    let (mut places, start) = (Places::new(LONGEST), Instant::now());
    let fds = 0..100;
    fds.clone().for_each(|fd| places.came(fd, start));
    let mut sent = |each: u64| {
        let sent: Vec<_> = fds.clone().map(|fd| (fd, each + fd as u64, 0)).collect();
        look(&mut places, start, Heard::All, &sent)
    };
    assert_eq!(
        sent(MAX_ALL / 100 - 100),
        Bad {
            complete: true,
            ..Bad::default()
        }
    );
    // Those who have most.
    let bad = sent(MAX_ALL / 100 + 100);
    assert_eq!((bad.endless, bad.suspect), (vec![], vec![99]));
}

#[test]
fn who_sends_little_for_ever_is_ended_and_not_for_harm() {
    let (mut places, start) = (Places::new(LONGEST), Instant::now());
    places.came(1, start);
    places.spoke(&from(1, None));
    let mut sends = |minutes: u64| {
        let at = start + Duration::from_secs(60 * minutes);
        let bad = look(&mut places, at, Heard::All, &[(1, 60 * 11 * minutes, 0)]);
        assert!(bad.endless.is_empty());
        !bad.suspect.is_empty()
    };
    // A heartbeat a second, of 11 bytes.
    let first = (0..).find(|minutes| sends(*minutes)).unwrap();
    assert!((24 * 60..48 * 60).contains(&first), "{first} minutes");
}

#[test]
fn who_takes_nothing_is_ended_before_the_system_does_so() {
    let (mut places, start) = (Places::default(), Instant::now());
    places.came(1, Instant::now());
    let mut stuck = |arrived, waiting, seconds| {
        let traffic = |_| {
            Some(Traffic {
                received: 0,
                arrived,
                waiting,
            })
        };
        let at = start + Duration::from_secs(seconds);
        let bad = places.bad(at, Heard::Unknown, traffic, |_| 0);
        !bad.stuck.is_empty()
    };
    // Nothing waits, and something does when it is looked again after long.
    assert!(!stuck(0, false, 0) && !stuck(0, true, 100) && !stuck(0, false, 101));
    // Something waits, and moves; it moves no more.
    assert!(!stuck(10, true, 101) && !stuck(20, true, 108) && !stuck(20, true, 115));
    assert!(stuck(20, true, 116) && stuck(20, true, 117));
    assert!(!stuck(20, false, 118) && !stuck(20, true, 125));
    assert!(!stuck(20, true, 132) && stuck(20, true, 133));
}
