//! What this host and this boot are called.

use std::fs;
use std::hash::{BuildHasher, Hasher};

use super::PublisherId;

/// The kernel's id of this boot, as its bytes; `None` where it cannot be read.
pub fn boot_id() -> Option<[u8; 16]> {
    parse_hex(&fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

/// An id for the publisher of this host. Made from host name and machine id, so that it survives
/// the loss of the state directory; random where there is no machine id, since hosts that were
/// copied from one image often share their name.
pub(super) fn host_id() -> PublisherId {
    let machine = fs::read_to_string("/etc/machine-id").ok();
    let Some(machine) = machine.as_deref().and_then(parse_hex) else {
        return fastrand::u128(..).to_be_bytes();
    };
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut id = [0; 16];
    for (half, seed) in id.chunks_exact_mut(8).zip(0u64..) {
        // Hashed, not copied: the machine id is meant to stay on the machine.
        let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
        hasher.write(&machine);
        hasher.write(name.trim().as_bytes());
        half.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    id
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    match digits.len() {
        32 => Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes()),
        _ => None,
    }
}
