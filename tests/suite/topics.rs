//! Topics on demand.

use std::sync::{Arc, Mutex};

use fanfare::agent::Agent;
use fanfare::agent::topics::OPERATOR;
use fanfare::dispatch::LaneOptions;
use fanfare::event::Event;
use fanfare::handler::{Handler, HandlerError, SyncReason, TopicRequests};
use fanfare::pubsub::PublisherApi;
use fanfare::pubsub::driver::memory::MemoryNetwork;

use crate::rig::agent::{endpoint, options, publisher, start};
use crate::rig::tape::{Tape, wide};
use crate::rig::wait_for;

const URI: &str = "memory://api1";

/// Follows the tenants that the rows of table `local` name, as a node does when the first port of a
/// tenant appears on it.
struct Tenants {
    topics: Arc<Mutex<Option<TopicRequests>>>,
}

impl Handler for Tenants {
    fn attach(&mut self, topics: TopicRequests) {
        *self.topics.lock().unwrap() = Some(topics);
    }

    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let topics = self.topics.lock().unwrap();
        let topics = topics.as_ref().expect("attach comes first");
        let asked = match event.value {
            _ if event.table != "local" => Ok(()),
            Some(_) => topics.register(event.key),
            None => topics.unregister(event.key),
        };
        asked.map_err(|error| HandlerError::Retry(error.to_string()))
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

struct Rig {
    network: MemoryNetwork,
    publisher: Box<dyn PublisherApi>,
    agent: Agent,
    tape: Tape,
}

impl Rig {
    fn new() -> Self {
        let (network, tape) = (MemoryNetwork::new(), Tape::default());
        let mut publisher = publisher(&network, URI);
        publisher.initialize().unwrap();
        let topics = Arc::new(Mutex::new(None));
        let build = Box::new(move |_: &_| {
            Ok(Box::new(Tenants {
                topics: Arc::clone(&topics),
            }) as _)
        });
        let handlers = vec![LaneOptions::new("tenants", wide(), build), tape.handler()];
        let driver = Box::new(network.clone());
        let agent = start(driver, options(), &[URI], &["t1"], handlers);
        let rig = Rig {
            network,
            publisher,
            agent,
            tape,
        };
        rig.follows(2);
        rig.tape.synced(1);
        rig
    }

    /// Waits until so many topics are subscribed to: each in both forms, and hello.
    fn follows(&self, topics: usize) {
        wait_for(&format!("{topics} topics"), || {
            self.network.subscriptions(&endpoint(URI)) == 1 + 2 * topics
        });
    }

    fn send(&mut self, event: Event<'_>) {
        self.publisher.send_event(&event, None).unwrap();
    }

    /// What the agent's owner does when the bell rings.
    fn serve(&mut self) {
        let patience = crate::rig::PATIENCE;
        self.agent.topic_bell().recv_timeout(patience).unwrap();
        self.agent.serve_topics();
    }

    fn shows(&self, key: &str, value: Option<&str>) {
        let row = ("t".to_owned(), key.to_owned());
        wait_for(&format!("{key} is {value:?}"), || {
            self.tape.state().get(&row).map(String::as_str) == value
        });
    }
}

#[test]
fn a_handler_follows_a_topic_for_as_long_as_it_wants() {
    let mut rig = Rig::new();
    rig.send(Event::set("t", "before", "1").on("red"));
    rig.send(Event::set("local", "red", "{}"));
    rig.serve();
    rig.follows(3);
    for key in ["a", "b"] {
        rig.send(Event::set("t", key, "1").on("red"));
        rig.shows(key, Some("1"));
    }
    rig.send(Event::set("t", "mine", "1").on("t1"));
    // A row that has moved to another topic is held by that one.
    rig.send(Event::set("t", "b", "2").on("t1"));
    rig.shows("b", Some("2"));
    // The operator wants it too.
    assert!(rig.agent.add_topic("red").unwrap());
    assert!(!rig.agent.add_topic("red").unwrap());
    let users = |agent: &Agent| agent.topics();
    let named = |topic: &str, users: &[&str]| {
        let users = users
            .iter()
            .map(|&user| user.to_owned())
            .collect::<Vec<_>>();
        (topic.to_owned(), users)
    };
    let both = named("red", &[OPERATOR, "tenants"]);
    assert_eq!(users(&rig.agent), [both, named("t1", &[OPERATOR])]);
    rig.send(Event::delete("local", "red"));
    rig.serve();
    assert_eq!(users(&rig.agent)[0], named("red", &[OPERATOR]));
    rig.shows("a", Some("1"));

    assert!(rig.agent.remove_topic("red"));
    assert!(!rig.agent.remove_topic("red"));
    rig.follows(2);
    rig.shows("a", None);
    rig.shows("b", Some("2"));
    rig.shows("mine", Some("1"));
    let hub = Arc::clone(rig.agent.hub());
    assert_eq!(hub.metrics.rows_dropped_total.get(), 1);
    assert!(hub.with_replica(|replica| replica.get_any("t", "a").is_none()));
    assert_eq!(rig.tape.begins(), [SyncReason::Started]);

    // And again.
    rig.send(Event::set("local", "red", "{}"));
    rig.serve();
    rig.follows(3);
    rig.send(Event::set("t", "a", "3").on("red"));
    rig.shows("a", Some("3"));
}

#[test]
fn the_topic_of_all_stays_and_those_of_the_configuration_can_go() {
    let mut rig = Rig::new();
    assert!(!rig.agent.remove_topic("D"));
    assert!(!rig.agent.add_topic("D").unwrap());
    assert!(rig.agent.add_topic("").is_err());
    rig.send(Event::set("t", "all", "1"));
    rig.send(Event::set("t", "mine", "1").on("t1"));
    rig.shows("mine", Some("1"));
    assert!(rig.agent.remove_topic("t1"));
    rig.follows(1);
    rig.shows("mine", None);
    rig.shows("all", Some("1"));
    assert!(rig.agent.topics().is_empty());
}
