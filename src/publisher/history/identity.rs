//! Who this publisher is, and whether its state is where it was.

use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::rand::{GetRandomFlags, getrandom};

use super::PublisherId;
use super::error::Fault;
use crate::util::atomic_file::AtomicFile;

/// The kernel's id of this boot, as its bytes; `None` where it cannot be read.
pub fn boot_id() -> Option<[u8; 16]> {
    parse_hex(&fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

/// The publisher's id where none is configured: random, made at the first start, and kept in a file
/// of its own beside the database, so that it survives a database that is damaged. Not made of the
/// host's name: a host may have two publishers, and hosts that were copied from one image share
/// their names and machine ids.
pub(super) fn own_id(database: &Path) -> Result<PublisherId, Fault> {
    let path = id_path(database);
    match fs::read_to_string(&path) {
        Ok(text) => match parse_hex(&text) {
            Some(id) => return Ok(id),
            None => log::warn!("{}: no publisher id; another is made", path.display()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Fault::Io(error)),
    }
    let mut id = PublisherId::default();
    // Up to 256 bytes are given whole.
    getrandom(&mut id, GetRandomFlags::empty()).map_err(|errno| Fault::Io(errno.into()))?;
    let file = AtomicFile::new(&path, 0o600).map_err(Fault::Io)?;
    file.replace(|out| writeln!(out, "{:032x}", u128::from_be_bytes(id)))
        .map_err(Fault::Io)?;
    Ok(id)
}

/// Where [`own_id`] keeps it.
fn id_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".id");
    name.into()
}

/// What both forms of a place begin with: inode and host, hashed.
const PLACE: usize = 16;

/// Where a database is: the file itself and the host, and when the file was made. It stays the same
/// over restarts and differs for every copy, also for one that was restored from a backup and is older
/// than what was sent: such a file often gets the number of the one that was removed for it, but not
/// its birth time. A false alarm (a host that was renamed) costs one higher incarnation.
///
/// The first versions noted no birth time, and not every file system has one: see [`is_there`].
pub(super) fn place(database: &Path) -> Result<Vec<u8>, Fault> {
    let metadata = fs::metadata(database).map_err(Fault::Io)?;
    // Either may be missing, as in a container.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (machine, name) = (read("/etc/machine-id"), read("/proc/sys/kernel/hostname"));
    let mut place = vec![0; PLACE];
    for (half, seed) in place.chunks_exact_mut(8).zip(0u64..) {
        // Hashed, not copied: the machine id is meant to stay on the machine.
        let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
        hasher.write_u64(metadata.ino());
        hasher.write(machine.trim().as_bytes());
        hasher.write(name.trim().as_bytes());
        half.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    let born = metadata.created().ok();
    if let Some(born) = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok()) {
        place.extend_from_slice(&born.as_nanos().to_be_bytes());
    }
    Ok(place)
}

/// Whether a database whose place was noted is the one that is `here`. Where one of the two has no
/// birth time, that says nothing.
pub(super) fn is_there(noted: &[u8], here: &[u8]) -> bool {
    let (Some((noted, born)), Some((here, born_here))) =
        (noted.split_at_checked(PLACE), here.split_at_checked(PLACE))
    else {
        return false;
    };
    noted == here && (born == born_here || born.is_empty() || born_here.is_empty())
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    match digits.len() {
        32 => Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes()),
        _ => None,
    }
}
