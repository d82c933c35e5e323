//! Publishers that say no hello: what they sent meanwhile comes from the northbound store.

use std::collections::BTreeMap;
use std::path::Path;

use fanfare::store::NbStore;
use fanfare::store::driver::embedded::EmbeddedStore;
use serde_json::{Value, json};

use crate::rig::node::Node;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::{until, wait_for};

/// Changes the store, which the agent may be reading just now.
fn change(folder: &Path, rows: &[(&str, Option<Value>)]) {
    let store = until("the store is free", || EmbeddedStore::open(folder).ok());
    for (key, value) in rows {
        match value {
            Some(value) => store.set("t", key, &value.to_string()).unwrap(),
            None => drop(store.delete("t", key).unwrap()),
        }
    }
}

fn rows(rows: &[(&str, &Value)]) -> BTreeMap<String, Value> {
    let rows = rows.iter();
    rows.map(|(key, value)| ((*key).to_owned(), (*value).clone()))
        .collect()
}

#[test]
fn what_a_legacy_publisher_sent_meanwhile_comes_from_the_store() {
    let port = Port::free();
    let publisher = Publisher::bind(&port.uri());
    let mut node = Node::new(
        &[&port.uri()],
        &["t1"],
        "legacy_detect = 0.3\ndb_sync_time = 1.0\nnb_store = \"embedded\"\n",
    );
    node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 1.0"));
    let folder = node.folder.path("fanfare-agent-state");
    std::fs::create_dir_all(&folder).unwrap();
    let here = |n: u64| json!({"topic": "t1", "n": n});
    let elsewhere = json!({"topic": "t2"});
    change(
        &folder,
        &[
            ("a", Some(here(1))),
            ("b", Some(here(1))),
            ("other", Some(elsewhere)),
        ],
    );
    node.start();
    // Sent before this agent was there, and by nobody since.
    node.has(&rows(&[("a", &here(1)), ("b", &here(1))]));
    drop(publisher);
    node.says("connection lost");
    change(
        &folder,
        &[("a", Some(here(2))), ("b", None), ("c", Some(here(3)))],
    );
    let _publisher = Publisher::bind(&port.uri());
    node.has(&rows(&[("a", &here(2)), ("c", &here(3))]));
    // And from time to time, without any event.
    change(&folder, &[("c", None)]);
    node.has(&rows(&[("a", &here(2))]));
    // A store that is held by another, or is empty, takes nothing away.
    let held = until("the store is free", || EmbeddedStore::open(&folder).ok());
    node.says("handlers start over with the rows that were heard of");
    held.delete("t", "a").unwrap();
    held.delete("t", "other").unwrap();
    drop(held);
    node.says("the northbound store is empty");
    assert_eq!(node.rows()["t"], rows(&[("a", &here(2))]));
    let counted = node.stop();
    assert!(counted.resyncs() >= 4, "{:#?}", counted.lines);
    wait_for("nothing is left open", || {
        EmbeddedStore::open(&folder).is_ok()
    });
}
