//! Topics and addresses come and go, before and after the start, over every kind of driver.

use std::sync::{Arc, Mutex};

use fanfare::event::{Event, EventBatch};
use fanfare::pubsub::driver::memory::MemoryNetwork;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::{
    Callback, LinkChange, PubSubApi, PubSubError, PublisherApi, Source, SubscriberApi,
};

use crate::rig::agent::{endpoint, live, options, over_zmq, publisher, source};
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::tape::Tape;
use crate::rig::wait_for;

/// Publishers by number.
trait World {
    fn uri(&self, number: usize) -> String;
    fn send(&mut self, number: usize, topic: &str, key: &str);
    /// Waits until one subscriber of `number` has these topics and has left `gone`.
    fn settle(&mut self, number: usize, topics: &[&str], gone: &[&str]);
    /// Waits until nobody is subscribed to `number`, which had these topics.
    fn left(&mut self, number: usize, topics: &[&str]);
}

struct Memory {
    network: MemoryNetwork,
    publishers: Vec<Box<dyn PublisherApi>>,
}

impl Memory {
    fn new() -> Memory {
        let network = MemoryNetwork::new();
        let bound = |number| {
            let mut publisher = publisher(&network, &format!("memory://p{number}"));
            publisher.initialize().unwrap();
            publisher
        };
        Memory {
            publishers: (0..3).map(bound).collect(),
            network,
        }
    }

    fn subscriptions(&self, number: usize, count: usize) {
        let uri = endpoint(&self.uri(number));
        wait_for(&format!("{uri} has {count} subscriptions"), || {
            self.network.subscriptions(&uri) == count
        });
    }
}

impl World for Memory {
    fn uri(&self, number: usize) -> String {
        format!("memory://p{number}")
    }

    fn send(&mut self, number: usize, topic: &str, key: &str) {
        let event = Event::set("t", key, "v").on(topic);
        self.publishers[number].send_event(&event, None).unwrap();
    }

    fn settle(&mut self, number: usize, topics: &[&str], _gone: &[&str]) {
        // Hello, and each topic in both forms.
        self.subscriptions(number, 1 + 2 * topics.len());
    }

    fn left(&mut self, number: usize, _topics: &[&str]) {
        self.subscriptions(number, 0);
    }
}

struct Zmq(Vec<(Port, Publisher)>);

impl Zmq {
    fn new() -> Zmq {
        let publisher = |_| {
            let port = Port::free();
            let publisher = Publisher::bind(&port.uri());
            (port, publisher)
        };
        Zmq((0..3).map(publisher).collect())
    }
}

impl World for Zmq {
    fn uri(&self, number: usize) -> String {
        self.0[number].0.uri()
    }

    fn send(&mut self, number: usize, topic: &str, key: &str) {
        self.0[number].1.set(topic, key, "v");
    }

    fn settle(&mut self, number: usize, topics: &[&str], gone: &[&str]) {
        self.0[number].1.has_agent(topics);
        self.left(number, gone);
    }

    fn left(&mut self, number: usize, topics: &[&str]) {
        for topic in topics {
            self.0[number].1.unsubscribed(&format!("{topic}\0"));
            self.0[number].1.unsubscribed(topic);
        }
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<(String, String)>>);

impl Callback for Heard {
    fn events(&self, source: &Source, events: EventBatch) {
        let mut heard = self.0.lock().unwrap();
        heard.extend(
            events
                .iter()
                .map(|event| (source.uri.clone(), event.key.to_owned())),
        );
    }

    fn link(&self, _: &Source, _: LinkChange) {}
}

impl Heard {
    #[track_caller]
    fn has(&self, uri: &str, key: &str) {
        let wanted = (uri.to_owned(), key.to_owned());
        wait_for(&format!("{key} arrives from {uri}"), || {
            self.0.lock().unwrap().contains(&wanted)
        });
    }

    fn keys(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        heard.iter().map(|(_, key)| key.clone()).collect()
    }
}

fn come_and_go(world: &mut dyn World, subscriber: &mut dyn SubscriberApi) {
    let uris: Vec<String> = (0..3).map(|number| world.uri(number)).collect();
    let at = |number: usize| endpoint(&uris[number]);

    // Before the start.
    assert!(matches!(
        subscriber.daemonize(),
        Err(PubSubError::Misuse(_))
    ));
    assert!(!subscriber.is_running());
    assert!(subscriber.register_listen_address(&at(0)).unwrap());
    assert!(
        !subscriber.register_listen_address(&at(0)).unwrap(),
        "it is there"
    );
    assert!(subscriber.register_listen_address(&at(2)).unwrap());
    assert!(subscriber.unregister_listen_address(&at(2)));
    assert!(!subscriber.unregister_listen_address(&at(2)), "it is gone");
    assert!(subscriber.register_topic("early").unwrap());
    assert!(!subscriber.register_topic("early").unwrap(), "it is there");
    assert!(subscriber.register_topic("dropped").unwrap());
    assert!(subscriber.unregister_topic("dropped"));
    assert!(!subscriber.unregister_topic("dropped"), "it is gone");
    for topic in ["", "a\0b", "\u{1}hello", &"x".repeat(241)] {
        assert!(matches!(
            subscriber.register_topic(topic),
            Err(PubSubError::Topic(_))
        ));
    }
    let heard = Arc::new(Heard::default());
    subscriber
        .initialize(Arc::clone(&heard) as Arc<dyn Callback>)
        .unwrap();
    subscriber.daemonize().unwrap();
    subscriber.daemonize().unwrap();
    assert!(subscriber.is_running());
    assert!(
        subscriber
            .initialize(Arc::clone(&heard) as Arc<dyn Callback>)
            .is_err()
    );
    world.settle(0, &["early"], &[]);
    world.send(0, "dropped", "no: dropped before the start");
    world.send(0, "early", "early");
    heard.has(&uris[0], "early");

    // Topics after the start.
    assert!(subscriber.register_topic("late").unwrap());
    assert!(!subscriber.register_topic("late").unwrap());
    world.settle(0, &["early", "late"], &[]);
    world.send(0, "late", "late");
    heard.has(&uris[0], "late");
    assert!(subscriber.unregister_topic("early"));
    assert!(!subscriber.unregister_topic("early"));
    world.settle(0, &["late"], &["early"]);
    world.send(0, "early", "no: unregistered");
    world.send(0, "late", "after unregister");
    heard.has(&uris[0], "after unregister");

    // Addresses after the start have the topics of now.
    assert!(subscriber.register_listen_address(&at(1)).unwrap());
    assert!(!subscriber.register_listen_address(&at(1)).unwrap());
    assert_eq!(subscriber.sources().len(), 2);
    world.settle(1, &["late"], &[]);
    world.send(1, "early", "no: not registered");
    world.send(1, "late", "second");
    heard.has(&uris[1], "second");
    assert!(subscriber.unregister_listen_address(&at(0)));
    assert!(!subscriber.unregister_listen_address(&at(0)));
    world.left(0, &["late"]);
    world.send(0, "late", "no: address unregistered");
    world.send(1, "late", "still there");
    heard.has(&uris[1], "still there");

    // The end, and a new start with what is registered.
    subscriber.close();
    assert!(!subscriber.is_running());
    world.left(1, &["late"]);
    world.send(1, "late", "no: closed");
    assert!(subscriber.register_listen_address(&at(2)).unwrap());
    subscriber.daemonize().unwrap();
    world.settle(2, &["late"], &[]);
    world.send(2, "late", "started again");
    heard.has(&uris[2], "started again");
    subscriber.close();
    let unwanted: Vec<String> = heard
        .keys()
        .into_iter()
        .filter(|key| key.starts_with("no"))
        .collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
}

#[test]
fn over_memory() {
    let mut world = Memory::new();
    let mut subscriber = world.network.subscriber(&options()).unwrap();
    let foreign = subscriber.register_listen_address(&endpoint("tcp://127.0.0.1:1"));
    assert!(matches!(foreign, Err(PubSubError::Unsupported { .. })));
    come_and_go(&mut world, subscriber.as_mut());
}

#[test]
fn over_zeromq() {
    let driver = ZmqPubSub::new();
    let mut subscriber = driver.subscriber(&options()).unwrap();
    let foreign = subscriber.register_listen_address(&endpoint("memory://p0"));
    assert!(matches!(foreign, Err(PubSubError::Unsupported { .. })));
    come_and_go(&mut Zmq::new(), subscriber.as_mut());
}

#[test]
fn of_a_running_agent() {
    let (first, second) = (Port::free(), Port::free());
    let mut publishers = [
        Publisher::bind(&first.uri()),
        Publisher::bind(&second.uri()),
    ];
    let tape = Tape::default();
    let mut agent = over_zmq(&[&first.uri()], &[], vec![tape.handler()]);
    publishers[0].has_agent(&["D"]);
    tape.synced(1);
    assert!(
        !agent.subscriber().register_topic("D").unwrap(),
        "it is always there"
    );
    assert!(agent.subscriber().register_topic("t1").unwrap());
    assert!(
        agent
            .subscriber()
            .register_listen_address(&endpoint(&second.uri()))
            .unwrap()
    );
    live(&agent, &second.uri());
    for (number, publisher) in publishers.iter_mut().enumerate() {
        publisher.has_agent(&["D", "t1"]);
        publisher.set("t1", &format!("of{number}"), "v");
        tape.has(&format!("of{number}"));
    }
    // A publisher that was not there before has missed nobody.
    assert_eq!(tape.begins().len(), 1);
    assert!(
        agent
            .subscriber()
            .unregister_listen_address(&endpoint(&first.uri()))
    );
    publishers[0].unsubscribed("t1");
    assert_eq!(agent.sources().len(), 1);
    assert_eq!(source(&agent, &second.uri()).metrics.live.get(), 1);
    assert_eq!(agent.stop(), 0);
}
