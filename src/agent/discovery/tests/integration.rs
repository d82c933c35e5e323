//! An agent over the memory driver.

use std::sync::Arc;

use super::*;
use crate::agent::{Agent, Parts};
use crate::event::Event;
use crate::pubsub::driver::memory::MemoryNetwork;
use crate::pubsub::{PubSubApi, PublisherApi, PublisherOptions, SubscriberOptions};
use crate::store::PUBLISHER_TABLE;
use crate::util::testing::{patience, within};

fn options(endpoint: &Endpoint) -> PublisherOptions {
    PublisherOptions {
        endpoint: endpoint.clone(),
        send_hwm: 1000,
        subscriptions: false,
        send_timeout: Duration::ZERO,
        linger: Duration::ZERO,
        socket_group: None,
        socket_users: Default::default(),
        key: None,
        peers: Default::default(),
    }
}

struct Rig {
    network: MemoryNetwork,
    agent: Agent,
    first: Box<dyn PublisherApi>,
}

impl Rig {
    /// An agent that follows the publisher `first` only.
    fn new() -> Self {
        let network = MemoryNetwork::new();
        let endpoint = endpoint("memory://first");
        let mut first = network.publisher(&options(&endpoint)).unwrap();
        first.initialize().unwrap();
        let agent = Agent::start(Parts {
            driver: Box::new(network.clone()),
            subscriber: SubscriberOptions {
                reconnect_min: Duration::from_millis(1),
                ..SubscriberOptions::default()
            },
            publishers: vec![endpoint.clone()],
            recovery: None,
            discovery: Some(DEFAULTS),
            topics: vec![],
            handlers: vec![],
            stop_timeout: patience(),
        })
        .unwrap();
        let rig = Rig {
            network,
            agent,
            first,
        };
        rig.until_linked(&endpoint);
        rig
    }

    fn until_linked(&self, endpoint: &Endpoint) {
        // That to hellos comes before that to events.
        within("a link with all it needs", || {
            self.network.subscriptions(endpoint) > 1
        });
    }

    /// What the agent's owner does, once.
    fn serve(&mut self) {
        let hint = self.agent.discoveries().recv_timeout(patience()).unwrap();
        self.agent.discover(hint);
    }

    fn followed(&self) -> Vec<String> {
        let sources = self.agent.sources();
        sources.iter().map(|source| source.uri.clone()).collect()
    }

    fn has(&self, key: &str) -> bool {
        let hub = self.agent.hub();
        hub.with_replica(|replica| replica.get("t", key).is_some())
    }
}

#[test]
fn events_of_a_discovered_publisher_arrive_until_it_is_removed() {
    let mut rig = Rig::new();
    let place = endpoint("memory://second");
    let mut second = rig.network.publisher(&options(&place)).unwrap();
    second.initialize().unwrap();
    let value = row("memory://second");
    let event = Event::set(PUBLISHER_TABLE, "id2", &value);
    rig.first.send_event(&event, None).unwrap();
    rig.serve();
    assert_eq!(rig.followed(), ["memory://first", "memory://second"]);
    rig.until_linked(&place);
    second.send_event(&Event::set("t", "k", "1"), None).unwrap();
    within("its event", || rig.has("k"));
    // The delete names no address.
    let event = Event::delete(PUBLISHER_TABLE, "id2");
    rig.first.send_event(&event, None).unwrap();
    rig.serve();
    assert_eq!(rig.followed(), ["memory://first"]);
    assert_eq!(rig.network.subscriptions(&place), 0);
    second.send_event(&Event::set("t", "l", "1"), None).unwrap();
    rig.first
        .send_event(&Event::set("t", "m", "1"), None)
        .unwrap();
    within("the other's event", || rig.has("m"));
    assert!(!rig.has("l"));
    let metrics = &rig.agent.discovery().unwrap().metrics;
    assert_eq!(metrics.publishers_discovered.get(), 0);
    assert_eq!(metrics.publishers_dropped_total.get(), 1);
}

/// A checkpoint, the northbound store and a sweep change rows that no event tells of.
#[test]
fn rows_that_come_and_go_by_other_ways_than_events_count_too() {
    let mut rig = Rig::new();
    let hub = Arc::clone(rig.agent.hub());
    let (restored, stored) = (row("memory://restored"), row("memory://stored"));
    hub.publish(
        [Event::set(PUBLISHER_TABLE, "id2", &restored)]
            .into_iter()
            .collect(),
    );
    rig.serve();
    assert_eq!(rig.followed(), ["memory://first", "memory://restored"]);
    hub.change(|_, _| {
        [Event::set(PUBLISHER_TABLE, "id3", &stored)]
            .into_iter()
            .collect()
    });
    rig.serve();
    assert_eq!(rig.followed().len(), 3);
    assert_eq!(hub.sweep(|name, _| &*name.key == "id2"), 1);
    rig.serve();
    assert_eq!(rig.followed(), ["memory://first", "memory://stored"]);
    // So does what goes with its topic.
    let here = Event::set(PUBLISHER_TABLE, "id4", &restored).on("t1");
    hub.publish([here].into_iter().collect());
    rig.serve();
    assert_eq!(rig.followed().len(), 3);
    assert_eq!(hub.drop_topics(&["t1".to_owned()]), 1);
    rig.serve();
    assert_eq!(rig.followed(), ["memory://first", "memory://stored"]);
}

#[test]
fn when_too_many_rows_change_all_are_read_again() {
    let mut rig = Rig::new();
    let uris: Vec<String> = (0..300)
        .map(|n| format!("{{\"uri\":\"memory://p{n}\"}}"))
        .collect();
    for (n, value) in uris.iter().enumerate() {
        let key = format!("{n:03}");
        let event = Event::set(PUBLISHER_TABLE, &key, value);
        rig.first.send_event(&event, None).unwrap();
    }
    let event = Event::set("t", "end", "1");
    rig.first.send_event(&event, None).unwrap();
    within("the last event", || rig.has("end"));
    // Before anybody looked, all but three have gone again; more than can be noted.
    for n in 3..300 {
        let key = format!("{n:03}");
        let event = Event::delete(PUBLISHER_TABLE, &key);
        rig.first.send_event(&event, None).unwrap();
    }
    rig.first
        .send_event(&Event::delete("t", "end"), None)
        .unwrap();
    within("the last delete", || !rig.has("end"));
    within("those that are left are followed", || {
        rig.serve();
        rig.followed().len() == 4
    });
    let metrics = &rig.agent.discovery().unwrap().metrics;
    assert_eq!(metrics.rereads_total.get(), 1, "the fault happened");
}

#[test]
fn without_discovery_the_table_is_a_table_as_any() {
    let network = MemoryNetwork::new();
    let agent = Agent::start(Parts {
        recovery: None,
        driver: Box::new(network),
        subscriber: SubscriberOptions::default(),
        publishers: vec![],
        discovery: None,
        topics: vec![],
        handlers: vec![],
        stop_timeout: patience(),
    })
    .unwrap();
    assert!(agent.discovery().is_none());
    assert!(agent.discoveries().try_recv().is_err());
    let hub = Arc::clone(agent.hub());
    assert_eq!(agent.stop(), 0);
    assert!(hub.with_replica(crate::replica::Replica::is_empty));
}
