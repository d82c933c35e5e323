//! A publisher and agents on hosts of their own, with a network between them that can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Node, flush, publish};
use crate::rig::at_most;
use crate::rig::net::{Net, Place};

/// Host 0 is the API server's; each agent has one of its own.
pub struct Site {
    pub cluster: Cluster,
    pub nodes: Vec<Node>,
    // Last: what runs in it ends first.
    pub net: Arc<Net>,
}

impl Site {
    /// `None` where networks cannot be made.
    pub fn new(nodes: usize, publisher: &str, agent: &str, topics: &[&str]) -> Option<Site> {
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
        Some(Site {
            nodes: (1..=nodes).map(node).collect(),
            cluster,
            net,
        })
    }
}

/// A worker that publishes without end; it waits for no acknowledgement.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Events that a load publishes at once.
const STROKE: u64 = 20;

impl Load {
    /// Publishes numbers from `first` on, twenty in each `pace`.
    pub fn start(
        cluster: &Cluster,
        topic: &'static str,
        first: u64,
        keys: u64,
        pace: Duration,
    ) -> Load {
        let client = cluster.host.client();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(first));
        let sent = Arc::new(sent);
        let thread = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = sent.load(Ordering::Relaxed);
                    publish(&client, topic, next..next + STROKE, keys);
                    sent.store(next + STROKE, Ordering::Relaxed);
                    std::thread::sleep(pace);
                }
                flush(&client);
            })
        };
        Load { stop, sent, thread }
    }

    /// Numbers published so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; all is acknowledged then. Gives how many numbers were published.
    #[track_caller]
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Fails when what began at `begun` took longer than `limit`.
#[track_caller]
pub fn in_time(what: &str, begun: Instant, limit: Duration) {
    let (took, limit) = (begun.elapsed(), at_most(limit));
    eprintln!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
}
