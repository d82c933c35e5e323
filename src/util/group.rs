//! Groups of the system.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;

/// Lets the members of `group` use the unix socket at `path`, and nobody else but its owner; only the
/// owner where none is named or there is no such group, which is told in the log, as of `shown`.
pub fn share(path: &Path, group: Option<&str>, shown: impl Display) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mode = match group.map(|group| Ok((group, number(group)?))) {
        None => 0o600,
        Some(Err(error)) => return Err(error),
        Some(Ok((_, Some(gid)))) => {
            chown(path, None, Some(gid))?;
            0o660
        }
        Some(Ok((group, None))) => {
            log::warn!("{shown}: there is no group {group:?}; only this user may use it");
            0o600
        }
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Makes a folder, and those above it, where it is missing: nobody but its owner looks into it, and
/// the members of `group` where there is one. A folder that is there stays as it is.
pub fn folder(path: &Path, group: Option<&str>) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, chown};
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o750).create(path)?;
    match group.map(number).transpose()?.flatten() {
        Some(gid) => chown(path, None, Some(gid)),
        None => Ok(()),
    }
}

/// The number of `group`; `None` when there is no such group.
pub fn number(group: &str) -> io::Result<Option<u32>> {
    Ok(find(&fs::read_to_string("/etc/group")?, group))
}

/// The number of `group` in the text of /etc/group. System groups, which a service runs with, are
/// kept there; a directory service's are not looked up.
fn find(text: &str, group: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?;
        (name == group && !group.is_empty())
            .then(|| gid.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\nfanfare2:x:7:\nfanfare:x:998:a,b\n";
        assert_eq!(find(text, "fanfare"), Some(998));
        assert_eq!(find(text, "fan"), None);
        assert_eq!(find(text, ""), None);
    }

    #[test]
    fn what_is_made_is_not_for_everybody() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        folder(&path, Some("no-such-group")).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode() & 0o027, 0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).unwrap();
        folder(&path, None).unwrap();
        assert_eq!(mode(), 0o711, "the operator's");
    }

    #[test]
    fn without_the_group_only_the_owner_may() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shared = |group| {
            share(file.path(), group, "a file").unwrap();
            file.as_file().metadata().unwrap().permissions().mode() & 0o777
        };
        assert_eq!(shared(Some("root")), 0o660);
        assert_eq!(shared(None), 0o600);
        assert_eq!(shared(Some("root")), 0o660);
        assert_eq!(shared(Some("no-such-group")), 0o600);
    }
}
