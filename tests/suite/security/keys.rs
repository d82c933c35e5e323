//! `fanfare keygen` and `authorise`.

use super::site::run;
use crate::rig::config::Folder;

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
