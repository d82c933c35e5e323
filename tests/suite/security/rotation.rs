//! Keys are changed while events flow, by the steps of docs/security.md. Every event is a row of its
//! own, so that the rows show each one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare::security::file;
use fanfare::security::key::{PublicKey, SecretKey};

use super::site::{Site, run};
use super::strangers::Stranger;
use crate::recovery::cluster::{self, Node, rows};
use crate::rig::{PATIENCE, wait_for};

/// As many keys as events.
const KEYS: u64 = u64::MAX;

/// A worker that publishes all the time.
struct Load {
    published: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn on(site: &Site) -> Load {
        let options = site.cluster.host.options();
        let (published, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, ended) = (Arc::clone(&published), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let client = fanfare::publisher::client::PublisherClient::new(options);
            while !ended.load(Ordering::SeqCst) {
                let next = count.load(Ordering::SeqCst);
                cluster::publish(&client, "t1", next..next + 5, KEYS);
                count.store(next + 5, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
            cluster::flush(&client);
        });
        Load {
            published,
            end,
            thread,
        }
    }

    /// Waits until some more events were published.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.published.load(Ordering::SeqCst);
        wait_for("the load goes on", || {
            self.published.load(Ordering::SeqCst) >= before + 50
        });
    }

    /// Waits until a node has something that is published from now on.
    #[track_caller]
    fn reaches(&self, node: &Node) {
        let so_far = self.published.load(Ordering::SeqCst);
        wait_for("the node hears of new events", || {
            let rows = node.rows();
            rows.get("t").is_some_and(|rows| rows.len() as u64 > so_far)
        });
    }

    /// Ends it; gives the number of all acknowledged events.
    fn end(self) -> u64 {
        self.end.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.published.load(Ordering::SeqCst)
    }
}

/// A new pair, as `fanfare keygen` makes it, in a folder of its own.
#[track_caller]
fn keygen(kind: &[&str], folder: &Path) {
    let kind = kind.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>);
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"keygen"];
    arguments.extend(kind);
    arguments.extend([&"--dir" as &dyn AsRef<std::ffi::OsStr>, &folder]);
    let made = run(&arguments);
    assert!(made.status.success(), "{made:?}");
}

/// A restart with another configuration. In its life before, it lost nothing that it had to load.
#[track_caller]
fn restart(node: &mut Node, first: bool, from: &str, to: &str) {
    let counted = node.stop();
    assert_eq!(counted.resyncs(), 1);
    assert_eq!(
        counted.recovery("snapshots_total") > 0,
        first,
        "{:#?}",
        counted.lines
    );
    node.configure(|config| {
        assert!(config.contains(from), "{config}");
        config.replace(from, to)
    });
    node.start();
}

#[test]
fn the_key_of_a_publisher_is_changed_under_load() {
    let mut site = Site::new(&["n1", "n2"]);
    let (old, folder) = (site.keys().join("publisher.key"), site.keys().join("new"));
    let new = folder.join("publisher.key");
    let mut nodes = [site.node("n1"), site.node("n2")];
    let load = Load::on(&site);
    load.goes_on();

    // 1. A new pair.
    keygen(&["--publisher"], &folder);
    // 2. Each node trusts both.
    let trusts = |keys: &[&Path]| format!("\"*\" = {keys:?}");
    let before = format!("\"*\" = {old:?}");
    let both = trusts(&[&old, &new]);
    for node in &mut nodes {
        load.reaches(node);
        restart(node, true, &before, &both);
        load.goes_on();
    }
    // 3. The publisher has the new one.
    site.cluster.host.stop(PATIENCE);
    let host = &mut site.cluster.host;
    let secret = |public: &Path| format!("{:?}", public.with_extension("key_secret"));
    assert!(host.more.contains(&secret(&old)), "{}", host.more);
    host.more = host.more.replace(&secret(&old), &secret(&new));
    host.start();
    load.goes_on();
    let reached = site.cluster.host.process();
    wait_for("both nodes are connected again", || {
        reached.err.all().len() > 1 && nodes.iter().all(|node| node.rows().contains_key("t"))
    });
    // One that knows nothing of it is kept out, as an impostor would be.
    let mut late = site.node("n2");
    late.says("handshake broke off");
    load.goes_on();
    let so_far = load.published.load(Ordering::SeqCst);
    for node in &nodes {
        wait_for("the nodes hear of new events", || {
            node.rows()
                .get("t")
                .is_some_and(|rows| rows.len() as u64 > so_far)
        });
    }
    // 4. Nobody trusts the old one any more.
    for node in &mut nodes {
        load.reaches(node);
        restart(node, false, &both, &trusts(&[&new]));
        load.goes_on();
    }

    let count = load.end();
    assert!(count >= 300, "only {count} events");
    let expected = rows(count, KEYS);
    for mut node in nodes {
        node.has(&expected);
        let counted = node.stop();
        assert_eq!(counted.resyncs(), 1);
        assert_eq!(counted.recovery("snapshots_total"), 0);
    }
    assert!(!late.rows().contains_key("t"));
    let counted = late.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 0);
    site.stop();
}

#[test]
fn the_key_of_a_node_is_changed_under_load() {
    let mut site = Site::new(&["n1", "n2"]);
    let folder = site.keys().join("new");
    let (old, new) = (
        site.keys().join("n1.key_secret"),
        folder.join("n1.key_secret"),
    );
    let (mut node, mut beside) = (site.node("n1"), site.node("n2"));
    let load = Load::on(&site);
    load.goes_on();

    load.reaches(&node);
    load.reaches(&beside);
    // 1. A new pair, on the node.
    keygen(&["--node", "n1"], &folder);
    // 2. The publisher knows the node by it.
    let key: PublicKey = file::read_public(&folder.join("n1.key")).unwrap();
    let done = run(&[
        &"authorise",
        &"n1",
        &key.to_string(),
        &"--force",
        &"--dir",
        &site.authorized(),
        &"--pending",
        &site.pending(),
    ]);
    assert!(done.status.success(), "{done:?}");
    node.says("handshake broke off");
    load.goes_on();
    let stays = node.rows()["t"].len();
    load.goes_on();
    assert_eq!(node.rows()["t"].len(), stays, "it is heard by its old key");
    // 3. The node has it.
    restart(&mut node, true, &format!("{old:?}"), &format!("{new:?}"));
    load.goes_on();

    let lost: SecretKey = file::read_secret(&old).unwrap();
    let server = PublicKey::parse(&site.public("publisher")).unwrap();
    let keys = (&server.as_bytes()[..], &lost);
    let thief = Stranger::connect(zmq::SUB, &site.cluster.uri(), Some(keys));
    thief.is_refused();
    load.goes_on();

    let count = load.end();
    assert!(count >= 250, "only {count} events");
    let expected = rows(count, KEYS);
    node.has(&expected);
    beside.has(&expected);
    thief.heard_nothing();
    let counted = node.stop();
    assert_eq!(counted.resyncs(), 1);
    assert_eq!(counted.recovery("snapshots_total"), 0);
    assert!(counted.recovery("replayed_events_total") > 0);
    let counted = beside.stop();
    assert_eq!(counted.resyncs(), 1);
    let said = site.stop();
    assert_eq!(said.count("gate_cuts_total"), 1, "{}", said.0);
    assert!(said.count("gate_refused_total") > 0, "{}", said.0);
}
