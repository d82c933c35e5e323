//! An agent in this process.

use std::sync::Arc;
use std::time::Duration;

use fanfare::agent::{Agent, Parts};
use fanfare::dispatch::LaneOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::endpoint::{Defaults, Endpoint, Transport};
use fanfare::pubsub::{PubSubApi, PublisherApi, PublisherOptions, Source, SubscriberOptions};

use super::wait_for;

/// An address as an operator writes it.
pub fn endpoint(uri: &str) -> Endpoint {
    let defaults = Defaults {
        transport: Transport::Tcp,
        port: 1,
    };
    Endpoint::parse(uri, &defaults).unwrap()
}

/// Quick to connect again.
pub fn options() -> SubscriberOptions {
    SubscriberOptions {
        reconnect_min: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(300),
        ..SubscriberOptions::default()
    }
}

/// An agent over ZeroMQ.
pub fn over_zmq(publishers: &[&str], topics: &[&str], handlers: Vec<LaneOptions>) -> Agent {
    start(
        Box::new(ZmqPubSub::new()),
        options(),
        publishers,
        topics,
        handlers,
    )
}

pub fn start(
    driver: Box<dyn PubSubApi>,
    subscriber: SubscriberOptions,
    publishers: &[&str],
    topics: &[&str],
    handlers: Vec<LaneOptions>,
) -> Agent {
    super::logs::capture();
    Agent::start(Parts {
        driver,
        subscriber,
        publishers: publishers.iter().map(|uri| endpoint(uri)).collect(),
        recovery: None,
        discovery: None,
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        handlers,
        stop_timeout: Duration::from_millis(1500),
    })
    .unwrap()
}

/// What is known of the publisher at `uri`.
pub fn source(agent: &Agent, uri: &str) -> Arc<Source> {
    let mut sources = agent.sources().into_iter();
    sources.find(|source| source.uri == uri).unwrap()
}

/// Waits until the publisher at `uri` is connected.
#[track_caller]
pub fn live(agent: &Agent, uri: &str) {
    let source = source(agent, uri);
    wait_for(&format!("{uri} is live"), || source.metrics.live.get() == 1);
}

/// A publisher at `uri`, not yet initialized.
pub fn publisher(driver: &dyn PubSubApi, uri: &str) -> Box<dyn PublisherApi> {
    let options = PublisherOptions {
        endpoint: endpoint(uri),
        send_hwm: 1_000,
        subscriptions: false,
        send_timeout: Duration::from_millis(300),
        linger: Duration::from_secs(1),
        socket_group: None,
        socket_users: Default::default(),
        key: None,
        peers: Default::default(),
    };
    driver.publisher(&options).unwrap()
}
