//! Keys are changed while events flow, by the steps of docs/security.md. Every event is a row of its
//! own, so that the rows show each one.

use std::path::Path;
use std::time::Duration;

use fanfare::security::file;
use fanfare::security::key::{PublicKey, SecretKey};

use crate::rig::control::{report, run};
use crate::rig::impostor::{At, Impostor};
use crate::rig::load::{Load, rows};
use crate::rig::node::Node;
use crate::rig::site::Site;
use crate::rig::stranger::Stranger;
use crate::rig::{PATIENCE, wait_for};

/// As many keys as events.
const KEYS: u64 = u64::MAX;

/// Events all the time: 250 a second at most.
fn load(site: &Site) -> Load {
    let client = site.cluster.host.client();
    Load::start(client, "t1", 0, KEYS, Duration::from_millis(80))
}

/// Waits until some more events were published.
#[track_caller]
fn goes_on(load: &Load) {
    let before = load.sent();
    wait_for("the load goes on", || load.sent() >= before + 50);
}

/// Waits until a node has something that is published from now on.
#[track_caller]
fn reaches(load: &Load, node: &Node) {
    let so_far = load.sent();
    wait_for("the node hears of new events", || {
        let rows = node.rows();
        rows.get("t").is_some_and(|rows| rows.len() as u64 > so_far)
    });
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

/// Whose keys a node is told that it trusts.
fn trusts(keys: &[&Path]) -> String {
    format!("\"*\" = {keys:?}")
}

/// The service is started again with the secret key that belongs to `new`.
#[track_caller]
fn has_key(site: &mut Site, old: &Path, new: &Path) {
    site.cluster.host.stop(PATIENCE);
    let host = &mut site.cluster.host;
    let secret = |public: &Path| format!("{:?}", public.with_extension("key_secret"));
    assert!(host.more.contains(&secret(old)), "{}", host.more);
    host.more = host.more.replace(&secret(old), &secret(new));
    host.start();
}

/// The connections that a node has made, and those that failed.
fn connections(node: &Node) -> [u64; 2] {
    let counted = report(&node.folder)["publishers"][0]["counters"].clone();
    let count = |name: &str| counted[name].as_u64().unwrap();
    let failed = count("connects_failed_total") + count("refusals_total");
    [count("connects_total"), failed]
}

/// Ends the service, and has somebody with its old key at its addresses: the nodes, which have everything,
/// do not speak to it. One that still trusts this key would.
#[track_caller]
fn is_worth_nothing(
    old: &Path,
    site: &mut Site,
    nodes: impl IntoIterator<Item = Node>,
    mut late: Node,
) {
    site.cluster.host.stop(PATIENCE);
    let secret: SecretKey = file::read_secret(&old.with_extension("key_secret")).unwrap();
    let thief = Impostor::at(&site.cluster.uri(), &site.sync_uri, Some(&secret));
    for mut node in nodes {
        let [connects, before] = connections(&node);
        thief.is_refused(At::Events, 3);
        wait_for("this one comes, and is gone again", || {
            connections(&node)[1] >= before + 2
        });
        thief.is_refused(At::Events, 1);
        let counted = node.stop();
        let count = |name| counted.of(" publisher tcp", name);
        assert_eq!(count("connects_total"), connects);
        assert_eq!(count("messages_malformed_total"), 0);
        assert_eq!(counted.recovery("new_incarnations_total"), 0);
        assert_eq!(counted.recovery("snapshots_total"), 0);
        assert_eq!(counted.resyncs(), 1);
    }
    late.start();
    thief.is_trusted();
    late.stop();
}

#[test]
fn the_key_of_a_publisher_is_changed_under_load() {
    let mut site = Site::new(&["n1", "n2"]);
    let (old, folder) = (site.keys().join("publisher.key"), site.keys().join("new"));
    let new = folder.join("publisher.key");
    let mut nodes = [site.node("n1"), site.node("n2")];
    let load = load(&site);
    goes_on(&load);

    // 1. A new pair.
    keygen(&["--publisher"], &folder);
    // 2. Each node trusts both.
    let before = format!("\"*\" = {old:?}");
    let both = trusts(&[&old, &new]);
    for node in &mut nodes {
        reaches(&load, node);
        restart(node, true, &before, &both);
        goes_on(&load);
    }
    // 3. The publisher has the new one.
    has_key(&mut site, &old, &new);
    goes_on(&load);
    // One that knows nothing of it is kept out, as an impostor would be.
    let mut late = site.node("n2");
    late.says("handshake broke off");
    goes_on(&load);
    for node in &nodes {
        reaches(&load, node);
    }
    // 4. Nobody trusts the old one any more.
    for node in &mut nodes {
        reaches(&load, node);
        restart(node, false, &both, &trusts(&[&new]));
        goes_on(&load);
    }

    let count = load.stop();
    assert!(count >= 300, "only {count} events");
    let expected = rows(count, KEYS);
    for node in &nodes {
        node.has(&expected);
    }
    assert!(!late.rows().contains_key("t"));
    let counted = late.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 0);
    is_worth_nothing(&old, &mut site, nodes, late);
}

/// The steps in the order for a key that was stolen: the nodes are out meanwhile, and fetch what they missed.
#[test]
fn the_stolen_key_of_a_publisher_is_changed_under_load() {
    let mut site = Site::new(&["n1", "n2", "n3"]);
    let (old, folder) = (site.keys().join("publisher.key"), site.keys().join("new"));
    let new = folder.join("publisher.key");
    let mut nodes = [site.node("n1"), site.node("n2")];
    let load = load(&site);
    goes_on(&load);
    for node in &nodes {
        reaches(&load, node);
    }

    // 1. A new pair.
    keygen(&["--publisher"], &folder);
    // 3. The publisher has the new one.
    has_key(&mut site, &old, &new);
    for node in &nodes {
        let before = connections(node);
        wait_for("it is not let in", || connections(node)[1] >= before[1] + 2);
        assert_eq!(connections(node)[0], before[0]);
    }
    goes_on(&load);
    // 2 and 4. Each node trusts that one alone.
    let before = format!("\"*\" = {old:?}");
    for node in &mut nodes {
        restart(node, true, &before, &trusts(&[&new]));
        goes_on(&load);
    }

    let count = load.stop();
    assert!(count >= 250, "only {count} events");
    let expected = rows(count, KEYS);
    for node in &nodes {
        node.has(&expected);
    }
    let late = site.idle("n3");
    is_worth_nothing(&old, &mut site, nodes, late);
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
    let load = load(&site);
    goes_on(&load);

    reaches(&load, &node);
    reaches(&load, &beside);
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
    goes_on(&load);
    let stays = node.rows()["t"].len();
    goes_on(&load);
    assert_eq!(node.rows()["t"].len(), stays, "it is heard by its old key");
    // 3. The node has it.
    restart(&mut node, true, &format!("{old:?}"), &format!("{new:?}"));
    goes_on(&load);

    let lost: SecretKey = file::read_secret(&old).unwrap();
    let server = site.publisher_key();
    let keys = (&server.as_bytes()[..], &lost);
    let thief = Stranger::connect(zmq::SUB, &site.cluster.uri(), Some(keys));
    thief.is_refused();
    goes_on(&load);

    let count = load.stop();
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
