//! Attacks on a real publisher: its memory stays bounded (and is printed), honest agents get
//! everything meanwhile, and all is well afterwards.

mod broken;
mod latency;
mod nodes;
mod outcasts;
mod plain;
mod strangers;
mod unread;

use std::time::{Duration, Instant};

use fanfare::publisher::client::PublisherClient;

use crate::rig::cluster::Cluster;
use crate::rig::load::{flush, publish, rows};
use crate::rig::node::Node;
use crate::rig::slowness;

/// Keys of the rows that are published.
const KEYS: u64 = 200;

/// Most that an attack may add to the publisher's memory, kB. What libzmq allocates for a moment
/// and the allocator keeps is in it.
const ROOM_KB: u64 = 160 << 10;

/// A publisher under attack and the agents beside.
struct Siege<'a> {
    what: &'static str,
    cluster: &'a mut Cluster,
    honest: Vec<Node>,
    client: PublisherClient,
    published: u64,
    before_kb: u64,
    /// Most that may be added to that.
    room_kb: u64,
    slowest: Duration,
}

impl<'a> Siege<'a> {
    /// Begins once all agents have everything.
    fn begin(what: &'static str, cluster: &'a mut Cluster, honest: Vec<Node>) -> Siege<'a> {
        let client = cluster.host.client();
        let mut siege = Siege {
            what,
            client,
            before_kb: 0,
            room_kb: ROOM_KB,
            cluster,
            honest,
            published: 0,
            slowest: Duration::ZERO,
        };
        siege.goes_on();
        siege.slowest = Duration::ZERO;
        siege.before_kb = siege.cluster.host.process().memory_kb();
        siege
    }

    /// Something is published, and comes.
    #[track_caller]
    fn goes_on(&mut self) {
        let start = Instant::now();
        let next = self.published + 2 * KEYS;
        publish(&self.client, "t1", self.published..next, KEYS);
        flush(&self.client);
        self.published = next;
        for node in &self.honest {
            node.has(&rows(self.published, KEYS));
        }
        self.slowest = self.slowest.max(start.elapsed());
    }

    fn peak_kb(&mut self) -> u64 {
        self.cluster.host.process().peak_kb()
    }

    /// All is well: agents that were there have everything and were not cut off, and so has one that
    /// comes now. Says what it cost.
    #[track_caller]
    fn ends(mut self, mut newcomer: Node) {
        self.goes_on();
        newcomer.start();
        newcomer.has(&rows(self.published, KEYS));
        let (before, peak) = (self.before_kb, self.peak_kb());
        let after = self.cluster.host.process().memory_kb();
        eprintln!(
            "{}: the publisher has {before} kB before, {peak} kB at most, {after} kB after; the slowest of \
             {} rounds with honest agents took {:?}",
            self.what,
            self.published / (2 * KEYS),
            self.slowest
        );
        assert!(
            peak < before + u64::from(slowness()) * self.room_kb,
            "{peak} kB, {before} kB before"
        );
        for node in &mut self.honest {
            let counted = node.stop();
            assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
            assert_eq!(counted.resyncs(), 1);
        }
        newcomer.stop();
    }
}

/// Two agents that are there, and one that comes later.
fn nodes(cluster: &Cluster) -> (Vec<Node>, Node) {
    let uri = cluster.uri();
    let node = || Node::new(&[&uri], &["t1"], "");
    let mut honest = vec![node(), node()];
    honest.iter_mut().for_each(Node::start);
    (honest, node())
}

/// What the publisher has counted so far.
fn count(cluster: &Cluster, part: &str, name: &str) -> u64 {
    cluster.host.report()["parts"][part][name].as_u64().unwrap()
}
