//! A publisher and agents on hosts of their own, with a network between them that can fail.

use std::sync::Arc;

use super::cluster::Cluster;
use super::net::{Net, Place};
use super::node::Node;

/// Host 0 is the API server's; each agent has one of its own.
pub struct Region {
    pub cluster: Cluster,
    pub nodes: Vec<Node>,
    // Last: what runs in it ends first.
    pub net: Arc<Net>,
}

impl Region {
    /// `None` where networks cannot be made.
    pub fn new(nodes: usize, publisher: &str, agent: &str, topics: &[&str]) -> Option<Region> {
        let net = Arc::new(Net::new(nodes + 1)?);
        let mut cluster = Cluster::new(publisher);
        cluster.host.place = Some(Place::new(&net, 0));
        cluster.host.start();
        let uri = cluster.uri();
        let node = |number| {
            let mut node = Node::new(&[&uri], topics, agent);
            node.place = Some(Place::new(&net, number));
            node
        };
        Some(Region {
            nodes: (1..=nodes).map(node).collect(),
            cluster,
            net,
        })
    }
}
