//! A file imports from its own module, from lower layers, and of its own layer only what [`MODULES`] lists,
//! without a cycle; and `unsafe` stands in two files (`src/lib.rs` has the map, with every module).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "layers/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// One top-level module: its layer, and what of its own layer it may use. That must stand above
/// it, so that there can be no cycle.
struct Module {
    name: &'static str,
    layer: u8,
    beside: &'static [&'static str],
}

const fn module(layer: u8, name: &'static str, beside: &'static [&'static str]) -> Module {
    Module {
        name,
        layer,
        beside,
    }
}

const MODULES: &[Module] = &[
    module(0, "util", &[]),
    module(0, "metrics", &[]),
    module(0, "event", &[]),
    module(1, "security", &[]),
    module(1, "pubsub", &["security"]),
    module(1, "handler", &[]),
    module(1, "replica", &[]),
    module(1, "store", &[]),
    module(1, "sync", &[]),
    module(2, "dispatch", &[]),
    module(2, "agent", &["dispatch"]),
    module(2, "publisher", &["dispatch", "agent"]),
    module(3, "config", &[]),
    module(3, "status", &[]),
    module(3, "control", &["status"]),
    module(3, "exporter", &["status", "control"]),
    module(4, "app", &[]),
];

/// The only files with `unsafe` in them.
const UNSAFE: &[&str] = &["pubsub/driver/zmq/ffi.rs", "pubsub/driver/zmq/tcp.rs"];

fn find(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// What is wrong with the file at `path` (below `src`).
fn faults(path: &str, text: &str) -> Vec<String> {
    let code = source::code(text);
    let mut faults = Vec::new();
    if source::count(&code, "unsafe") > 0 && !UNSAFE.contains(&path) {
        faults.push(format!("{path}: unsafe"));
    }
    let names: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let names: &[&str] = match names.as_slice() {
        ["lib"] => return faults,
        ["bin", ..] => {
            let apps = source::count(&code, "fanfare");
            if apps != code.matches("fanfare::app::").count() {
                faults.push(format!("{path}: a program uses nothing but app"));
            }
            return faults;
        }
        [module @ .., "mod"] => module,
        module => module,
    };
    let Some(own) = find(names[0]) else {
        faults.push(format!("{path}: {} is in no layer", names[0]));
        return faults;
    };
    for import in source::imports(&code, names) {
        match find(&import) {
            _ if import == own.name => {}
            None => faults.push(format!("{path}: {import} is in no layer")),
            Some(other) if other.layer > own.layer => {
                faults.push(format!("{path}: {import} is in a higher layer"));
            }
            Some(other) if other.layer == own.layer && !own.beside.contains(&other.name) => {
                faults.push(format!("{path}: {import} stands beside it"));
            }
            Some(_) => {}
        }
    }
    faults.dedup();
    faults
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A file of a `#[cfg(test)] mod tests;`.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[test]
fn every_file_imports_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut seen) = (Vec::new(), 0);
    for file in files(&src) {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap();
        if !is_test(path) {
            seen += 1;
            found.extend(faults(path, &fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(seen > 40, "only {seen} files were looked at");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_is_where_it_is_said_to_be() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in UNSAFE {
        let code = source::code(&fs::read_to_string(src.join(path)).unwrap());
        assert!(
            source::count(&code, "unsafe") > 0,
            "{path} needs no exception"
        );
    }
}

#[test]
fn the_table_has_no_cycle() {
    for (place, module) in MODULES.iter().enumerate() {
        for name in module.beside {
            let other = MODULES[..place].iter().find(|other| other.name == *name);
            let other = other.expect("stands above");
            assert_eq!(
                other.layer, module.layer,
                "only what is beside it is listed"
            );
        }
    }
}

/// What tests share is in the suite's rig: a test's module uses that, and what its parent has.
#[test]
fn no_test_of_the_suite_imports_from_another() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let (mut found, mut seen) = (Vec::new(), 0);
    for file in files(&suite) {
        let path = file.strip_prefix(&suite).unwrap();
        let code = source::code(&fs::read_to_string(&file).unwrap());
        // The part of a path that follows `start`, where it is a module's.
        let follows = |start: &str| -> Vec<String> {
            let parts = code.split(start).skip(1);
            let parts = parts.filter_map(|part| part.split_once("::").map(|(name, _)| name));
            let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            parts.filter(is_name).map(str::to_owned).collect()
        };
        let foreign = follows("crate::").into_iter().filter(|name| name != "rig");
        found.extend(foreign.map(|name| format!("{}: crate::{name}", path.display())));
        if !path.starts_with("rig") {
            let beside = follows("super::").into_iter();
            found.extend(beside.map(|name| format!("{}: super::{name}", path.display())));
        }
        seen += 1;
    }
    assert!(seen > 80, "only {seen} files were looked at");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Beside the modules the maps name parts of them.
#[test]
fn the_maps_have_every_module_in_its_layer() {
    const LAYERS: [&str; 5] = ["leaf", "contracts", "engines", "surface", "wiring"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["src/lib.rs", "docs/architecture.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let (mut layer, mut found) = ("", Vec::new());
        let lines = text.lines().map(|line| line.trim_start_matches("//! "));
        let map = lines.skip_while(|line| !line.starts_with("| layer |"));
        for line in map.take_while(|line| line.starts_with('|')).skip(2) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if !cells[1].is_empty() {
                layer = cells[1];
            }
            // What stands between backticks, without `mod@` and what is below the module.
            let names = cells[2].split('`').skip(1).step_by(2);
            let names = names.map(|name| name.trim_start_matches("mod@"));
            found.extend(names.map(|name| (layer, name.split("::").next().unwrap())));
        }
        for module in MODULES {
            let own = (LAYERS[usize::from(module.layer)], module.name);
            assert!(found.contains(&own), "{file}: {own:?} is not in {found:?}");
        }
    }
}

/// The check sees what it must see.
#[test]
fn faults_are_found() {
    for (path, text) in [
        ("event/codec.rs", "use crate::pubsub::api;"),
        ("event/mod.rs", "fn f() { crate::agent::run() }"),
        ("event/mod.rs", "use {crate::agent::Agent, std::io};"),
        (
            "pubsub/api.rs",
            "use crate::{event::Event, dispatch::{Hub, lane}};",
        ),
        (
            "pubsub/driver/zmq/link.rs",
            "use super::super::super::super::config::Key;",
        ),
        ("replica.rs", "use super::dispatch::Hub;"),
        ("replica.rs", "use super::{event::Event, app};"),
        ("handler/log.rs", "use crate::pubsub::Source;"),
        ("dispatch/hub.rs", "pub use crate :: agent;"),
        ("agent/mod.rs", "use crate::publisher::service;"),
        ("status.rs", "type A = Vec<crate::app::logging::A>;"),
        (
            "metrics.rs",
            "macro_rules! m { () => { $crate::status::summary() } }",
        ),
        ("agent/mod.rs", "#[cfg(test)] mod tests { } use crate::app;"),
        ("agent/mod.rs", "#[cfg(test)] mod tests; use crate::app;"),
        (
            "agent/mod.rs",
            "const A: char = '\"'; use crate::app; const B: &str = \"\";",
        ),
        (
            "agent/mod.rs",
            "fn f<'a>(_: &'a str) { crate::app::f(r#\"\"#) }",
        ),
        ("agent/mod.rs", "/* /* */ */ use crate::app;"),
        ("agent/mod.rs", "use crate::*;"),
        ("agent/mod.rs", "use crate::unheard_of;"),
        ("unheard_of.rs", ""),
        ("agent/mod.rs", "unsafe fn f() {}"),
        ("pubsub/driver/zmq/mod.rs", "fn f() { unsafe { g() } }"),
        ("bin/fanfare.rs", "fn main() { fanfare::config::load() }"),
        ("bin/fanfare.rs", "use fanfare::{app, agent};"),
    ] {
        assert_eq!(faults(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn what_is_allowed_is_no_fault() {
    for (path, text) in [
        (
            "event/codec.rs",
            "use super::{Action, app}; use crate::event::Event;",
        ),
        (
            "pubsub/driver/zmq/link.rs",
            "use super::super::super::api; use crate::util::poll;",
        ),
        (
            "agent/mod.rs",
            "use crate::{dispatch::Hub, pubsub::{config, app}};",
        ),
        (
            "agent/mod.rs",
            "// crate::app\n/// [`crate::app`]\n/* crate::app */",
        ),
        (
            "agent/mod.rs",
            "const A: &str = \"crate::app\"; const B: &str = r#\"crate::app\"#;",
        ),
        (
            "agent/mod.rs",
            "#[cfg(test)]\nmod tests { use crate::app; fn f() { unsafe {} } }",
        ),
        (
            "agent/mod.rs",
            "#[cfg(test)]\npub(crate) fn f() { crate::app::g() }",
        ),
        (
            "agent/mod.rs",
            "pub(crate) fn f() {} pub(super) fn g() {} #[allow(unsafe_code)] fn h() {}",
        ),
        ("lib.rs", "pub mod app;"),
        ("bin/fanfare.rs", "fn main() { fanfare::app::ctl::main() }"),
        ("pubsub/driver/zmq/ffi.rs", "fn f() { unsafe { g() } }"),
    ] {
        assert_eq!(faults(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
