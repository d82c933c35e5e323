use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use super::*;
use crate::event::hello::Hello;
use crate::event::{Event, EventBatch};
use crate::pubsub::api::{Callback, LinkChange, PubSubApi, PublisherOptions};
use crate::pubsub::driver::memory::MemoryNetwork;
use crate::pubsub::endpoint::Defaults;
use crate::pubsub::endpoint::Transport as Kind;
use crate::util::testing::within;

/// Writes down what it is told, and panics at the first event.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Told {
    fn say(&self, what: &'static str) -> bool {
        let mut said = self.0.lock().unwrap();
        let is_new = !said.contains(&what);
        said.push(what);
        is_new
    }
}

impl Callback for Told {
    fn events(&self, _: &Source, _: EventBatch) {}

    fn link(&self, _: &Source, _: LinkChange) {}

    fn follow(&self, _: &Arc<Source>) -> Option<Box<dyn Follow>> {
        Some(Box::new(self.clone()))
    }
}

impl Follow for Told {
    fn events(&mut self, _: EventBatch, _: Instant) {
        assert!(!self.say("events"), "the first ones");
    }

    fn hello(&mut self, _: Hello, _: Instant) {}

    fn link(&mut self, change: LinkChange, _: &Endpoint, _: Instant) {
        self.say(match change {
            LinkChange::Up { .. } => "up",
            LinkChange::Down => "down",
        });
    }

    fn legacy(&mut self, _: Instant) {}

    fn begin_anew(&mut self, _: Instant) {
        self.say("anew");
    }

    fn topic(&mut self, _: &str, _: bool, _: Instant) {}

    fn turn(&mut self, _: Instant) -> bool {
        true
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

#[test]
fn who_follows_is_told_that_a_batch_may_be_lost_to_a_panic() {
    let (network, told) = (MemoryNetwork::new(), Told::default());
    let defaults = Defaults {
        transport: Kind::Tcp,
        port: 1,
    };
    let endpoint = Endpoint::parse("memory://p", &defaults).unwrap();
    let options = PublisherOptions {
        endpoint: endpoint.clone(),
        send_hwm: 1000,
        subscriptions: false,
        send_timeout: Duration::ZERO,
        linger: Duration::ZERO,
        socket_group: None,
        socket_users: Default::default(),
        key: None,
        peers: Default::default(),
    };
    let mut publisher = network.publisher(&options).unwrap();
    publisher.initialize().unwrap();
    let options = SubscriberOptions {
        reconnect_min: Duration::from_millis(1),
        ..SubscriberOptions::default()
    };
    let mut subscriber = network.subscriber(&options).unwrap();
    subscriber.register_listen_address(&endpoint).unwrap();
    subscriber.register_topic("D").unwrap();
    subscriber.initialize(Arc::new(told.clone())).unwrap();
    subscriber.daemonize().unwrap();
    let mut events = |count: usize| {
        within("it is linked", || network.subscriptions(&endpoint) > 1);
        within("an event comes", || {
            publisher
                .send_event(&Event::set("t", "k", "1"), None)
                .unwrap();
            let said = told.0.lock().unwrap();
            said.iter().filter(|what| **what == "events").count() >= count
        });
    };
    events(1);
    within("it begins anew", || {
        told.0.lock().unwrap().contains(&"down")
    });
    events(2);
    let mut said = told.0.lock().unwrap().clone();
    said.dedup();
    assert_eq!(said, ["up", "events", "anew", "down", "up", "events"]);
}
