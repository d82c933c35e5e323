//! What the service begins with: what it kept, who it is, and that nobody else of this host is the same.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};

use super::ends::reachable;
use crate::config::PublisherConfig;
use crate::publisher::history::{self, History, Moment};
use crate::publisher::lease::Identity;
use crate::replica::Row;
use crate::store::PUBLISHER_TABLE;
use crate::store::publisher_row::id_text;
use crate::util::group;
use crate::util::lock_file::{LockError, LockFile};

/// What is published of each table, by key.
pub type KnownRows = HashMap<String, BTreeMap<String, String>>;

/// What the service begins with.
pub struct State {
    /// Journal and rows.
    pub history: History,
    /// Who this publisher is.
    pub identity: Identity,
    /// They keep a second publisher away; after what they guard.
    pub locks: [LockFile; 2],
}

impl State {
    /// Makes the folders, makes sure that this is the only one, and reads what was kept.
    pub fn open(config: &PublisherConfig) -> Result<Self, Box<dyn Error>> {
        let group = Some(config.socket_group.as_str());
        for (folder, group) in [(&config.state_dir, None), (&config.run_dir, group)] {
            group::folder(folder, group)
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        let lock = LockFile::acquire(&beside(&config.publisher_multiproc_socket, ".pid"))?;
        let history = History::open(history_options(config), Moment::now())?;
        let identity = Identity {
            id: history.id(),
            uri: reachable(config),
            incarnation: history.incarnation(),
            instance: fastrand::u64(..),
        };
        let id = id_text(&identity.id);
        let id_lock = sole(config, &id)?;
        log::info!(
            "publisher {id}, incarnation {}, {} rows, last event {}",
            identity.incarnation,
            history.rows().len(),
            history.head()
        );
        Ok(State {
            history,
            identity,
            locks: [lock, id_lock],
        })
    }

    /// The tables whose differences are published, and what is published of them already.
    pub fn monitored(&self, config: &PublisherConfig) -> (Vec<String>, KnownRows) {
        let mut tables = config.monitor_tables.clone();
        let listed = tables.iter().any(|table| table == PUBLISHER_TABLE);
        if !listed {
            tables.push(PUBLISHER_TABLE.to_owned());
        }
        let mut known = current_rows(&self.history, &tables);
        if let Some(publishers) = known.get_mut(PUBLISHER_TABLE)
            && !listed
        {
            // The store of this host knows no others: those were published as events, and that they
            // are not in the store does not mean that they are gone.
            let own = id_text(&self.identity.id);
            publishers.retain(|key, _| *key == own);
        }
        (tables, known)
    }
}

/// Keeps a second publisher with this id from starting on this host. On another host only its
/// lease in a common store and the agents can tell.
fn sole(config: &PublisherConfig, id: &str) -> Result<LockFile, String> {
    let path = config.run_dir.join(format!("publisher-{id}.pid"));
    LockFile::acquire(&path).map_err(|error| match error {
        LockError::Held { .. } => format!(
            "another publisher of this host has the id {id}: {error}; set publisher_id, or remove \
             what was copied into {}",
            config.state_dir.display()
        ),
        error => error.to_string(),
    })
}

/// What is published of each table, so that only differences are published again.
fn current_rows(history: &History, tables: &[String]) -> KnownRows {
    let rows = history.rows();
    let wanted = |table: &str, _: &str| tables.iter().any(|name| name == table);
    let mut known: KnownRows = tables
        .iter()
        .map(|table| (table.clone(), BTreeMap::new()))
        .collect();
    for name in rows.keys(wanted) {
        let row = rows.get(&name.table, &name.key);
        // What another publisher published is not missing from this host's store.
        let own = |row: &&Row| {
            row.stamp
                .is_some_and(|stamp| stamp.publisher == history.id())
        };
        let row = row.filter(own);
        if let (Some(value), Some(table)) = (
            row.and_then(|row| row.value.clone()),
            known.get_mut(&*name.table),
        ) {
            table.insert(name.key.to_string(), value);
        }
    }
    known
}

/// A file beside `path`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn history_options(config: &PublisherConfig) -> history::Options {
    let mut options = history::Options::new(config.state_dir.join("publisher.redb"));
    options.id = config.publisher_id;
    options.durability = config.durability;
    options.max_events = config.journal_max_events;
    options.max_bytes = config.journal_max_bytes;
    options.max_age = config.journal_max_age;
    options.tombstone_ttl = config.tombstone_ttl;
    options.authoritative = config.authoritative;
    options
}
