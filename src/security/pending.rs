//! Keys that asked to be let in and are not known, for the operator to decide on.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::key::PublicKey;
use crate::util::atomic_file::AtomicFile;

/// The file's name in a publisher's `state_dir`.
pub const FILE: &str = "pending";

/// Keys that are kept. A stranger can push others out, but a node comes back every few seconds.
pub const MAX: usize = 256;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it came from last.
    pub address: String,
    /// When it came last, Unix seconds.
    pub at: u64,
}

/// The list: one line for each key, with its address and time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pending(BTreeMap<PublicKey, Seen>);

impl Pending {
    /// The list in the file at `path`; empty where there is none. Lines that cannot be read are
    /// left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let line = |line: &str| {
            let mut words = line.split(' ');
            let key = PublicKey::parse(words.next()?).ok()?;
            let address = words.next()?.to_owned();
            let at = words.next()?.parse().ok()?;
            Some((key, Seen { address, at }))
        };
        Ok(Pending(text.lines().filter_map(line).take(MAX).collect()))
    }

    /// Writes the list, which need not reach the disk: whoever is on it comes again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        AtomicFile::new(path, 0o644)?.not_synced().replace(|out| {
            for (key, Seen { address, at }) in &self.0 {
                writeln!(out, "{key} {address} {at}")?;
            }
            Ok(())
        })
    }

    /// `key` came from `address`. Says whether it is new; one too many takes the place of the one
    /// that has not come for longest.
    pub fn came(&mut self, key: PublicKey, address: &str, at: u64) -> bool {
        // From libzmq and an address; kept to one word whatever it is.
        let plain = |c: &char| c.is_ascii_hexdigit() || ".:[]%".contains(*c);
        let address: String = address.chars().filter(plain).take(64).collect();
        let address = match address.is_empty() {
            true => "?".to_owned(),
            false => address,
        };
        let new = self.0.insert(key, Seen { address, at }).is_none();
        if self.0.len() > MAX {
            let others = self.0.iter().filter(|(other, _)| **other != key);
            let oldest = others.min_by_key(|(_, seen)| seen.at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        new
    }

    /// Drops the keys for which this holds; whether there were any.
    pub fn forget(&mut self, mut known: impl FnMut(&PublicKey) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|key, _| !known(key));
        self.0.len() != before
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Seen)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        PublicKey::new(bytes)
    }

    #[test]
    fn it_is_bounded_and_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(Pending::read(&path).unwrap().is_empty());
        let mut pending = Pending::default();
        assert!(pending.came(key(0), "10.0.0.1 x\n", 1));
        assert!(!pending.came(key(0), "10.0.0.2", 5_000));
        for number in 1..1_000 {
            pending.came(key(number), "fd00::1", u64::from(number));
        }
        assert_eq!(pending.len(), MAX);
        assert!(pending.iter().any(|(found, seen)| *found == key(0)
            && *seen
                == Seen {
                    address: "10.0.0.2".into(),
                    at: 5_000
                }));
        pending.write(&path).unwrap();
        assert_eq!(Pending::read(&path).unwrap(), pending);
        assert!(pending.forget(|found| *found == key(0)));
        assert!(!pending.forget(|found| *found == key(0)));
    }
}
