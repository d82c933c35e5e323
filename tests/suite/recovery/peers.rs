//! Publishers that follow each other.

use serde_json::{Value, json};

use fanfare::event::Event;
use rustix::process::Signal;

use crate::rig::cluster::Cluster;
use crate::rig::config::Folder;
use crate::rig::control::run;
use crate::rig::load::flush;
use crate::rig::node::Node;
use crate::rig::{PATIENCE, at_most, wait_for, within};

/// Hosts that name each other, and none of which runs.
fn hosts(count: usize) -> Vec<Cluster> {
    let mut hosts: Vec<Cluster> = (0..count).map(|_| Cluster::new("")).collect();
    let uris: Vec<String> = hosts.iter().map(Cluster::uri).collect();
    for host in &mut hosts {
        // Its own address is among them, as where all have the same configuration.
        host.host.more += &format!("peers = {uris:?}\n");
    }
    hosts
}

fn start(hosts: &mut [Cluster]) {
    for host in hosts {
        host.host.start();
    }
}

/// The states of the peers, in the order of their addresses.
fn state(host: &Cluster, of: &Cluster) -> String {
    let report = host.host.report();
    let peers = report["peers"].as_array().unwrap();
    let peer = peers.iter().find(|peer| peer["uri"] == of.uri());
    peer.unwrap()["state"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is(host: &Cluster, of: &Cluster, wanted: &str) {
    within(PATIENCE * 2, wanted, || {
        (state(host, of) == wanted).then_some(())
    });
}

fn counted(host: &Cluster, name: &str) -> u64 {
    host.host.report()["parts"]["peers"][name].as_u64().unwrap()
}

#[track_caller]
fn set(host: &Cluster, topic: &str, key: &str, n: u64, version: Option<u64>) {
    let client = host.host.client();
    let value = format!("{{\"n\": {n}}}");
    let event = Event::set("t", key, &value).on(topic);
    client.publish(&event, version).unwrap();
    flush(&client);
}

/// Waits until `host` has taken over `count` states of rows of others since it started.
#[track_caller]
fn has_taken(host: &Cluster, count: u64) {
    wait_for("rows of the others are taken over", || {
        counted(host, "rows_changed_total") >= count
    });
}

fn rows(rows: &[(&str, u64)]) -> std::collections::BTreeMap<String, Value> {
    let rows = rows.iter();
    rows.map(|(key, n)| ((*key).to_owned(), json!({ "n": n })))
        .collect()
}

#[test]
fn who_reaches_one_has_the_rows_of_all() {
    let mut hosts = hosts(2);
    hosts[1].host.start();
    // Before the first one runs, on topics that it has never heard of.
    set(&hosts[1], "t1", "early", 1, None);
    set(&hosts[1], "t2", "other", 2, None);
    hosts[0].host.start();
    is(&hosts[0], &hosts[1], "ok");
    is(&hosts[0], &hosts[0], "self");
    set(&hosts[1], "t1", "late", 3, None);
    set(&hosts[1], "t3", "new", 4, None);
    set(&hosts[0], "t1", "own", 5, None);
    // Leases are among them.
    wait_for("all of them are taken over", || {
        let rows = |host: &Cluster| host.host.report()["parts"]["service"]["rows"].as_u64();
        rows(&hosts[0]) == Some(7) && rows(&hosts[1]) == Some(7)
    });
    let expected = rows(&[
        ("early", 1),
        ("other", 2),
        ("late", 3),
        ("new", 4),
        ("own", 5),
    ]);
    let fresh = |host: &Cluster| {
        let mut node = Node::started(&[&host.uri()], &["t1", "t2", "t3"], "");
        node.has(&expected);
        let counted = node.stop();
        assert!(
            counted.recovery("snapshots_total") >= 4,
            "{:#?}",
            counted.lines
        );
    };
    fresh(&hosts[0]);
    hosts[1].host.kill();
    is(&hosts[0], &hosts[1], "down");
    fresh(&hosts[0]);
    // They are kept over a restart, with the other one away.
    hosts[0].host.stop(PATIENCE);
    hosts[0].host.start();
    is(&hosts[0], &hosts[1], "down");
    fresh(&hosts[0]);
    // What a peer has is no event of this one, and is published a second time by nobody.
    let head = |host: &Cluster| {
        host.host.report()["parts"]["service"]["head_seq"]
            .as_u64()
            .unwrap()
    };
    let (own, before) = (head(&hosts[0]), counted(&hosts[0], "rows_ended_total"));
    hosts[1].host.start();
    is(&hosts[0], &hosts[1], "ok");
    is(&hosts[1], &hosts[0], "ok");
    set(&hosts[1], "t1", "late", 3, None);
    has_taken(&hosts[0], 1);
    // Leases are renewed in their store only.
    assert!(head(&hosts[0]) <= own + 1);
    assert_eq!(counted(&hosts[0], "rows_ended_total"), before);
    fresh(&hosts[1]);
}

/// Deleted by a worker that knows no versions, after it was created with one far above any clock: the
/// publisher that is told of the delete must have heard of the row.
#[test]
fn created_here_deleted_there_is_deleted_everywhere_in_any_order() {
    const FAR: u64 = 9_000_000_000_000_000_000;
    for (creator, deleter) in [(0, 1), (1, 0)] {
        let mut hosts = hosts(2);
        start(&mut hosts);
        is(&hosts[deleter], &hosts[creator], "ok");
        let uris: Vec<String> = hosts.iter().map(Cluster::uri).collect();
        let both = [uris[0].as_str(), uris[1].as_str()];
        let swapped = [uris[1].as_str(), uris[0].as_str()];
        let early = Node::started(&both, &["t1"], "");
        let mut away = Node::started(&swapped, &["t1"], "");
        // It reaches the creator only, and the other one later.
        let mut half = Node::started(&[&uris[creator]], &["t1"], "");
        set(&hosts[creator], "t1", "gone", 1, Some(FAR));
        set(&hosts[creator], "t1", "stays", 1, None);
        let first = rows(&[("gone", 1), ("stays", 1)]);
        for node in [&early, &away, &half] {
            node.has(&first);
        }
        away.stop();
        wait_for("the deleter knows of the row", || {
            counted(&hosts[deleter], "rows_changed_total") >= 2
        });
        let taken = counted(&hosts[creator], "rows_changed_total");
        hosts[deleter].delete("t1", "gone");
        let expected = rows(&[("stays", 1)]);
        early.has(&expected);
        has_taken(&hosts[creator], taken + 1);
        let fresh = |publishers: &[&str]| {
            let mut node = Node::new(publishers, &["t1"], "");
            node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 3.0"));
            node.start();
            node.has(&expected);
        };
        let all_orders = || {
            for publishers in [&both[..], &swapped, &both[..1], &both[1..]] {
                fresh(publishers);
            }
        };
        all_orders();
        away.start();
        away.has(&expected);
        // Either of them is killed, is away, and comes back.
        for which in [creator, deleter] {
            hosts[which].host.kill();
            for publishers in [&both[..], &swapped, &[uris[1 - which].as_str()]] {
                fresh(publishers);
            }
            hosts[which].host.start();
            is(&hosts[which], &hosts[1 - which], "ok");
            is(&hosts[1 - which], &hosts[which], "ok");
            all_orders();
        }
        half.stop();
        half.configure(|config| {
            let all = format!("publishers_ips = {both:?}");
            config.replacen(&format!("publishers_ips = {:?}", [&uris[creator]]), &all, 1)
        });
        half.start();
        for node in [&half, &away, &early] {
            node.has(&expected);
        }
        // The creator has it as deleted too, without any agent's help.
        let gone = Event::delete("t", "gone").on("t1");
        let client = hosts[creator].host.client();
        client.publish(&gone, Some(FAR)).unwrap();
        assert_eq!(
            client.flush(at_most(PATIENCE)).unwrap().refused,
            1,
            "an older version"
        );
    }
}

/// Three, one of which is away, hangs, loses its disk: the others go on, and in the end each has all.
#[test]
fn one_of_three_stops_nothing_and_gets_all_back() {
    let mut hosts = hosts(3);
    hosts[0].host.start();
    hosts[1].host.start();
    is(&hosts[0], &hosts[1], "ok");
    is(&hosts[1], &hosts[0], "ok");
    assert_eq!(state(&hosts[0], &hosts[2]), "down");
    set(&hosts[0], "t1", "a", 1, None);
    set(&hosts[1], "t1", "b", 2, None);
    hosts[2].host.start();
    for (one, other) in [(2, 0), (2, 1), (0, 2), (1, 2)] {
        is(&hosts[one], &hosts[other], "ok");
    }
    set(&hosts[2], "t1", "c", 3, None);
    let all = rows(&[("a", 1), ("b", 2), ("c", 3)]);
    let each_has = |hosts: &[Cluster], wanted: &std::collections::BTreeMap<String, Value>| {
        for host in hosts {
            within(PATIENCE * 2, "a fresh agent of each has all", || {
                let mut node = Node::started(&[&host.uri()], &["t1"], "");
                let found = crate::rig::try_within(PATIENCE / 4, || {
                    let rows = node.folder.rows()?.remove("t")?;
                    (rows == *wanted).then_some(())
                });
                node.kill();
                found
            });
        }
    };
    each_has(&hosts, &all);
    // One hangs: what is published at the others is acknowledged as ever.
    hosts[2].host.process().signal(Signal::STOP);
    let begun = std::time::Instant::now();
    set(&hosts[0], "t1", "d", 4, None);
    set(&hosts[1], "t1", "e", 5, None);
    assert!(begun.elapsed() < at_most(PATIENCE / 2));
    is(&hosts[0], &hosts[2], "down");
    hosts[2].host.process().signal(Signal::CONT);
    is(&hosts[0], &hosts[2], "ok");
    let all = rows(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
    each_has(&hosts, &all);
    // One loses its disk: the others give its own rows back, and its new incarnation ends none.
    hosts[2].host.kill();
    std::fs::remove_dir_all(&hosts[2].host.state_dir).unwrap();
    hosts[2].host.start();
    is(&hosts[2], &hosts[0], "ok");
    is(&hosts[2], &hosts[1], "ok");
    each_has(&hosts, &all);
    for host in &hosts {
        assert_eq!(counted(host, "rows_ended_total"), 0);
    }
}

/// A service with keys of its own, which authorises the others.
fn secured(folder: &Folder, count: usize) -> Vec<Cluster> {
    let keys = |n: usize| folder.path(&format!("keys{n}"));
    for n in 0..count {
        let made = run(&[&"keygen", &"--publisher", &"--dir", &keys(n)]);
        assert!(made.status.success(), "{made:?}");
        std::fs::create_dir(folder.path(&format!("authorized{n}"))).unwrap();
    }
    let mut hosts = hosts(count);
    let uris: Vec<String> = hosts.iter().map(Cluster::uri).collect();
    for (n, host) in hosts.iter_mut().enumerate() {
        let known = |other: usize| {
            format!(
                "{:?} = {:?}",
                uris[other],
                keys(other).join("publisher.key")
            )
        };
        let known: Vec<String> = (0..count).map(known).collect();
        host.host.more += &format!(
            "security = \"curve\"\npublisher_key = {:?}\nauthorized_keys = {:?}\n\
             peer_keys = {{ {} }}\n",
            keys(n).join("publisher.key_secret"),
            folder.path(&format!("authorized{n}")),
            known.join(", ")
        );
    }
    hosts
}

fn authorise(folder: &Folder, host: usize, other: usize) {
    let key = folder.path(&format!("keys{other}")).join("publisher.key");
    let name = format!("peer{other}.key");
    std::fs::copy(key, folder.path(&format!("authorized{host}")).join(name)).unwrap();
}

#[test]
fn peers_prove_who_they_are() {
    let folder = Folder::new();
    let mut hosts = secured(&folder, 2);
    authorise(&folder, 1, 0);
    start(&mut hosts);
    set(&hosts[1], "t1", "k", 1, None);
    is(&hosts[0], &hosts[1], "ok");
    has_taken(&hosts[0], 1);
    // The other way it was not authorised.
    wait_for("the stranger is refused", || {
        hosts[0].host.report()["parts"]["service"]["handshakes_refused_total"].as_u64() > Some(0)
    });
    assert_eq!(state(&hosts[1], &hosts[0]), "down");
    set(&hosts[0], "t1", "k2", 2, None);
    authorise(&folder, 0, 1);
    hosts[0].host.process().signal(Signal::HUP);
    is(&hosts[1], &hosts[0], "ok");
    wait_for("what was written before is here", || {
        counted(&hosts[1], "rows_changed_total") >= 1
    });
}
