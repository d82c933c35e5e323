//! Key files: `NAME.key` is public, `NAME.key_secret` is secret.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key::{KeyError, PublicKey, SecretKey};
use super::remedy::Use;
use crate::util::atomic_file::AtomicFile;

/// The end of a public key's file.
pub const PUBLIC_END: &str = ".key";

/// The end of a secret key's file.
pub const SECRET_END: &str = ".key_secret";

/// A key file is far shorter.
const MAX_FILE: usize = 4096;

/// Why a key file is refused, with what mends it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none, or not for this user.
    #[error("{}: {error}{remedy}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
        /// What mends it.
        remedy: String,
    },
    /// It is not a file.
    #[error("{} is not a file{remedy}", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
        /// What mends it.
        remedy: String,
    },
    /// Others may read the secret.
    #[error(
        "{} may be read or changed by others than its owner (mode {mode:04o}); run: chmod 0600 {}", path.display(), path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Everybody may change it.
    #[error("{} may be changed by everybody (mode {mode:04o}); run: chmod go-w {}", path.display(), path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not hold the key that is wanted.
    #[error("{} {error}{remedy}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
        /// What mends it.
        remedy: String,
    },
    /// A key must not be overwritten by accident.
    #[error("{} is there already; give --force to replace it, and every party that knows the old key must be told the new one", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl KeyFileError {
    /// Whether another user or another host may see it otherwise.
    pub fn is_about_this_place(&self) -> bool {
        let local = [ErrorKind::NotFound, ErrorKind::PermissionDenied];
        matches!(self, KeyFileError::Unreadable { error, .. } if local.contains(&error.kind()))
    }

    /// Whether there is no such file.
    pub fn is_gone(&self) -> bool {
        matches!(self, KeyFileError::Unreadable { error, .. } if error.kind() == ErrorKind::NotFound)
    }

    /// Whether it is not the file's fault: the system could not read it, and may later.
    pub fn may_pass(&self) -> bool {
        matches!(self, KeyFileError::Unreadable { .. }) && !self.is_about_this_place()
    }
}

/// The text of a key file and its permission bits, of the file that was opened: the name may lead
/// elsewhere a moment later.
fn read(path: &Path, of: Use) -> Result<(Zeroizing<Vec<u8>>, u32), KeyFileError> {
    let unreadable = |error| KeyFileError::Unreadable {
        path: path.to_owned(),
        remedy: of.of_error(path, &error),
        error,
    };
    let not_a_file = || KeyFileError::NotAFile {
        path: path.to_owned(),
        remedy: of.of_no_file(path),
    };
    // Looked at before it is opened too: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    // Allocated once: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(MAX_FILE as u64)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    Ok((text, metadata.permissions().mode() & 0o7777))
}

fn parse<T>(
    path: &Path,
    of: Use,
    text: &[u8],
    parse: impl Fn(&str) -> Result<T, KeyError>,
) -> Result<T, KeyFileError> {
    let key = match std::str::from_utf8(text) {
        Ok(text) => parse(text.trim()),
        Err(_) => Err(KeyError::NoKey),
    };
    key.map_err(|error| KeyFileError::Key {
        path: path.to_owned(),
        error,
        remedy: of.of_contents(path, error),
    })
}

/// Reads a secret key from a file that only its owner can read.
pub fn read_secret(path: &Path) -> Result<SecretKey, KeyFileError> {
    let (text, mode) = read(path, Use::Own)?;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    parse(path, Use::Own, &text, SecretKey::parse)
}

/// Reads a publisher's public key from a file that not everybody can write.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    public(path, Use::Publisher)
}

/// The same of a node that may connect, `NAME.key`.
pub(super) fn read_authorized(path: &Path) -> Result<PublicKey, KeyFileError> {
    public(path, Use::Node)
}

fn public(path: &Path, of: Use) -> Result<PublicKey, KeyFileError> {
    let (text, mode) = read(path, of)?;
    if mode & 0o002 != 0 {
        return Err(KeyFileError::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    parse(path, of, &text, PublicKey::parse)
}

/// Whether a party may be called so: the name is that of a file, and stands in logs.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// The files of the pair `name` in `folder`: public, secret.
pub fn pair(folder: &Path, name: &str) -> [PathBuf; 2] {
    [PUBLIC_END, SECRET_END].map(|end| folder.join(format!("{name}{end}")))
}

/// Writes a pair; gives its files, public and secret. Replaces none unless `force`.
pub fn write_pair(
    folder: &Path,
    name: &str,
    public: &PublicKey,
    secret: &SecretKey,
    force: bool,
) -> Result<[PathBuf; 2], KeyFileError> {
    let paths = pair(folder, name);
    for path in &paths {
        absent(path, force)?;
    }
    let text = secret.text();
    write(&paths[1], &text, 0o600)?;
    write(&paths[0], public.to_string().as_bytes(), 0o644)?;
    Ok(paths)
}

/// Writes the file of a public key. Replaces none unless `force`.
pub fn write_public(path: &Path, key: &PublicKey, force: bool) -> Result<(), KeyFileError> {
    absent(path, force)?;
    write(path, key.to_string().as_bytes(), 0o644)
}

fn absent(path: &Path, force: bool) -> Result<(), KeyFileError> {
    match force || std::fs::symlink_metadata(path).is_err() {
        true => Ok(()),
        false => Err(KeyFileError::Exists {
            path: path.to_owned(),
        }),
    }
}

fn write(path: &Path, key: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let written = AtomicFile::new(path, mode).and_then(|file| {
        // In one piece: a writer of a line's parts would keep them in its buffer.
        file.replace(|out| {
            out.write_all(key)?;
            out.write_all(b"\n")
        })
    });
    written.map_err(|error| KeyFileError::Unwritable {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;
    use crate::security::z85;

    #[test]
    fn what_is_written_is_read_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (public, secret) = (PublicKey::new([3; 32]), SecretKey::random().unwrap());
        let paths = write_pair(folder.path(), "n1", &public, &secret, false).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(paths.each_ref().map(|path| mode(path)), [0o644, 0o600]);
        assert_eq!(read_public(&paths[0]).unwrap(), public);
        let read = read_secret(&paths[1]).unwrap();
        assert_eq!(read.as_bytes(), secret.as_bytes());

        let other = SecretKey::random().unwrap();
        let again = write_pair(folder.path(), "n1", &public, &other, false).unwrap_err();
        assert!(again.to_string().contains("--force"), "{again}");
        let read = read_secret(&paths[1]).unwrap();
        assert_eq!(read.as_bytes(), secret.as_bytes());
        write_pair(folder.path(), "n1", &public, &other, true).unwrap();
        assert_eq!(read_secret(&paths[1]).unwrap().as_bytes(), other.as_bytes());
    }

    #[test]
    fn refusals_name_the_file_and_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let dir = folder.path().display().to_string();
        // What is wrong, and in the end the command, whole.
        let says = |error: KeyFileError, wrong: &str, command: &str| {
            let text = error.to_string();
            assert!(text.starts_with(&dir) && text.contains(wrong), "{text}");
            let command = command.replace("DIR", &dir);
            assert!(text.ends_with(&format!("run: {command}")), "{text}");
        };
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let secret = |name: &str| read_secret(&at(name)).unwrap_err();
        let node = |name: &str| read_authorized(&at(name)).unwrap_err();
        let publisher = |name: &str| read_public(&at(name)).unwrap_err();
        let (public, own) = (PublicKey::new([3; 32]), SecretKey::random().unwrap());
        write_pair(folder.path(), "n1", &public, &own, false).unwrap();

        for mode in [0o640, 0o604, 0o660, 0o620] {
            set(&at("n1.key_secret"), mode);
            let chmod = "chmod 0600 DIR/n1.key_secret";
            says(secret("n1.key_secret"), &format!("{mode:04o}"), chmod);
        }
        set(&at("n1.key"), 0o666);
        says(node("n1.key"), "0666", "chmod go-w DIR/n1.key");
        set(&at("n1.key"), 0o600);
        let new = "fanfare keygen --node n1 --dir DIR --force";
        says(secret("n1.key"), "is a public key", new);
        set(&at("n1.key_secret"), 0o600);
        fs::rename(at("n1.key_secret"), at("n1.key")).unwrap();
        let on_its_host = "fanfare keygen --node n1 --force";
        let here = "fanfare authorise n1 KEY --dir DIR --force";
        let both = format!("{on_its_host}; here: {here}");
        says(node("n1.key"), "is a SECRET key", &both);
        fs::rename(at("n1.key"), at("n1.key_secret")).unwrap();
        fs::rename(at("n1.key_secret"), at("p.key")).unwrap();
        let copy = "scp HOST:/etc/fanfare/keys/publisher.key DIR/p.key";
        let both = format!("fanfare keygen --publisher --force; here: {copy}");
        says(publisher("p.key"), "is a SECRET key", &both);

        let odd = "~".repeat(z85::TEXT);
        for (kind, text, wrong) in [
            ("public:", "short", "5 characters"),
            ("public:", &*odd, "in no key"),
            ("secret:", &odd, "in no key"),
            ("secret:", "short", "5 characters"),
            ("", "\u{0}", "is no key"),
            ("", "", "is no key"),
        ] {
            let text = format!("{kind}{text}");
            for name in ["n2.key", "p.key", "n2.key_secret", "publisher.key_secret"] {
                fs::write(at(name), &text).unwrap();
                set(&at(name), 0o600);
            }
            if kind != "secret:" {
                let again = "fanfare authorise n2 KEY --dir DIR --force";
                says(node("n2.key"), wrong, again);
                says(publisher("p.key"), wrong, copy);
            }
            if kind != "public:" {
                let again = "fanfare keygen --node n2 --dir DIR --force";
                says(secret("n2.key_secret"), wrong, again);
                let again = "fanfare keygen --publisher --dir DIR --force";
                says(secret("publisher.key_secret"), wrong, again);
            }
        }

        let (new, gone) = ("fanfare keygen --node NAME --dir DIR", "No such file");
        says(secret("node.key_secret"), gone, new);
        says(
            secret("n3.key_secret"),
            gone,
            "fanfare keygen --node n3 --dir DIR",
        );
        says(publisher("p2.key"), gone, &copy.replace("p.key", "p2.key"));
        fs::create_dir(at("n4.key_secret")).unwrap();
        let new = "fanfare keygen --node n4 --dir DIR";
        says(
            secret("n4.key_secret"),
            "is not a file",
            &format!("mv DIR/n4.key_secret DIR/n4.key_secret.old && {new}"),
        );
        fs::create_dir(at("n4.key")).unwrap();
        let new = "fanfare authorise n4 KEY --dir DIR";
        says(
            node("n4.key"),
            "is not a file",
            &format!("mv DIR/n4.key DIR/n4.key.old && {new}"),
        );
    }

    /// Root may read everything, so that the system is not asked.
    #[test]
    fn who_may_not_read_a_file_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n1.key_secret");
        fs::write(&path, "").unwrap();
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let user = crate::util::users::own();
        let path_shown = path.display();
        for (of, command) in [
            (Use::Own, format!("chown {user} {path_shown}")),
            (Use::Node, format!("chmod a+r {path_shown}")),
            (Use::Publisher, format!("chmod a+r {path_shown}")),
        ] {
            assert_eq!(of.of_error(&path, &denied), format!("; run: {command}"));
        }
    }
}
