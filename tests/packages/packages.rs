//! The packages under test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `make packages` put them; `None`, and a line that says so, when they are not to be tested.
pub fn folder() -> Option<PathBuf> {
    match std::env::var_os("FANFARE_TEST_PACKAGES") {
        Some(folder) => {
            assert!(
                rustix::process::geteuid().is_root(),
                "containers are made by root only"
            );
            Some(folder.into())
        }
        None => {
            println!("SKIPPED: needs packages and root; run: make test-packages");
            None
        }
    }
}

/// The one file in `folder` whose name begins and ends so. The newest: older releases may lie there.
#[track_caller]
pub fn find(folder: &Path, start: &str, end: &str) -> PathBuf {
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(start) && name.ends_with(end)
    };
    let entries = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let newest = entries
        .filter(named)
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.unwrap_or_else(|| panic!("no {start}…{end} in {}", folder.display()))
}

/// What the command prints; it must succeed.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out + &err
}
