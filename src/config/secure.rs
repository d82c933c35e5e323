//! `security = "curve"`: the keys that the configuration names, read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::Value;

use super::agent::AgentConfig;
use super::common::Security;
use super::keys::{Spec, key};
use super::kind::Kind;
use super::publisher::PublisherConfig;
use super::setting::Setting;
use crate::pubsub::endpoint::{Defaults, Endpoint};
use crate::security::authorized::{Directory, DirectoryError};
use crate::security::file::{self, KeyFileError};
use crate::security::key::{KeyError, PublicKey, SecretKey};
use crate::security::party::{ANY, NodeKeys};

pub(super) const NODE_KEY: Spec = key(
    r#""/etc/fanfare/keys/node.key_secret""#,
    Kind::Folder(1024),
    "The file of this node's secret key, made by: fanfare keygen --node NAME. Only the user that\n\
     the agent runs as may read it.",
);

pub(super) const PUBLISHER_KEYS: Spec = key(
    r#"{ "*" = "/etc/fanfare/keys/publisher.key" }"#,
    Kind::PublicKeys,
    "The publishers' public keys, or the files that hold them, by address as in publishers_ips;\n\
     \"*\" for those not named. An agent trusts nobody who does not have the key. While a\n\
     publisher's key is changed, the old and the new one: { \"*\" = [\"…\", \"…\"] }.",
);

pub(super) const PEER_KEYS: Spec = key(
    r#"{ "*" = "/etc/fanfare/keys/publisher.key" }"#,
    Kind::PublicKeys,
    "The public keys of peers, or the files that hold them, by address as in peers; \"*\" for those\n\
     not named. A peer knows this publisher by publisher_key: its public part must be among the\n\
     peer's authorized_keys.",
);

pub(super) const PUBLISHER_KEY: Spec = key(
    r#""/etc/fanfare/keys/publisher.key_secret""#,
    Kind::Folder(1024),
    "The file of the publisher's secret key, made by: fanfare keygen --publisher. Only the user\n\
     that the service runs as may read it.",
);

pub(super) const AUTHORIZED_KEYS: Spec = key(
    r#""/etc/fanfare/authorized_keys""#,
    Kind::Folder(1024),
    "The directory of nodes that may connect: a file NAME.key with each one's public key. It is\n\
     read while the service runs: a node whose file comes is admitted, one whose file goes is cut\n\
     off, within seconds. fanfare pending shows who was refused, fanfare authorise admits.",
);

impl Setting for BTreeMap<String, Vec<String>> {
    fn from_value(value: &Value) -> Option<Self> {
        let entries = value.as_dict()?.iter();
        entries
            .map(|(name, value)| Some((name.clone(), texts(value)?)))
            .collect()
    }
}

/// The texts of an entry of a table of public keys: one, or a list of them.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value.as_array() {
        Some(values) => {
            let texts: Option<Vec<String>> = values
                .iter()
                .map(|value| Some(value.as_str()?.to_owned()))
                .collect();
            texts.filter(|texts| !texts.is_empty())
        }
        None => Some(vec![value.as_str()?.to_owned()]),
    }
}

/// What is wrong with an entry of a table of public keys.
pub(super) fn public_key_fault(text: &str) -> Option<String> {
    if Path::new(text).is_absolute() {
        return None;
    }
    let error = PublicKey::parse(text).err()?;
    // Not shown: a secret key may have been written there.
    let mut why = format!("what is written {error}; write public:… or the absolute path of a file");
    if error == KeyError::IsSecret {
        why += "; on the publisher's host, run: fanfare keygen --publisher --force";
    }
    Some(why)
}

/// A key that the configuration names and that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct KeyFault {
    /// The configuration's key.
    pub key: &'static str,
    /// What is wrong, with the command that mends it.
    pub why: String,
    /// Whether it may be otherwise for another user or on another host.
    pub here_only: bool,
}

impl KeyFault {
    fn of(key: &'static str) -> impl Fn(KeyFileError) -> KeyFault {
        move |error| KeyFault {
            key,
            here_only: error.is_about_this_place(),
            why: error.to_string(),
        }
    }

    fn new(key: &'static str, why: String) -> Self {
        KeyFault {
            key,
            why,
            here_only: false,
        }
    }
}

/// The keys that the table `key` names, by address in canonical form.
fn public_keys(
    key: &'static str,
    entries: &BTreeMap<String, Vec<String>>,
    defaults: &Defaults,
    faults: &mut Vec<KeyFault>,
) -> BTreeMap<String, Vec<PublicKey>> {
    let mut keys = BTreeMap::new();
    for (address, texts) in entries {
        let uri = match Endpoint::parse(address, defaults) {
            _ if address == ANY => ANY.to_owned(),
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => {
                faults.push(KeyFault::new(key, format!("{address:?}: {error}")));
                continue;
            }
        };
        let mut of_one = Vec::new();
        for text in texts {
            let read = match Path::new(text).is_absolute() {
                true => file::read_public(Path::new(text)).map_err(KeyFault::of(key)),
                false => PublicKey::parse(text)
                    .map_err(|error| KeyFault::new(key, format!("{address:?} {error}"))),
            };
            match read {
                Ok(found) => of_one.push(found),
                Err(fault) => faults.push(fault),
            }
        }
        keys.insert(uri, of_one);
    }
    keys
}

impl AgentConfig {
    /// The keys that links are secured with; `None` with `security = "none"`.
    ///
    /// # Errors
    /// Every key that cannot be used.
    pub fn keys(&self) -> Result<Option<NodeKeys>, Vec<KeyFault>> {
        if self.security == Security::None {
            return Ok(None);
        }
        let mut faults = Vec::new();
        let defaults = Defaults {
            transport: self.publisher_transport,
            port: self.publisher_port,
        };
        let listed = &self.publisher_keys;
        let publishers = public_keys("publisher_keys", listed, &defaults, &mut faults);
        let secret = file::read_secret(&self.node_key).map_err(KeyFault::of("node_key"));
        match (secret, faults.is_empty()) {
            (Ok(secret), true) => Ok(Some(NodeKeys::new(secret, publishers))),
            (secret, _) => {
                faults.extend(secret.err());
                Err(faults)
            }
        }
    }
}

/// A publisher's side of `security = "curve"`.
#[derive(Debug)]
pub struct PublisherKeys {
    /// Its own key.
    pub secret: SecretKey,
    /// Who may connect.
    pub authorized: PathBuf,
    /// What links to peers are secured with.
    pub peers: NodeKeys,
}

impl PublisherConfig {
    /// The keys that sockets are secured with; `None` with `security = "none"`.
    ///
    /// # Errors
    /// Every key that cannot be used.
    pub fn keys(&self) -> Result<Option<PublisherKeys>, Vec<KeyFault>> {
        if self.security == Security::None {
            return Ok(None);
        }
        let mut faults = Vec::new();
        if let Err(error) = Directory::new(&self.authorized_keys).look() {
            faults.push(KeyFault {
                key: "authorized_keys",
                why: error.to_string(),
                here_only: matches!(error, DirectoryError::Unreadable { .. }),
            });
        }
        let defaults = Defaults {
            transport: self.publisher_transport,
            port: self.publisher_port,
        };
        let publishers = match self.peers.is_empty() {
            true => BTreeMap::new(),
            false => public_keys("peer_keys", &self.peer_keys, &defaults, &mut faults),
        };
        let secret = file::read_secret(&self.publisher_key).map_err(KeyFault::of("publisher_key"));
        match (secret, faults.is_empty()) {
            (Ok(secret), true) => Ok(Some(PublisherKeys {
                peers: NodeKeys::new(secret.clone(), publishers),
                secret,
                authorized: self.authorized_keys.clone(),
            })),
            (secret, _) => {
                faults.extend(secret.err());
                Err(faults)
            }
        }
    }
}
