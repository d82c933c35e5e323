//! What the distributions' own checks say.

use std::process::Command;

use crate::packages::{self, output};

#[test]
fn lintian_finds_nothing() {
    let Some(folder) = packages::folder() else {
        return;
    };
    for name in ["fanfare-agent", "fanfare-publisher"] {
        let deb = packages::find(&folder, name, ".deb");
        output(
            Command::new("lintian")
                .args(["--allow-root", "--fail-on", "error,warning"])
                .arg(&deb),
        );
    }
}

/// Of whoever signs, publishes and ships the packages, and of nothing that is in them.
const OF_THE_DISTRIBUTOR: &[&str] = &[
    "no-signature",
    "no-packager-tag",
    "no-group-tag",
    "invalid-buildhost",
    "no-buildhost-tag",
    "no-changelogname-tag",
];

#[test]
fn rpmlint_finds_no_error() {
    let Some(folder) = packages::folder() else {
        return;
    };
    for name in ["fanfare-agent", "fanfare-publisher"] {
        let rpm = packages::find(&folder, name, ".rpm");
        let told = Command::new("rpmlint").arg(&rpm).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        // It did look at it.
        assert!(told.contains("1 packages"), "{told}");
        let errors = told.lines().filter(|line| line.contains(": E: "));
        let ours: Vec<_> = errors
            .filter(|line| !OF_THE_DISTRIBUTOR.iter().any(|tag| line.contains(tag)))
            .collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}
