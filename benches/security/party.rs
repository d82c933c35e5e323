//! Keys of a publisher and of a node that it admits.

use std::sync::Arc;

use fanfare::pubsub::driver::zmq::curve;
use fanfare::security::file;
use fanfare::security::key::{PublicKey, SecretKey};
use fanfare::security::party::{ANY, NodeKeys};

pub struct Party {
    _folder: tempfile::TempDir,
    /// The publisher's part of the configuration.
    pub config: String,
    pub node: Arc<NodeKeys>,
    /// More nodes: one has few connections.
    pub crowd: Vec<SecretKey>,
    pub publisher: PublicKey,
}

impl Party {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = || {
            let secret = SecretKey::random().unwrap();
            (curve::public_key(&secret).unwrap(), secret)
        };
        let (publisher, secret) = pair();
        file::write_pair(folder.path(), "publisher", &publisher, &secret, false).unwrap();
        let authorized = folder.path().join("authorized");
        std::fs::create_dir(&authorized).unwrap();
        let (public, secret) = pair();
        file::write_public(&authorized.join("n1.key"), &public, false).unwrap();
        let crowd = (0..128).map(|number| {
            let (public, secret) = pair();
            let file = authorized.join(format!("c{number}.key"));
            file::write_public(&file, &public, false).unwrap();
            secret
        });
        let crowd = crowd.collect();
        let trusted = [(ANY.to_owned(), vec![publisher])];
        Party {
            config: format!(
                "security = \"curve\"\npublisher_key = {:?}\nauthorized_keys = {authorized:?}\n",
                folder.path().join("publisher.key_secret")
            ),
            node: Arc::new(NodeKeys::new(secret, trusted.into())),
            publisher,
            crowd,
            _folder: folder,
        }
    }
}
