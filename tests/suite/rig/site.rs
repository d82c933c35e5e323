//! A publisher host and nodes with keys.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use fanfare::security::file;
use fanfare::security::key::{PublicKey, SecretKey};
use rustix::process::Signal;
use serde_json::Value;

use super::cluster::Cluster;
use super::config::Folder;
use super::control::run;
use super::counted::Said;
use super::node::Node;

pub struct Site {
    folder: Folder,
    pub cluster: Cluster,
    pub sync_uri: String,
    /// What a publisher with its keys is told.
    secured: String,
}

impl Site {
    /// A running service that authorises these nodes.
    pub fn new(nodes: &[&str]) -> Site {
        Site::with(nodes, "")
    }

    /// The same, with more in its configuration.
    pub fn with(nodes: &[&str], more: &str) -> Site {
        let folder = Folder::new();
        let (keys, authorized) = (folder.path("keys"), folder.path("authorized"));
        std::fs::create_dir(&authorized).unwrap();
        let made = run(&[&"keygen", &"--publisher", &"--dir", &keys]);
        assert!(made.status.success(), "{made:?}");
        let secured = format!(
            "security = \"curve\"\npublisher_key = {:?}\nauthorized_keys = {:?}\n",
            keys.join("publisher.key_secret"),
            authorized
        );
        let cluster = Cluster::new(&format!("{secured}{more}"));
        let mut site = Site {
            folder,
            sync_uri: cluster.sync_uri(),
            cluster,
            secured,
        };
        for node in nodes {
            let key = site.keygen(node);
            site.authorise(node, &key);
        }
        site.cluster.host.start();
        site
    }

    /// Another running publisher, with the same keys and more in its configuration.
    pub fn other(&self, more: &str) -> Cluster {
        Cluster::running(&format!("{}{more}", self.secured))
    }

    pub fn keys(&self) -> PathBuf {
        self.folder.path("keys")
    }

    pub fn authorized(&self) -> PathBuf {
        self.folder.path("authorized")
    }

    pub fn pending(&self) -> PathBuf {
        self.cluster.host.state_dir.join("pending")
    }

    /// Makes a node's pair; gives the public key.
    pub fn keygen(&self, name: &str) -> String {
        let made = run(&[&"keygen", &"--node", &name, &"--dir", &self.keys()]);
        assert!(made.status.success(), "{made:?}");
        let key = self.public(name);
        let said = String::from_utf8(made.stdout).unwrap();
        assert!(
            said.contains(&format!("fanfare authorise {name} '{key}'")),
            "{said}"
        );
        key
    }

    /// The public key as its file has it.
    pub fn public(&self, name: &str) -> String {
        let key: PublicKey = file::read_public(&self.keys().join(format!("{name}.key"))).unwrap();
        key.to_string()
    }

    /// The publisher's public key.
    pub fn publisher_key(&self) -> PublicKey {
        file::read_public(&self.keys().join("publisher.key")).unwrap()
    }

    pub fn secret(&self, name: &str) -> SecretKey {
        file::read_secret(&self.keys().join(format!("{name}.key_secret"))).unwrap()
    }

    /// `fanfare authorise`.
    #[track_caller]
    pub fn authorise(&self, name: &str, key: &str) {
        let done = run(&[
            &"authorise",
            &name,
            &key,
            &"--dir",
            &self.authorized(),
            &"--pending",
            &self.pending(),
        ]);
        assert!(done.status.success(), "{done:?}");
    }

    /// What the tool prints.
    #[track_caller]
    pub fn tool(&self, words: &[&str], paths: &[&Path]) -> String {
        let words = words.iter().map(|word| word as &dyn AsRef<OsStr>);
        let paths = paths.iter().map(|path| path as &dyn AsRef<OsStr>);
        let done = run(&words.chain(paths).collect::<Vec<_>>());
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// What an agent with this node's key is told.
    pub fn secured(&self, name: &str) -> String {
        format!(
            "security = \"curve\"\nnode_key = {:?}\npublisher_keys = {{ \"*\" = {:?} }}\n",
            self.keys().join(format!("{name}.key_secret")),
            self.keys().join("publisher.key")
        )
    }

    /// Gives the running service a configuration in which `old` is `new`.
    pub fn reload(&mut self, old: &str, new: &str) {
        let host = &mut self.cluster.host;
        assert!(host.more.contains(old), "{}", host.more);
        host.more = host.more.replace(old, new);
        // Writes the file.
        host.command();
        host.process().signal(Signal::HUP);
    }

    /// The publisher's report.
    pub fn report(&self) -> Value {
        self.cluster.host.report()
    }

    /// A started agent with this node's key.
    pub fn node(&self, name: &str) -> Node {
        self.node_with(name, &["t1"])
    }

    /// A started agent with this node's key and these topics.
    pub fn node_with(&self, name: &str, topics: &[&str]) -> Node {
        let mut node = self.configured(name, &self.cluster.uri(), topics);
        node.start();
        node
    }

    /// A started agent with this node's key, of the publisher at `uri`.
    pub fn node_of(&self, name: &str, uri: &str) -> Node {
        let mut node = self.configured(name, uri, &["t1"]);
        node.start();
        node
    }

    /// An agent with this node's key that is not started.
    pub fn idle(&self, name: &str) -> Node {
        self.configured(name, &self.cluster.uri(), &["t1"])
    }

    fn configured(&self, name: &str, uri: &str, topics: &[&str]) -> Node {
        let mut node = Node::new(&[uri], topics, &self.secured(name));
        node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 1.0"));
        node
    }

    pub fn stop(&mut self) -> Said {
        self.cluster.stop()
    }
}
