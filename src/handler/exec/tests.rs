use std::fs;
use std::path::Path;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::handler::exec;
use crate::handler::registry::settings;
use crate::util::stop::{StopToken, stop};
use crate::util::testing::{at_most, patience, runs, within};

struct Rig {
    folder: TempDir,
    exec: Each,
}

/// A handler whose command is `script`; `$0` is a folder for it to leave traces in.
fn rig_with(script: &str, more: &str, stop: &StopToken) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let toml = format!("command = ['/bin/sh', '-c', '''{script}''', '{path}']\n{more}");
    let exec = exec::each(&settings(&toml), stop).unwrap_or_else(|error| panic!("{error}"));
    Rig { folder, exec }
}

fn rig(script: &str, more: &str) -> Rig {
    rig_with(script, more, &StopToken::never())
}

impl Rig {
    fn apply(&mut self) -> Result<(), HandlerError> {
        self.exec.apply(&Event::set("t", "k", "1"))
    }

    fn retry(&mut self) -> String {
        match self.apply() {
            Err(HandlerError::Retry(why)) => why,
            other => panic!("no Retry: {other:?}"),
        }
    }

    fn left(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap();
        text.trim_end().to_owned()
    }
}

#[test]
fn the_command_gets_the_event() {
    let mut rig = rig(
        r#"cat >> "$0/in"; echo "$FANFARE_TABLE,$FANFARE_KEY,$FANFARE_ACTION,$FANFARE_TOPIC,$FANFARE_SYNC" >> "$0/env"; echo said"#,
        "",
    );
    let event = Event::set("lport", "p 1\n", "{\"a\":1}").on("t1");
    rig.exec.begin_sync(SyncReason::Started).unwrap();
    rig.exec.apply(&event).unwrap();
    rig.exec.end_sync().unwrap();
    rig.exec.apply(&Event::delete("lport", "p2")).unwrap();
    let lines = [
        json::event(&event, true),
        json::event(&Event::delete("lport", "p2"), false),
    ];
    assert_eq!(rig.left("in"), lines.join("\n"));
    assert_eq!(
        rig.left("env"),
        "lport,p 1\n,set,t1,true\nlport,p2,delete,D,false"
    );
}

#[test]
fn the_marks_of_a_resync_are_given_when_wanted() {
    let mut rig = rig(r#"cat >> "$0/in""#, "sync_events = true");
    rig.exec.begin_sync(SyncReason::Overflow).unwrap();
    rig.exec.end_sync().unwrap();
    let marks: Vec<Value> = rig
        .left("in")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(marks.len(), 2);
    assert_eq!(marks[0]["action"], "begin_sync");
    assert_eq!(marks[0]["reason"], "overflow");
    assert_eq!(marks[1]["action"], "end_sync");
}

#[test]
fn a_failure_carries_status_and_last_words() {
    let mut rig = rig(r#"echo first >&2; printf 'la\033st\n\n' >&2; exit 3"#, "");
    assert_eq!(
        rig.retry(),
        r"/bin/sh failed with exit status: 3: la\u{1b}st"
    );
}

#[test]
fn a_signal_is_a_failure() {
    let why = rig("kill -9 $$", "").retry();
    assert!(why.contains("signal: 9"), "{why}");
}

#[test]
fn much_on_standard_error_blocks_nothing() {
    let mut rig = rig(
        "head -c 1048576 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1",
        "timeout = 60",
    );
    assert!(rig.retry().ends_with("exit status: 1: end"));
}

#[test]
fn endless_standard_error_does_not_hide_the_deadline() {
    let mut rig = rig("exec yes no >&2", "timeout = 0.3");
    let start = Instant::now();
    let why = rig.retry();
    // The kill may come in the middle of a line.
    assert!(why.contains("0.3 s") && why.contains(": n"), "{why}");
    assert!(start.elapsed() < patience());
}

#[test]
fn a_large_input_is_given_whole() {
    let mut rig = rig(r#"wc -c > "$0/count""#, "timeout = 60");
    let value = "x".repeat(4 << 20);
    let event = Event::set("t", "k", &value);
    rig.exec.apply(&event).unwrap();
    let expected = json::event(&event, false).len() + 1;
    assert_eq!(rig.left("count"), expected.to_string());
}

#[test]
fn a_large_input_that_nobody_reads_blocks_nothing() {
    let value = "x".repeat(4 << 20);
    let event = Event::set("t", "k", &value);
    for script in ["exit 0", "exec 0<&-; exit 0"] {
        rig(script, "timeout = 60").exec.apply(&event).unwrap();
    }
    let failed = rig("exit 1", "timeout = 60").exec.apply(&event);
    assert!(matches!(failed, Err(HandlerError::Retry(_))));
    let why = match rig("sleep 1000", "timeout = 0.3").exec.apply(&event) {
        Err(HandlerError::Retry(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why.contains("ran longer"), "{why}");
}

#[test]
fn the_whole_group_is_killed_in_time_and_nothing_is_left() {
    let mut rig = rig(
        r#"sleep 1000 & echo $! > "$0/grandchild"; echo $$ > "$0/child"; wait"#,
        "timeout = 1",
    );
    let start = Instant::now();
    let why = rig.retry();
    assert_eq!(why, "/bin/sh ran longer than 1 s and was killed");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(start.elapsed() < patience());
    let child = Path::new("/proc").join(rig.left("child"));
    assert!(!child.exists(), "not even a zombie");
    let grandchild = rig.left("grandchild");
    within("the grandchild is gone", || !runs(&grandchild));
}

#[test]
fn what_a_command_leaves_in_the_background_is_not_waited_for() {
    let mut rig = rig(
        r#"sleep 1000 & echo $! > "$0/background"; echo $$ > "$0/child""#,
        "timeout = 60",
    );
    let start = Instant::now();
    rig.apply().unwrap();
    assert!(start.elapsed() < patience());
    assert!(!Path::new("/proc").join(rig.left("child")).exists());
    let background = rig.left("background");
    assert!(runs(&background), "it is not killed either");
    let pid = rustix::process::Pid::from_raw(background.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_stop_ends_a_running_command_at_once() {
    let (stop, token) = stop().unwrap();
    let mut rig = rig_with(
        r#"sleep 1000 & echo $! > "$0/new"; mv "$0/new" "$0/grandchild"; wait"#,
        "timeout = 60",
        &token,
    );
    let trace = rig.folder.path().join("grandchild");
    let stopper = thread::spawn(move || {
        within("the command runs", || trace.exists());
        stop.stop();
        Instant::now()
    });
    assert_eq!(rig.retry(), "stopped");
    let stopped = stopper.join().unwrap();
    assert!(stopped.elapsed() < at_most(Duration::from_secs(1)));
    let grandchild = rig.left("grandchild");
    within("the grandchild is gone", || !runs(&grandchild));

    fs::remove_file(rig.folder.path().join("grandchild")).unwrap();
    assert_eq!(rig.retry(), "stopped");
    let left = fs::read_dir(rig.folder.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is started any more");
}

#[test]
fn names_that_no_environment_holds_are_refused_for_good() {
    let mut rig = rig(r#"echo ran > "$0/ran""#, "");
    let long = "k".repeat(1 << 20);
    for event in [
        Event::set("t", "k\0", "1"),
        Event::set("t\0", "k", "1"),
        Event::set("t", "k", "1").on("\0"),
        Event::set("t", &long, "1"),
    ] {
        let refused = rig.exec.apply(&event);
        assert!(
            matches!(refused, Err(HandlerError::Permanent(_))),
            "{refused:?}"
        );
    }
    assert_eq!(fs::read_dir(rig.folder.path()).unwrap().count(), 0);
    rig.exec.apply(&Event::set("t", "k", "\0")).unwrap();
    assert_eq!(rig.left("ran"), "ran", "in a value it does no harm");
}

#[test]
fn a_missing_program_may_come_later() {
    let toml = "command = ['/nonexistent/program']";
    let mut exec =
        exec::each(&settings(toml), &StopToken::never()).unwrap_or_else(|e| panic!("{e}"));
    let failed = exec.apply(&Event::set("t", "k", "1"));
    let Err(HandlerError::Retry(why)) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        why.starts_with("/nonexistent/program cannot be started: No such file"),
        "{why}"
    );
}

#[test]
fn settings_are_checked() {
    for (toml, expected) in [
        ("", "command: must be set"),
        ("command = 'true'", "command: must be a list"),
        ("command = []", "command: must be a list"),
        ("command = ['']", "command: must be a list"),
        ("command = [\"a\\u0000\"]", "command: must not contain NUL"),
        ("command = ['a']\ntimeout = 0", "timeout: 0 is not between"),
        ("command = ['a']\nsync_events = 1", "sync_events: "),
        ("command = ['a']\nbatch = 1", "batch: "),
        ("command = ['a']\nconcurrency = 0", "concurrency: 0 is not"),
        (
            "command = ['a']\nsettle = 1",
            "settle: means something only",
        ),
        (
            "command = ['a']\nbatch = true\nconcurrency = 2",
            "concurrency: means",
        ),
        (
            "command = ['a']\nbatch = true\nsettle = 0",
            "settle: 0 is not",
        ),
        (
            "command = ['a']\nbatch = true\nsettle = 2\nmax_delay = 1",
            "max_delay: is shorter",
        ),
    ] {
        let fault = exec::build("x", &settings(toml), &StopToken::never()).err();
        let fault = fault.map_or_else(String::new, |fault| fault.to_string());
        assert!(fault.starts_with(expected), "{toml}: {fault}");
    }
}

#[test]
fn rows_run_side_by_side_and_each_in_its_order() {
    // Each run waits until another one is there, so that one at a time would never end well.
    let script = r#"cd "$0"; touch "run.$FANFARE_KEY"
        n=0; while [ "$(ls run.* 2>/dev/null | wc -l)" -lt 2 ] && [ ! -e both ]; do
            n=$((n+1)); [ $n -lt 1000 ] || exit 1; sleep 0.01; done
        touch both; cat >> "in.$FANFARE_KEY"; rm "run.$FANFARE_KEY""#;
    let mut rig = rig(script, "concurrency = 3\ntimeout = 60");
    for value in ["1", "2", "3"] {
        for key in ["a", "b"] {
            rig.exec.apply(&Event::set("t", key, value)).unwrap();
        }
    }
    while rig.exec.idle(Instant::now()).unwrap().is_some() {}
    rig.exec
        .late_failures(&mut |event, error| panic!("{event:?} {error}"));
    for key in ["a", "b"] {
        let told = ["1", "2", "3"].map(|value| json::event(&Event::set("t", key, value), false));
        assert_eq!(rig.left(&format!("in.{key}")), told.join("\n"));
    }
}

#[test]
fn a_failure_beside_others_is_told_later() {
    let mut rig = rig(
        r#"[ "$FANFARE_KEY" != bad ] || { echo no >&2; exit 1; }"#,
        "concurrency = 4",
    );
    for key in ["a", "bad", "b"] {
        rig.exec.apply(&Event::set("t", key, "1")).unwrap();
    }
    rig.exec.end_sync().unwrap();
    let mut failed = Vec::new();
    rig.exec
        .late_failures(&mut |event, error| failed.push((event.key.to_owned(), error)));
    assert_eq!(failed.len(), 1);
    let (key, HandlerError::Retry(why)) = &failed[0] else {
        panic!("{failed:?}");
    };
    assert!(key == "bad" && why.ends_with("exit status: 1: no"), "{why}");
}

#[test]
fn hostile_names_are_only_text() {
    let mut rig = rig(
        r#"printf '%s|%s' "$FANFARE_KEY" "$FANFARE_TABLE" > "$0/env""#,
        "",
    );
    let hostile = "$(touch x)`touch y`;'\"\n() { :; }; -rf *";
    rig.exec.apply(&Event::set(hostile, hostile, "1")).unwrap();
    assert_eq!(rig.left("env"), format!("{hostile}|{hostile}"));
    assert_eq!(fs::read_dir(rig.folder.path()).unwrap().count(), 1);
}
