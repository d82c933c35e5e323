//! Files that are replaced in one step: a reader sees the old contents or the new, never a part.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// End of the names of temporary files; with the beginning `.NAME.` it marks them as ours.
const SUFFIX: &str = ".fanfare-tmp";

/// Names tried before the folder is taken to be hopeless.
const ATTEMPTS: usize = 8;

/// A file that is only ever replaced whole.
///
/// The new contents go to a temporary file in the same folder, reach the disk, take the file's
/// name, and the folder reaches the disk too: after a crash there is the old or the new file.
/// A symbolic link of that name is replaced, not followed.
#[derive(Debug, Clone)]
pub struct AtomicFile {
    path: PathBuf,
    folder: PathBuf,
    name: OsString,
    mode: u32,
    synced: bool,
}

impl AtomicFile {
    /// The file `path` with the permission bits `mode`, whatever the umask. A relative path is
    /// taken from the current directory now, not later. Touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` when the path names no file (such as `/` or `a/..`).
    pub fn new(path: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => Ok(AtomicFile {
                folder: folder.to_owned(),
                name: name.to_owned(),
                mode,
                path,
                synced: true,
            }),
            _ => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it does not name a file",
            )),
        }
    }

    /// Without bringing it to the disk: readers see all or nothing all the same, but after a crash
    /// of the machine it may be anything. For what is compared and made again then.
    pub fn not_synced(mut self) -> Self {
        self.synced = false;
        self
    }

    /// The file, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it is in, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the file by what `fill` writes.
    ///
    /// # Errors
    /// What `fill` or the system says; the temporary file is gone then. Only when the very last
    /// step fails, which brings the folder to the disk, is the file replaced all the same.
    pub fn replace(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let (mut temporary, file) = self.create_temporary()?;
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Not at the creation, where the umask would take bits away.
        file.set_permissions(Permissions::from_mode(self.mode))?;
        if self.synced {
            file.sync_all()?;
        }
        fs::rename(&temporary.path, &self.path)?;
        temporary.renamed = true;
        if self.synced {
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// Removes temporary files of this file that a crash left behind; says how many. Not to be
    /// called while another process may be replacing the same file: that replacement would fail.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn remove_leftovers(&self) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if self.is_temporary(&entry.file_name()) && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn is_temporary(&self, name: &OsStr) -> bool {
        // The file `a` must not take the temporary files of `a.b` for its own.
        owner(name) == Some(self.name.as_encoded_bytes())
    }

    fn create_temporary(&self) -> io::Result<(Temporary, File)> {
        let mut last = io::Error::from(ErrorKind::AlreadyExists);
        for _ in 0..ATTEMPTS {
            let mut name = OsString::from(".");
            name.push(&self.name);
            name.push(format!(".{:016x}{SUFFIX}", fastrand::u64(..)));
            let path = self.folder.join(name);
            // `create_new` is O_EXCL: whatever somebody else put there is neither used nor followed.
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => {
                    let renamed = false;
                    return Ok((Temporary { path, renamed }, file));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// Whether `name` is that of a temporary file of any [`AtomicFile`].
pub fn is_temporary(name: &OsStr) -> bool {
    owner(name).is_some()
}

/// The name of the file whose temporary file is called `name`.
fn owner(name: &OsStr) -> Option<&[u8]> {
    let rest = name.as_encoded_bytes().strip_prefix(b".")?;
    let rest = rest.strip_suffix(SUFFIX.as_bytes())?;
    let (owner, number) = rest.split_last_chunk::<17>()?;
    let is_ours = number[0] == b'.' && number[1..].iter().all(u8::is_ascii_hexdigit);
    is_ours.then_some(owner)
}

/// Removed when dropped, unless it has its final name by then.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing is lost if this fails too: leftovers are looked for at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(folder)?) {
        // The file system has no such thing as bringing a folder to the disk.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_reader_sees_all_or_nothing_of_a_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let file = AtomicFile::new(folder.path().join("f"), 0o644).unwrap();
        // Longer than any buffer, so that a write in place would be seen half done.
        let contents = |digit: u8| vec![digit; 300_000];
        file.replace(|out| out.write_all(&contents(b'0'))).unwrap();
        let done = AtomicBool::new(false);
        let kinds = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = std::collections::BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    let read = fs::read(file.path()).unwrap();
                    assert_eq!(read, contents(read[0]));
                    seen.insert(read[0]);
                    kinds.store(seen.len(), Ordering::Relaxed);
                }
                seen.len()
            });
            // On a busy machine the reader may come late.
            let late = || kinds.load(Ordering::Relaxed) < 2;
            for round in (1..=200u8).take_while(|round| *round <= 40 || late()) {
                file.replace(|out| out.write_all(&contents(b'0' + round % 10)))
                    .unwrap();
            }
            done.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 1, "the reader saw no replacement");
        });
        assert_eq!(names(folder.path()), ["f"]);
    }

    #[test]
    fn the_mode_is_exact_and_links_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        symlink(&target, folder.path().join("f")).unwrap();
        let file = AtomicFile::new(folder.path().join("f"), 0o666).unwrap();
        file.replace(|out| out.write_all(b"new")).unwrap();
        let metadata = fs::symlink_metadata(file.path()).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o666);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read(file.path()).unwrap(), b"new");
    }

    #[test]
    fn an_error_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = AtomicFile::new(folder.path().join("f"), 0o644).unwrap();
        file.replace(|out| out.write_all(b"old")).unwrap();
        let failed = file.replace(|out| {
            out.write_all(b"new")?;
            Err(io::Error::other("no"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read(file.path()).unwrap(), b"old");
        let blocked = AtomicFile::new(folder.path().join("d"), 0o644).unwrap();
        fs::create_dir(blocked.path()).unwrap();
        assert!(blocked.replace(|_| Ok(())).is_err());
        assert_eq!(names(folder.path()), ["d", "f"]);
    }

    #[test]
    fn leftovers_of_this_file_only_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = AtomicFile::new(folder.path().join("f"), 0o644).unwrap();
        let others = [
            ".f.0123.fanfare-tmp",
            ".f.0123456789abcdeg.fanfare-tmp",
            ".f.g.0123456789abcdef.fanfare-tmp",
            ".g.0123456789abcdef.fanfare-tmp",
            "f.0123456789abcdef.fanfare-tmp",
        ];
        for name in others.iter().chain(&[".f.0123456789abcdef.fanfare-tmp"]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        // What `replace` makes is what is looked for.
        std::mem::forget(file.create_temporary().unwrap());
        assert_eq!(file.remove_leftovers().unwrap(), 2);
        assert_eq!(names(folder.path()), others);
    }

    #[test]
    fn a_path_must_name_a_file() {
        for path in ["/", "a/..", ""] {
            assert!(AtomicFile::new(path, 0o644).is_err(), "{path}");
        }
        let relative = AtomicFile::new("f", 0o644).unwrap();
        assert_eq!(relative.folder(), std::env::current_dir().unwrap());
    }
}
