//! The heartbeat.

use std::time::{Duration, Instant};

use crate::rig::host::Host;
use crate::rig::listener::{HELLO, Listener};
use crate::rig::{at_most, wait_for};

/// What a loaded machine may take beside the intervals.
const SLACK: Duration = Duration::from_millis(700);

#[test]
fn whoever_joins_is_greeted_at_once() {
    let host = Host::running("hello_interval = 30.0\nmax_idle_time = 60.0\n");
    for round in 1..=3 {
        let begun = Instant::now();
        let listener = Listener::joined(&host.port.uri(), &[]);
        assert!(begun.elapsed() < at_most(SLACK), "{:?}", begun.elapsed());
        let (_, hello) = listener.hellos().remove(0);
        assert_eq!(hello.recent.is_empty(), hello.head == 0 || round > 1);
        assert!(hello.incarnation > 0 && hello.publisher != [0; 16]);
    }
}

#[test]
fn it_follows_an_event_within_the_interval() {
    let interval = Duration::from_millis(500);
    let host = Host::running("hello_interval = 0.5\nmax_idle_time = 60.0\n");
    let listener = Listener::joined(&host.port.uri(), &[b"t1\0"]);
    for round in 0..3 {
        let key = format!("k{round}");
        host.set("t1", &key, "1");
        let told = listener.has(&key);
        let hello = || {
            let mut hellos = listener.hellos().into_iter();
            hellos.find(|(_, hello)| hello.head >= told.stamp.seq)
        };
        wait_for("a hello follows", || hello().is_some());
        let (at, hello) = hello().unwrap();
        assert_eq!(hello.head, told.stamp.seq);
        assert_eq!(hello.incarnation, told.stamp.incarnation);
        assert!(hello.floor <= hello.head);
        let took = at.saturating_duration_since(told.at);
        assert!(took < at_most(interval + SLACK), "{took:?}");
        let topic = fanfare::event::hello::topic_hash("t1");
        assert!(hello.recent.contains(&(topic, told.stamp.seq)));
    }
}

#[test]
fn an_idle_publisher_says_it_too_and_only_to_those_who_ask() {
    let host = Host::running("hello_interval = 0.1\nmax_idle_time = 0.4\n");
    let uri = host.port.uri();
    let asking = Listener::joined(&uri, &[]);
    let all = Listener::connect(&uri, &[b""]);
    let legacy = Listener::connect(&uri, &[b"D", b"t1"]);
    wait_for("subscriptions are in force", || {
        host.set("t1", "probe", "1");
        [&all, &legacy].iter().all(|listener| listener.count() > 0)
    });
    let seen = asking.hellos().len();
    wait_for("hellos come by themselves", || {
        asking.hellos().len() > seen + 5
    });
    let hellos = asking.hellos();
    for pair in hellos[seen + 1..].windows(2) {
        let took = pair[1].0 - pair[0].0;
        assert!(
            took < at_most(Duration::from_millis(400) + SLACK),
            "{took:?}"
        );
    }
    // Not all the time.
    let (first, last) = (&hellos[seen + 1], &hellos[seen + 5]);
    assert!(last.0 - first.0 > Duration::from_millis(1_200));

    host.set("t1", "last", "1");
    all.has("last");
    legacy.has("last");
    assert!(all.hellos().len() > 3);
    let reserved = |frame: &[u8]| frame.first() == Some(&1) || frame == HELLO;
    assert!(legacy.heard().iter().all(|heard| !reserved(&heard.frame)));
}
