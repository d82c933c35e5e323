//! The directory of authorised nodes: one file `NAME.key` each.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::{self, KeyFileError, PUBLIC_END};
use super::key::PublicKey;

/// Who may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorized(HashMap<PublicKey, String>);

impl Authorized {
    /// The name of the node with this key.
    pub fn name(&self, key: &PublicKey) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody may.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes that may connect by this and not by `newer`, or there under another name.
    pub fn lost_in<'a>(&'a self, newer: &'a Authorized) -> impl Iterator<Item = &'a str> {
        let lost = |(key, name): &(&PublicKey, &String)| newer.name(key) != Some(name.as_str());
        self.0.iter().filter(lost).map(|(_, name)| name.as_str())
    }
}

/// What a look at the directory has to tell.
#[derive(Debug)]
pub struct Look {
    /// Who may connect now.
    pub authorized: Authorized,
    /// Files that authorise nobody, and why.
    pub bad: Vec<String>,
}

/// What tells one state of a file from another.
type Mark = (u64, u64, i64, i64, i64, i64, u32);

/// The directory. It is listed with each look; files are read again when they changed.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    seen: Option<BTreeMap<PathBuf, Mark>>,
}

impl Directory {
    /// The directory at `path`.
    pub fn new(path: &Path) -> Self {
        Directory {
            path: path.to_owned(),
            seen: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads everything anew if anything has changed since the last look; `None` if not.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn look(&mut self) -> io::Result<Option<Look>> {
        let files = self.files()?;
        if self.seen.as_ref() == Some(&files) {
            return Ok(None);
        }
        let look = read(files.keys());
        self.seen = Some(files);
        Ok(Some(look))
    }

    fn files(&self) -> io::Result<BTreeMap<PathBuf, Mark>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let ends = path.to_str().is_some_and(|name| name.ends_with(PUBLIC_END));
            // One that is gone by now is not there.
            if ends && let Ok(m) = fs::metadata(&path) {
                let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
                let mark = (
                    m.ino(),
                    m.size(),
                    times.0,
                    times.1,
                    times.2,
                    times.3,
                    m.mode(),
                );
                files.insert(path, mark);
            }
        }
        Ok(files)
    }
}

fn read<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Look {
    let mut look = Look {
        authorized: Authorized::default(),
        bad: Vec::new(),
    };
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.strip_suffix(PUBLIC_END));
        let Some(name) = name.filter(|name| file::is_name(name)) else {
            let why = "is no name of a node; write letters, digits, - _ and . only";
            look.bad.push(format!("{} {why}", path.display()));
            continue;
        };
        match file::read_public(path) {
            Ok(key) => match look.authorized.0.get(&key) {
                // Which of two is meant cannot be told; the first keeps the key.
                Some(other) => look.bad.push(format!(
                    "{} holds the key of {other}; every node needs its own",
                    path.display()
                )),
                None => drop(look.authorized.0.insert(key, name.to_owned())),
            },
            // Removed between listing and reading.
            Err(KeyFileError::Unreadable { error, .. })
                if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => look.bad.push(error.to_string()),
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::new([byte; 32])
    }

    #[test]
    fn changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut directory = Directory::new(folder.path());
        assert!(directory.look().unwrap().unwrap().authorized.is_empty());
        assert!(directory.look().unwrap().is_none());

        file::write_public(&at("n1.key"), &key(1), false).unwrap();
        let first = directory.look().unwrap().unwrap().authorized;
        assert_eq!(first.name(&key(1)), Some("n1"));
        assert!(directory.look().unwrap().is_none());

        // Another key of the same length, under the same name.
        file::write_public(&at("n1.key"), &key(2), true).unwrap();
        let second = directory.look().unwrap().unwrap().authorized;
        assert_eq!(second.name(&key(1)), None);
        assert_eq!(second.name(&key(2)), Some("n1"));
        assert_eq!(first.lost_in(&second).collect::<Vec<_>>(), ["n1"]);

        fs::remove_file(at("n1.key")).unwrap();
        assert!(directory.look().unwrap().unwrap().authorized.is_empty());
        fs::remove_dir(folder.path()).unwrap();
        assert!(directory.look().is_err());
    }

    #[test]
    fn bad_files_authorise_nobody_and_harm_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        file::write_public(&at("n1.key"), &key(1), false).unwrap();
        file::write_public(&at("n2.key"), &key(1), false).unwrap();
        file::write_public(&at("n 3.key"), &key(3), false).unwrap();
        fs::write(at("n4.key"), "x").unwrap();
        fs::write(at("README"), "x").unwrap();
        let look = Directory::new(folder.path()).look().unwrap().unwrap();
        assert_eq!(look.authorized.len(), 1);
        assert_eq!(look.authorized.name(&key(1)), Some("n1"));
        assert_eq!(look.bad.len(), 3, "{:?}", look.bad);
    }
}
