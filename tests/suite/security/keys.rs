//! `fanfare keygen` and `authorise`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use fanfare::security::authorized::Directory;
use fanfare::security::file::{read_public, read_secret};

use crate::rig::config::{Folder, TOOL};
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

/// A root shell with umask 077 makes folders that the daemon, which is not root, can read.
#[test]
fn the_daemon_can_read_what_is_made_under_a_hardened_umask() {
    let folder = Folder::new();
    let kept = folder.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o700)).unwrap();
    let (keys, authorized) = (kept.join("keys/new"), kept.join("authorized"));
    let hardened = |arguments: &str, dir: &Path| {
        let command = format!(
            "umask 077 && exec {TOOL} {arguments} --dir {}",
            dir.display()
        );
        let done = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    };
    let key = "public:0123456789012345678901234567890123456789";
    for _ in 0..2 {
        hardened("keygen --node n1 --force", &keys);
        hardened(&format!("authorise n1 '{key}'"), &authorized);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let readable = [&kept.join("keys"), &keys, &authorized];
    assert_eq!(readable.map(|path| mode(path)), [0o755; 3]);
    let files = [keys.join("n1.key"), authorized.join("n1.key")];
    assert_eq!(files.map(|path| mode(&path)), [0o644; 2]);
    assert_eq!(mode(&keys.join("n1.key_secret")), 0o600);
    // What was there is the operator's.
    assert_eq!(mode(&kept), 0o700);
    fs::set_permissions(&authorized, Permissions::from_mode(0o750)).unwrap();
    hardened(&format!("authorise n1 '{key}'"), &authorized);
    assert_eq!(mode(&authorized), 0o750);
    // A file is no folder.
    let done = run(&[&"keygen", &"--node", &"n2", &"--dir", &keys.join("n1.key")]);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("cannot make"), "{said}");
}

/// What is authorised already may be in a file that only root can read.
#[test]
fn who_is_authorised_again_has_a_file_that_can_be_read() {
    let folder = Folder::new();
    let dir = folder.path("a");
    let key = "public:0123456789012345678901234567890123456789";
    let authorise = |name: &str, key: &str| {
        let done = run(&[&"authorise", &name, &key, &"--dir", &dir]);
        done.status.code()
    };
    let path = dir.join("n1.key");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(authorise("n1", key), Some(0));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(authorise("n1", key), Some(0));
    assert_eq!(mode(), 0o644);
    assert_eq!(read_public(&path).unwrap().to_string(), key);
    // Another key takes --force.
    let other = "public:9876543210987654321098765432109876543210";
    assert_eq!(authorise("n1", other), Some(1));
    assert_eq!(read_public(&path).unwrap().to_string(), key);
}

/// Runs what a refusal says mends the file, with `key` in the place of KEY.
#[track_caller]
fn mend(why: &str, key: &str) {
    let (_, command) = why.split_once("run: ").expect("a command");
    let command = command
        .replace("fanfare ", &format!("{TOOL} "))
        .replace(" KEY ", &format!(" '{key}' "));
    let done = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

/// Not only that there is a command: it is run, and the file is good.
/// Makes a file of a key one that is refused.
type Spoil<'a> = Box<dyn Fn(&Path) + 'a>;

#[test]
fn the_command_that_a_refusal_names_mends_the_file() {
    let folder = Folder::new();
    let dir = folder.path("keys");
    let made = |name: &str| {
        let done = run(&[&"keygen", &"--node", &name, &"--dir", &dir]);
        assert!(done.status.success(), "{done:?}");
    };
    made("other");
    let other = read_public(&dir.join("other.key")).unwrap().to_string();
    let write = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    let odd = "~".repeat(40);
    let spoil: [(&str, Spoil<'_>); 8] = [
        ("gone", Box::new(|path| fs::remove_file(path).unwrap())),
        ("text", Box::new(|path| write(path, "?"))),
        ("short", Box::new(|path| write(path, "secret:short"))),
        (
            "odd",
            Box::new(|path| write(path, &format!("secret:{odd}"))),
        ),
        ("public", Box::new(|path| write(path, &other))),
        (
            "open",
            Box::new(|path| fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap()),
        ),
        (
            "folder",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ),
        (
            "nowhere",
            Box::new(|path| {
                fs::remove_file(path).unwrap();
                symlink("/dev/null", path).unwrap();
            }),
        ),
    ];
    for (name, spoil) in &spoil {
        made(name);
        let (public, path) = (
            dir.join(format!("{name}.key")),
            dir.join(format!("{name}.key_secret")),
        );
        spoil(&path);
        let why = read_secret(&path).unwrap_err().to_string();
        if ["gone", "folder", "nowhere"].contains(name) {
            // Nothing is replaced unasked, the public key neither.
            fs::remove_file(&public).unwrap();
        }
        mend(&why, "");
        read_secret(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    // The same of those who may connect, one after the other.
    let authorized = folder.path("authorized");
    let why = Directory::new(&authorized).look().unwrap_err().to_string();
    mend(&why, "");
    let key = |name: &str| read_public(&dir.join(format!("{name}.key"))).unwrap();
    for (name, spoil) in spoil.iter().filter(|(name, _)| *name != "gone") {
        let path = authorized.join(format!("{name}.key"));
        write(&path, &key(name).to_string());
        match *name {
            "public" => write(&path, "secret:0123456789012345678901234567890123456789"),
            "open" => fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap(),
            _ => spoil(&path),
        }
        let look = Directory::new(&authorized).look().unwrap().unwrap();
        assert_eq!(look.bad.len(), 1, "{name}: {:?}", look.bad);
        let why = &look.bad[0];
        match why.split_once("; here: ") {
            Some((_, here)) => mend(&format!("run: {here}"), &key(name).to_string()),
            None => mend(why, &key(name).to_string()),
        }
        let look = Directory::new(&authorized).look().unwrap().unwrap();
        assert_eq!(look.authorized.name(&key(name)), Some(*name));
        assert!(look.bad.is_empty(), "{name}: {:?}", look.bad);
    }
}
