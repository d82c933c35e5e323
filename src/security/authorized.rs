//! The directory of authorised nodes: one file `NAME.key` each.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::file::{self, PUBLIC_END};
use super::key::PublicKey;
use super::remedy;

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

/// Why the directory is not looked at, with what mends it.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be listed.
    #[error("{}: {error}{}", path.display(), remedy::of_folder(path, error))]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Everybody could admit nodes, or shut them out.
    #[error("{} may be changed by everybody (mode {mode:04o}); run: chmod o-w {}", path.display(), path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a look at the directory has to tell.
#[derive(Debug)]
pub struct Look {
    /// Who may connect now.
    pub authorized: Authorized,
    /// Files that authorise nobody, and why.
    pub bad: Vec<String>,
    /// Files that cannot be read now, and why: they authorise whom they did.
    pub unsure: Vec<String>,
}

/// What tells one state of a file from another; `None` where the system does not tell now.
type Mark = Option<(u64, u64, (i64, i64, i64, i64), u32)>;

/// The directory. It is listed with each look; files are read again when they changed, or when one of
/// them could not be read.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    seen: Option<BTreeMap<PathBuf, Mark>>,
    /// What each file held when it was read last.
    keys: HashMap<PathBuf, PublicKey>,
}

impl Directory {
    /// The directory at `path`.
    pub fn new(path: &Path) -> Self {
        Directory {
            path: path.to_owned(),
            seen: None,
            keys: HashMap::new(),
        }
    }

    /// Reads everything anew if anything has changed since the last look, or could not be read then;
    /// `None` if not.
    ///
    /// # Errors
    /// The directory cannot be listed, or everybody could write into it.
    pub fn look(&mut self) -> Result<Option<Look>, DirectoryError> {
        let unreadable = |error| DirectoryError::Unreadable {
            path: self.path.clone(),
            error,
        };
        let metadata = fs::metadata(&self.path).map_err(unreadable)?;
        let mode = metadata.permissions().mode() & 0o7777;
        // That others' files stay, with the sticky bit, keeps nobody from adding a node.
        if mode & 0o002 != 0 {
            return Err(DirectoryError::Writable {
                path: self.path.clone(),
                mode,
            });
        }
        let files = self.files().map_err(unreadable)?;
        if self.seen.as_ref() == Some(&files) {
            return Ok(None);
        }
        let look = self.read(files.keys());
        // Their marks stay as they are when the disk comes back.
        self.seen = look.unsure.is_empty().then_some(files);
        Ok(Some(look))
    }

    fn files(&self) -> io::Result<BTreeMap<PathBuf, Mark>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let ends = path.to_str().is_some_and(|name| name.ends_with(PUBLIC_END));
            if !ends {
                continue;
            }
            let mark = match fs::metadata(&path) {
                Ok(m) => {
                    let changed = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
                    Some((m.ino(), m.size(), changed, m.mode()))
                }
                // One that is gone by now is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => None,
            };
            files.insert(path, mark);
        }
        Ok(files)
    }

    fn read<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) -> Look {
        let mut look = Look {
            authorized: Authorized::default(),
            bad: Vec::new(),
            unsure: Vec::new(),
        };
        let before = std::mem::take(&mut self.keys);
        for path in files {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.and_then(|name| name.strip_suffix(PUBLIC_END));
            let Some(name) = name.filter(|name| file::is_name(name)) else {
                look.bad.push(format!(
                    "{} is no name of a node; write letters, digits, - _ and . only; run: mv {:?} {}",
                    path.display(),
                    path,
                    self.path.join("NAME.key").display()
                ));
                continue;
            };
            let key = match file::read_authorized(path) {
                Ok(key) => key,
                // Removed between listing and reading.
                Err(error) if error.is_gone() => continue,
                // A disk that fails for a moment, or no descriptor left, says nothing of the node.
                Err(error) if error.may_pass() => {
                    look.unsure.push(error.to_string());
                    match before.get(path) {
                        Some(key) => *key,
                        None => continue,
                    }
                }
                Err(error) => {
                    look.bad.push(error.to_string());
                    continue;
                }
            };
            self.keys.insert(path.clone(), key);
            match look.authorized.0.get(&key) {
                // Which of two is meant cannot be told; the first keeps the key.
                Some(other) => look.bad.push(format!(
                    "{} holds the key of {other}; every node needs its own; run: \
                     fanfare authorise {name} KEY --dir {} --force",
                    path.display(),
                    self.path.display()
                )),
                None => drop(look.authorized.0.insert(key, name.to_owned())),
            }
        }
        look
    }
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

    /// Reading it fails as with a broken disk, though it is there: this process's memory, from 0.
    const UNREADABLE: &str = "/proc/self/mem";

    #[test]
    fn what_cannot_be_read_for_a_moment_authorises_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (number, name) in ["n1.key", "n2.key", "n3.key"].iter().enumerate() {
            file::write_public(&at(name), &key(number as u8), false).unwrap();
        }
        let mut directory = Directory::new(folder.path());
        assert_eq!(directory.look().unwrap().unwrap().authorized.len(), 3);

        fs::rename(at("n1.key"), at("kept")).unwrap();
        std::os::unix::fs::symlink(UNREADABLE, at("n1.key")).unwrap();
        // Not even looked at.
        fs::remove_file(at("n2.key")).unwrap();
        std::os::unix::fs::symlink(at("n2.key"), at("n2.key")).unwrap();
        fs::remove_file(at("n3.key")).unwrap();
        // It is tried anew with each look, whether anything has changed or not.
        for _ in 0..2 {
            let look = directory.look().unwrap().unwrap();
            assert_eq!(look.authorized.name(&key(0)), Some("n1"));
            assert_eq!(look.authorized.name(&key(1)), Some("n2"));
            assert_eq!(look.authorized.name(&key(2)), None, "others go meanwhile");
            assert_eq!((look.unsure.len(), look.bad.len()), (2, 0), "{look:?}");
        }
        fs::rename(at("kept"), at("n1.key")).unwrap();
        fs::remove_file(at("n2.key")).unwrap();
        let look = directory.look().unwrap().unwrap();
        assert_eq!(look.authorized.name(&key(0)), Some("n1"));
        assert_eq!((look.authorized.len(), look.unsure.len()), (1, 0));
        assert!(directory.look().unwrap().is_none());
        // One that was never read authorises nobody.
        std::os::unix::fs::symlink(UNREADABLE, at("n4.key")).unwrap();
        let look = directory.look().unwrap().unwrap();
        assert_eq!((look.authorized.len(), look.unsure.len()), (1, 1));
    }

    #[test]
    fn a_directory_that_everybody_may_change_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        let set = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o777, 0o1777, 0o702] {
            set(mode);
            let why = directory.look().unwrap_err().to_string();
            let path = folder.path().display();
            assert!(why.contains(&format!("{mode:04o}")), "{why}");
            assert!(why.ends_with(&format!("run: chmod o-w {path}")), "{why}");
        }
        for mode in [0o775, 0o700] {
            set(mode);
            directory.look().unwrap();
        }
        let gone = folder.path().join("none");
        let why = Directory::new(&gone).look().unwrap_err().to_string();
        assert!(
            why.ends_with(&format!("run: mkdir -p {}", gone.display())),
            "{why}"
        );
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let why = Directory::new(&file).look().unwrap_err().to_string();
        let file = file.display();
        let command = format!("run: mv {file} {file}.old && mkdir -p {file}");
        assert!(why.ends_with(&command), "{why}");
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
        let dir = folder.path().display();
        let mut commands = [
            format!("mv \"{dir}/n 3.key\" {dir}/NAME.key"),
            format!("fanfare authorise n2 KEY --dir {dir} --force"),
            format!("fanfare authorise n4 KEY --dir {dir} --force"),
        ];
        commands.sort();
        let told = look.bad.iter().map(|line| line.split_once("run: "));
        let mut told: Vec<_> = told.map(|told| told.expect("a command").1).collect();
        told.sort();
        assert_eq!(told, commands);
    }
}
