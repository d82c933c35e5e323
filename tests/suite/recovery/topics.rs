//! An agent that follows thousands of topics.

use std::collections::BTreeMap;

use fanfare::event::Event;

use crate::rig::cluster::Cluster;
use crate::rig::load::flush;
use crate::rig::node::Node;
use crate::rig::slowness;

const TOPICS: u64 = 2_000;

/// They cannot all be loaded at once, and the service says so; it is not asked over and over, which it would
/// take for harm.
#[test]
fn loads_them_at_the_pace_of_the_service() {
    let rate = format!("sync_snapshot_rate = {}\n", 500 / slowness());
    let mut cluster = Cluster::running(&rate);
    let topics: Vec<String> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    let client = cluster.host.client();
    let mut expected = BTreeMap::new();
    for topic in &topics {
        let event = Event::set("t", topic, "{\"n\": 1}").on(topic);
        client.publish(&event, None).unwrap();
        expected.insert(topic.clone(), serde_json::json!({ "n": 1 }));
    }
    flush(&client);
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut node = Node::started(&[&cluster.uri()], &topics, "");
    node.has(&expected);
    let counted = node.stop();
    // And the topic of all.
    assert_eq!(counted.recovery("snapshots_total"), TOPICS + 1);
    assert_eq!(counted.recovery("unanswered_total"), 0);
    let said = cluster.stop();
    assert_eq!(said.count("sync_connections_unruly_total"), 0, "{}", said.0);
    assert_eq!(said.count("sync_addresses_kept_out_total"), 0, "{}", said.0);
    let told = said.count("sync_retry_after_total") + said.count("sync_hurried_total");
    assert!((1..TOPICS).contains(&told), "{told}");
}
