//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open descriptors to `wanted`, or as far as the system allows; never lowers
/// it. Gives the limit there is then.
///
/// Not for a library's host process to be done unasked: a program that uses `select` breaks on
/// descriptors above 1023.
pub fn allow(wanted: u64) -> u64 {
    let have = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let Some(current) = have.current else {
        return u64::MAX;
    };
    if current >= wanted {
        return current;
    }
    // Only a privileged process can raise the upper limit; others get as far as it.
    let (raised, allowed) = match have.maximum {
        Some(maximum) if maximum < wanted => (Some(wanted), maximum),
        maximum => (maximum, wanted),
    };
    let tries = [(wanted, raised), (allowed, have.maximum)];
    let set = tries.into_iter().find(|&(current, maximum)| {
        let limit = Rlimit {
            current: Some(current),
            maximum,
        };
        setrlimit(Resource::Nofile, limit).is_ok()
    });
    set.map_or(current, |(current, _)| current)
}

/// How many descriptors this process may have open.
pub fn allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_raises_as_far_as_it_may_and_never_lowers() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(allow(1), before);
        let have = allow(u64::MAX / 2);
        assert!(have >= before);
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            have
        );
        assert_eq!(allow(before), have);
    }
}
