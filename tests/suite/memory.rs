//! The faults of the memory driver, seen through a whole agent.

use fanfare::agent::Agent;
use fanfare::event::Event;
use fanfare::handler::SyncReason;
use fanfare::pubsub::driver::memory::{Happened, MemoryNetwork};
use fanfare::pubsub::{PubSubError, PublisherApi};

use crate::rig::agent::{endpoint, live, options, publisher, source, start};
use crate::rig::tape::Tape;
use crate::rig::wait_for;

const URI: &str = "memory://api1";

fn bound(network: &MemoryNetwork) -> Box<dyn PublisherApi> {
    let mut publisher = publisher(network, URI);
    publisher.initialize().unwrap();
    publisher
}

fn agent(network: &MemoryNetwork, tape: &Tape) -> Agent {
    let driver = Box::new(network.clone());
    start(driver, options(), &[URI], &["t1"], vec![tape.handler()])
}

/// The subscriptions an agent makes: hello, and each of D and t1 in both forms.
const SUBSCRIPTIONS: usize = 5;

fn subscribed(network: &MemoryNetwork) {
    wait_for("the agent subscribes", || {
        network.subscriptions(&endpoint(URI)) == SUBSCRIPTIONS
    });
}

fn send(publisher: &mut dyn PublisherApi, key: &str) {
    let event = Event::set("t", key, "v").on("t1");
    publisher.send_event(&event, None).unwrap();
}

#[test]
fn refused_until_it_is_not() {
    let (network, tape) = (MemoryNetwork::new(), Tape::default());
    let mut publisher = bound(&network);
    network.refuse(true);
    let agent = agent(&network, &tape);
    wait_for("connections are refused", || {
        network.happened().refused >= 3
    });
    let metrics = &source(&agent, URI).metrics;
    assert_eq!(metrics.connects_total.get(), 0);
    network.refuse(false);
    live(&agent, URI);
    subscribed(&network);
    send(publisher.as_mut(), "k");
    tape.has("k");
    assert_eq!(metrics.refusals_total.get(), network.happened().refused);
    assert_eq!(network.happened().connected, 1);
    assert_eq!(tape.begins(), [SyncReason::Started]);
}

#[test]
fn a_broken_link_is_made_again_and_handlers_start_over() {
    let (network, tape) = (MemoryNetwork::new(), Tape::default());
    let mut publisher = bound(&network);
    let agent = agent(&network, &tape);
    live(&agent, URI);
    subscribed(&network);
    tape.synced(1);
    for round in 1..=3 {
        let key = format!("k{round}");
        send(publisher.as_mut(), &key);
        // What was sent before the break is still read.
        network.break_links(&endpoint(URI));
        tape.has(&key);
        tape.synced(1 + round);
        wait_for("it is connected again", || {
            network.happened().connected == 1 + round as u64
        });
        subscribed(&network);
    }
    assert_eq!(
        network.happened(),
        Happened {
            connected: 4,
            broken: 3,
            refused: 0,
            lost: 0
        }
    );
    let metrics = &source(&agent, URI).metrics;
    assert_eq!(metrics.connects_total.get(), 4);
    assert_eq!(metrics.disconnects_total.get(), 3);
    let begins = tape.begins();
    assert_eq!(begins.len(), 4);
    assert!(
        begins[1..]
            .iter()
            .all(|reason| *reason == SyncReason::Reconnected)
    );
    assert_eq!(tape.state().len(), 3);
}

#[test]
fn lost_messages_are_lost_and_no_others() {
    let (network, tape) = (MemoryNetwork::new(), Tape::default());
    let mut publisher = bound(&network);
    let agent = agent(&network, &tape);
    subscribed(&network);
    tape.synced(1);
    for n in 0..30 {
        if n == 10 {
            network.lose(7);
        }
        send(publisher.as_mut(), &format!("k{n}"));
    }
    tape.has("k29");
    assert_eq!(network.happened().lost, 7);
    let wanted = (0..10).chain(17..30).map(|n| format!("k{n}"));
    assert_eq!(tape.keys(), wanted.collect::<Vec<_>>());
    assert_eq!(source(&agent, URI).metrics.events_received_total.get(), 23);
}

#[test]
fn injected_frames_are_judged_as_any_others() {
    let (network, tape) = (MemoryNetwork::new(), Tape::default());
    let mut publisher = bound(&network);
    let agent = agent(&network, &tape);
    subscribed(&network);
    tape.synced(1);
    let uri = endpoint(URI);
    for frames in [
        &[&b"t1\0"[..]][..],
        &[b"t1\0", b""],
        &[b"t1", b"\xc0"],
        &[b"t1", b"\x80", b""],
    ] {
        network.inject(&uri, frames);
    }
    network.inject(&uri, &[b"t10", b"\x80"]);
    network.inject(&uri, &[b"t9", b"nobody wants this"]);
    network.inject(&uri, &[b"\x01hello\0", b"\x01\x00cut short"]);
    send(publisher.as_mut(), "good");
    tape.has("good");
    let source = source(&agent, URI);
    let counted: Vec<u64> = source.malformed.iter().map(|metric| metric.get()).collect();
    assert_eq!(counted, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(source.metrics.events_foreign_total.get(), 1);
    assert_eq!(source.metrics.connects_total.get(), 1);
    assert_eq!(tape.keys(), ["good"]);
}

#[test]
fn an_address_has_one_publisher_at_a_time() {
    let network = MemoryNetwork::new();
    let mut first = bound(&network);
    let mut second = publisher(&network, URI);
    assert!(matches!(
        second.initialize(),
        Err(PubSubError::InUse { .. })
    ));
    first.close();
    second.initialize().unwrap();
}
