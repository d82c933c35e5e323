use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::handler::registry::settings;
use crate::util::stop::StopToken;

struct Rig {
    root: tempfile::TempDir,
    tree: Tree,
}

fn made(folder: &Path, more: &str) -> Result<Tree, BuildError> {
    let common = Common::new(&settings(more), &StopToken::never()).unwrap();
    Tree::new(folder.to_str().unwrap(), common)
}

fn rig(more: &str) -> Rig {
    let root = tempfile::tempdir().unwrap();
    let tree = made(&root.path().join("rows"), more).unwrap_or_else(|error| panic!("{error}"));
    Rig { root, tree }
}

impl Rig {
    fn sync(&mut self, rows: &[(&str, &str)]) {
        self.tree.begin_sync(SyncReason::Started).unwrap();
        for (key, value) in rows {
            self.tree.apply(&Event::set("t", key, value)).unwrap();
        }
        self.tree.end_sync().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Every file below the root, with what it holds.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let name = path.strip_prefix(self.root.path()).unwrap();
                        let name = name.to_str().unwrap().to_owned();
                        files.insert(name, fs::read_to_string(&path).unwrap());
                    }
                }
            }
        }
        assert_eq!(files.remove("rows/.fanfare-rows").as_deref(), Some(""));
        files
    }
}

#[test]
fn each_row_is_a_file() {
    let mut rig = rig("mode = \"0640\"");
    rig.sync(&[("a", "{\"x\": 1}\n"), ("b", "")]);
    rig.tree.apply(&Event::set("u", "c", "3")).unwrap();
    let expected = [
        ("rows/t/a", "{\"x\": 1}\n"),
        ("rows/t/b", ""),
        ("rows/u/c", "3"),
    ];
    let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(rig.files(), expected.into());
    let mode = fs::metadata(rig.path("rows/t/a"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    rig.tree.apply(&Event::delete("u", "c")).unwrap();
    rig.tree.apply(&Event::delete("u", "c")).unwrap();
    assert!(!rig.path("rows/u").exists(), "nor is an empty table left");
}

#[test]
fn hostile_names_stay_inside_and_apart() {
    let mut rig = rig("");
    let keys = [
        "..",
        ".",
        "../../x",
        "/etc/passwd",
        "a\0b",
        "",
        ".fanfare-rows",
        "A",
        "a",
        "%41",
        "a/../b",
        "\n",
    ];
    rig.tree.begin_sync(SyncReason::Started).unwrap();
    for name in keys {
        rig.tree.apply(&Event::set(name, name, name)).unwrap();
        rig.tree.apply(&Event::set("t", name, name)).unwrap();
    }
    rig.tree.end_sync().unwrap();
    let files = rig.files();
    assert_eq!(files.len(), 2 * keys.len());
    for (path, text) in files {
        let parts: Vec<_> = path.split('/').collect();
        assert_eq!((parts.len(), parts[0]), (3, "rows"), "{path}");
        assert_eq!(unescape(parts[2]).unwrap(), text);
    }
    assert_eq!(fs::read_dir(rig.root.path()).unwrap().count(), 1);
    let long = "k".repeat(221);
    let refused = rig.tree.apply(&Event::set("t", &long, "1"));
    assert!(
        matches!(refused, Err(HandlerError::Permanent(_))),
        "{refused:?}"
    );
}

#[test]
fn a_resync_removes_what_is_gone_and_touches_nothing_else() {
    let mut rig = rig("");
    rig.sync(&[("a", "1"), ("b", "1"), ("c", "1")]);
    let written = |rig: &Rig| {
        fs::metadata(rig.path("rows/t/a"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = written(&rig);
    let leftover = ".b.0123456789abcdef.fanfare-tmp";
    for name in [leftover, "README", ".keep"] {
        fs::write(rig.path("rows/t").join(name), "").unwrap();
    }
    fs::create_dir(rig.path("outside")).unwrap();
    fs::write(rig.path("outside/x"), "mine").unwrap();
    symlink(rig.path("outside"), rig.path("rows/link")).unwrap();
    rig.sync(&[("a", "1"), ("c", "2")]);
    assert_eq!(written(&rig), before, "it was not written again");
    let files = rig.files();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    // What cannot be a row's is let be, and nothing is removed through a link.
    assert_eq!(
        names,
        [
            "outside/x",
            "rows/link/x",
            "rows/t/.keep",
            "rows/t/README",
            "rows/t/a",
            "rows/t/c"
        ]
    );
    let through = rig.tree.apply(&Event::set("link", "x", "1"));
    assert!(
        matches!(through, Err(HandlerError::Retry(_))),
        "{through:?}"
    );
    assert_eq!(fs::read(rig.path("outside/x")).unwrap(), b"mine");
}

#[test]
fn another_ones_folder_is_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let fault = |tree: Result<Tree, BuildError>| tree.err().map(|error| error.to_string());
    fs::write(root.path().join("mine"), "").unwrap();
    let why = fault(made(root.path(), "")).unwrap();
    assert!(
        why.starts_with("folder: ") && why.contains("holds files"),
        "{why}"
    );
    let none = made(&root.path().join("none/rows"), "");
    assert!(
        matches!(&none, Err(BuildError::Environment(why)) if why.contains("/none: No such file")),
        "{:?}",
        fault(none)
    );
    let in_file = made(&root.path().join("mine/rows"), "");
    assert!(matches!(in_file, Err(BuildError::Setting { .. })));
    let is_file = made(&root.path().join("mine"), "");
    assert!(matches!(is_file, Err(BuildError::Setting { .. })));
    assert!(fault(made(Path::new("/"), "")).is_some());
    let late = root.path().join("late");
    let mut tree = made(&late, "").unwrap_or_else(|error| panic!("{error}"));
    fs::create_dir(&late).unwrap();
    fs::write(late.join("theirs"), "").unwrap();
    assert!(tree.begin_sync(SyncReason::Started).is_err());
    assert!(tree.apply(&Event::set("t", "k", "1")).is_err());
    assert!(tree.end_sync().is_ok());
    assert_eq!(fs::read_dir(&late).unwrap().count(), 1, "only theirs");
    let both = settings(&format!(
        "folder = {:?}\npath = 'x'",
        root.path().join("rows")
    ));
    let built = super::super::build("x", &both, &StopToken::never());
    assert!(built.err().unwrap().to_string().starts_with("folder: "));
}

#[test]
fn the_command_runs_when_something_changed() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let more = format!("interval = 0.02\nnotify = ['/bin/sh', '-c', 'echo >> \"$0\"', {runs:?}]");
    let tree = made(&root.path().join("rows"), &more).unwrap_or_else(|error| panic!("{error}"));
    let mut rig = Rig { root, tree };
    let settle = |rig: &mut Rig| {
        while let Some(at) = rig.tree.idle(Instant::now()).unwrap() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        fs::read_to_string(&runs).unwrap_or_default().len()
    };
    rig.tree.begin_sync(SyncReason::Started).unwrap();
    rig.tree.apply(&Event::set("t", "k", "1")).unwrap();
    assert_eq!(settle(&mut rig), 0, "not within a resync");
    rig.tree.end_sync().unwrap();
    assert_eq!(settle(&mut rig), 1);
    rig.sync(&[("k", "1")]);
    rig.tree.apply(&Event::set("t", "k", "1")).unwrap();
    assert_eq!(settle(&mut rig), 1, "nothing changed");
    rig.sync(&[]);
    assert_eq!(settle(&mut rig), 2);
}
