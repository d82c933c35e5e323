//! `fanfare keygen` and `authorise`.

use crate::rig::config::Folder;
use crate::rig::control::run;

#[test]
fn nothing_is_overwritten_unless_it_must() {
    let folder = Folder::new();
    let dir = folder.path("keys");
    let keygen = |more: &str| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"keygen", &"--node", &"n1", &"--dir", &dir];
        if !more.is_empty() {
            arguments.push(&more);
        }
        run(&arguments).status.code()
    };
    let secret = || std::fs::read(dir.join("n1.key_secret")).unwrap();
    assert_eq!(keygen(""), Some(0));
    let first = secret();
    assert_eq!(keygen(""), Some(1));
    assert_eq!(secret(), first);
    assert_eq!(keygen("--force"), Some(0));
    assert_ne!(secret(), first);
}

/// Whoever makes a key as root is told what the daemon, which is not root, needs.
#[test]
fn who_makes_a_key_is_told_whose_it_must_be() {
    let folder = Folder::new();
    let dir = folder.path("keys");
    let done = run(&[&"keygen", &"--node", &"n1", &"--dir", &dir]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        said.contains("must belong to the user that the daemon runs as"),
        "{said}"
    );
    let chown = format!("chown fanfare {}\n", dir.join("n1.key_secret").display());
    let root = rustix::process::geteuid().is_root();
    assert_eq!(said.contains(&chown), root, "{said}");
}

#[test]
fn a_name_leads_nowhere_else() {
    let folder = Folder::new();
    let key = "public:0123456789012345678901234567890123456789";
    for name in ["../n1", "a/b", "", ".n1", "n 1"] {
        let done = run(&[&"authorise", &name, &key, &"--dir", &folder.path("a")]);
        assert_ne!(done.status.code(), Some(0), "{name:?}");
    }
    assert!(!folder.path("a").exists());
    let done = run(&[&"authorise", &"n1", &key, &"--dir", &folder.path("a")]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let done = run(&[&"authorise", &"n2", &key, &"--dir", &folder.path("a")]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("n1 has this key"), "{said}");
}
