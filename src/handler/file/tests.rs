use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::handler::registry::settings;
use crate::util::stop::StopToken;

const SECOND: Duration = Duration::from_secs(1);

fn made(more: &str) -> (TempDir, JsonFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    let toml = format!("path = {:?}\n{more}", path.to_str().unwrap());
    let handler = made_from(&settings(&toml)).unwrap();
    (folder, handler)
}

fn made_from(settings: &Settings) -> Result<JsonFile, BuildError> {
    let common = Common::new(settings, &StopToken::never())?;
    JsonFile::new(settings, common)
}

fn text(handler: &JsonFile) -> Option<String> {
    fs::read_to_string(handler.file.path()).ok()
}

fn read(handler: &JsonFile) -> Value {
    serde_json::from_str(&text(handler).expect("the file is there")).unwrap()
}

fn sync(handler: &mut JsonFile, rows: &[(&str, &str)], now: Instant) {
    handler.begin_sync(SyncReason::Requested).unwrap();
    for (key, value) in rows {
        handler.apply_at(&Event::set("t", key, value), now).unwrap();
    }
    handler.end_sync_at(now);
}

fn closing() -> Closing {
    Closing {
        deadline: Instant::now() + SECOND,
    }
}

#[test]
fn the_file_appears_with_the_first_complete_state() {
    let (folder, mut handler) = made("");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    handler.begin_sync(SyncReason::Started).unwrap();
    handler.apply(&Event::set("b", "k2", "{\"a\": 1}")).unwrap();
    handler.apply(&Event::set("b", "k1", "text")).unwrap();
    handler.apply(&Event::set("a", "k", "[\n1]")).unwrap();
    assert_eq!(handler.idle(Instant::now() + 9 * SECOND), Ok(None));
    assert_eq!(text(&handler), None);
    handler.end_sync().unwrap();
    assert_eq!(
        text(&handler).unwrap(),
        "{\n  \"a\": {\n    \"k\": [ 1]\n  },\n  \"b\": {\n    \"k1\": \"text\",\n    \"k2\": {\"a\": 1}\n  }\n}\n"
    );
}

#[test]
fn an_empty_state_is_written_too() {
    let (_folder, mut handler) = made("");
    sync(&mut handler, &[], Instant::now());
    assert_eq!(text(&handler).unwrap(), "{}\n");
}

#[test]
fn it_is_written_once_per_interval_and_only_when_something_changed() {
    let (_folder, mut handler) = made("interval = 2");
    let start = Instant::now();
    sync(&mut handler, &[("k", "1")], start);
    let set = Event::set("t", "k", "2");
    handler.apply_at(&set, start + SECOND).unwrap();
    assert_eq!(
        handler.idle(start + SECOND),
        Ok(Some(start + 2 * SECOND)),
        "too early: it says when it wants to be called"
    );
    assert_eq!(read(&handler), json!({"t": {"k": 1}}));
    assert_eq!(handler.idle(start + 2 * SECOND), Ok(None));
    assert_eq!(read(&handler), json!({"t": {"k": 2}}));

    fs::remove_file(handler.file.path()).unwrap();
    handler.apply_at(&set, start + 5 * SECOND).unwrap();
    let unknown = Event::delete("t", "other");
    handler.apply_at(&unknown, start + 5 * SECOND).unwrap();
    sync(&mut handler, &[("k", "2")], start + 5 * SECOND);
    assert_eq!(handler.idle(start + 9 * SECOND), Ok(None));
    handler.close(closing()).unwrap();
    assert_eq!(text(&handler), None, "nothing changed, nothing written");
}

#[test]
fn constant_load_does_not_keep_it_from_writing() {
    let (_folder, mut handler) = made("");
    let start = Instant::now();
    sync(&mut handler, &[], start);
    let later = start + SECOND;
    handler.apply_at(&Event::set("t", "k", "1"), later).unwrap();
    assert_eq!(read(&handler), json!({"t": {"k": 1}}));
}

#[test]
fn a_resync_replaces_all_rows_at_its_end() {
    let (_folder, mut handler) = made("");
    let start = Instant::now();
    sync(&mut handler, &[("a", "1"), ("b", "1")], start);
    handler.apply_at(&Event::set("t", "a", "2"), start).unwrap();
    handler.begin_sync(SyncReason::Requested).unwrap();
    handler.apply(&Event::set("t", "partial", "1")).unwrap();
    assert_eq!(handler.idle(start + 9 * SECOND), Ok(None));
    assert_eq!(read(&handler), json!({"t": {"a": 1, "b": 1}}));
    sync(&mut handler, &[("b", "2")], start + 9 * SECOND);
    assert_eq!(read(&handler), json!({"t": {"b": 2}}));
    let delete = Event::delete("t", "b");
    handler.apply_at(&delete, start + 19 * SECOND).unwrap();
    assert_eq!(read(&handler), json!({}));
}

#[test]
fn close_writes_the_last_complete_state() {
    let (_folder, mut handler) = made("interval = 3600");
    sync(&mut handler, &[("a", "1")], Instant::now());
    handler.apply(&Event::set("t", "b", "2")).unwrap();
    handler.begin_sync(SyncReason::Requested).unwrap();
    handler.apply(&Event::set("t", "c", "3")).unwrap();
    assert_eq!(read(&handler), json!({"t": {"a": 1}}));
    handler.close(closing()).unwrap();
    assert_eq!(read(&handler), json!({"t": {"a": 1, "b": 2}}));
}

#[test]
fn an_incomplete_first_state_does_not_replace_an_older_file() {
    let (_folder, mut handler) = made("");
    fs::write(handler.file.path(), "old").unwrap();
    handler.begin_sync(SyncReason::Started).unwrap();
    handler.apply(&Event::set("t", "k", "1")).unwrap();
    handler.close(closing()).unwrap();
    assert_eq!(text(&handler).unwrap(), "old");
}

#[test]
fn a_failed_write_is_reported_and_repeated() {
    let (folder, mut handler) = made("");
    let start = Instant::now();
    fs::remove_dir(folder.path()).unwrap();
    sync(&mut handler, &[("k", "1")], start);
    let Err(HandlerError::Retry(why)) = handler.idle(start) else {
        panic!("the failure is not reported");
    };
    assert!(why.contains("rows.json"), "{why}");
    assert_eq!(handler.idle(start), Ok(Some(start + SECOND)), "once");
    let next = start + SECOND;
    assert!(handler.idle(next).is_err());
    fs::create_dir(folder.path()).unwrap();
    assert_eq!(handler.idle(next), Ok(Some(next + SECOND)), "not sooner");
    assert_eq!(handler.idle(next + SECOND), Ok(None));
    assert_eq!(read(&handler), json!({"t": {"k": 1}}));

    fs::remove_dir_all(folder.path()).unwrap();
    handler.apply(&Event::delete("t", "k")).unwrap();
    let closed = handler.close(closing());
    assert!(matches!(closed, Err(HandlerError::Retry(_))), "{closed:?}");
    fs::create_dir(folder.path()).unwrap();
}

#[test]
fn hostile_rows_harm_only_themselves() {
    let (_folder, mut handler) = made("");
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let hostile = "k\"\n\\{}\u{0}\u{2028}";
    let rows = [
        (hostile, "\"quoted\""),
        ("deep", &deep),
        ("open", "{\"a\":"),
        ("huge", "1e9999"),
        ("half", "\"\\ud800\""),
        ("lines", "{\"a\"\r\n:1}"),
    ];
    sync(&mut handler, &rows, Instant::now());
    let read = read(&handler);
    assert_eq!(read["t"][hostile], "quoted");
    assert_eq!(read["t"]["deep"], deep);
    assert_eq!(read["t"]["open"], "{\"a\":");
    assert_eq!(read["t"]["huge"], "1e9999");
    assert_eq!(read["t"]["half"], "\"\\ud800\"");
    assert_eq!(read["t"]["lines"], json!({"a": 1}));
    let lines = text(&handler).unwrap().lines().count();
    assert_eq!(lines, rows.len() + 4, "one row per line");
}

#[test]
fn a_concurrent_reader_always_sees_a_complete_state() {
    let (_folder, mut handler) = made("");
    let start = Instant::now();
    let keys: Vec<_> = (0..2_000).map(|i| format!("key-{i}")).collect();
    let state = |round: u32| round.to_string();
    let rows = |value: &'static str| keys.iter().map(move |key| (key.as_str(), value));
    sync(&mut handler, &rows("0").collect::<Vec<_>>(), start);
    let path = handler.file.path().to_owned();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).unwrap();
                let read: Value = serde_json::from_str(&text).unwrap();
                let rows = read["t"].as_object().unwrap();
                let first = &rows["key-0"];
                assert_eq!(rows.len(), 2_000);
                assert!(rows.values().all(|value| value == first));
                seen.insert(first.to_string());
            }
            seen.len()
        });
        for round in 1..=40 {
            let value = state(round);
            let rows: Vec<_> = keys
                .iter()
                .map(|key| (key.as_str(), value.as_str()))
                .collect();
            sync(&mut handler, &rows, start + round * SECOND);
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 1, "the reader saw no replacement");
    });
}

#[test]
fn leftovers_of_a_crash_are_removed_by_the_first_write() {
    let (folder, mut handler) = made("");
    let leftover = folder
        .path()
        .join(".rows.json.0123456789abcdef.fanfare-tmp");
    fs::write(&leftover, "half").unwrap();
    sync(&mut handler, &[], Instant::now());
    assert!(!leftover.exists() && handler.file.path().exists());
}

#[test]
fn settings_are_checked_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    for (toml, key) in [
        ("interval = 1", "path"),
        ("path = '/'", "path"),
        (&format!("path = '{root}'"), "path"),
        (&format!("path = '{root}/plain/f'"), "path"),
        (&format!("path = '{root}/f'\nmode = 644"), "mode"),
        (&format!("path = '{root}/f'\nmode = '+644'"), "mode"),
        (&format!("path = '{root}/f'\nmode = '4755'"), "mode"),
        (&format!("path = '{root}/f'\nmode = ''"), "mode"),
        (&format!("path = '{root}/f'\ninterval = 0"), "interval"),
    ] {
        match made_from(&settings(toml)).err() {
            Some(BuildError::Setting { key: named, .. }) => assert_eq!(named, key, "{toml}"),
            other => panic!("{toml}: {other:?}"),
        }
    }
    // It may be there later.
    let none = made_from(&settings(&format!("path = '{root}/none/f'"))).err();
    assert!(
        matches!(&none, Some(BuildError::Environment(why)) if why.contains("/none: No such file")),
        "{none:?}"
    );
    made_from(&settings(&format!("path = '{root}/f'"))).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_mode_is_kept_over_replacements() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, mut handler) = made("mode = \"0606\"");
    let start = Instant::now();
    for round in 0..2 {
        let value = round.to_string();
        sync(&mut handler, &[("k", &value)], start + round * SECOND);
        let mode = fs::metadata(handler.file.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o606);
    }
    assert_eq!(read(&handler), json!({"t": {"k": 1}}));
}

#[test]
fn the_command_runs_after_a_write_and_not_without_one() {
    let (folder, _) = made("");
    let runs = folder.path().join("runs");
    let (_folder, mut handler) = made(&format!(
        "interval = 0.02\nnotify = ['/bin/sh', '-c', 'echo >> \"$0\"', {runs:?}]"
    ));
    let settle = |handler: &mut JsonFile| {
        while let Some(at) = handler.idle(Instant::now()).unwrap() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        fs::read_to_string(&runs).unwrap_or_default().len()
    };
    sync(&mut handler, &[("k", "1")], Instant::now());
    assert_eq!(settle(&mut handler), 1);
    sync(&mut handler, &[("k", "1")], Instant::now());
    assert_eq!(settle(&mut handler), 1);
    handler.apply(&Event::delete("t", "k")).unwrap();
    handler.close(closing()).unwrap();
    assert_eq!(fs::read_to_string(&runs).unwrap().len(), 2);
}
