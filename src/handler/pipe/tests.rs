use std::fs;

use tempfile::TempDir;

use super::*;
use crate::handler::registry::settings;
use crate::util::stop::stop;
use crate::util::testing::{self, at_most, runs, within};

/// Says hello and acknowledges everything it is told.
const FAITHFUL: &str = r#"
    echo '{"type":"hello","protocol":1}'
    while IFS= read -r line; do
        seq=${line#*\"seq\":}; seq=${seq%%[!0-9]*}
        case $line in *ping*) kind=pong;; *) kind=ack;; esac
        printf '%s\n' "$line" >> "$0/told"
        echo "{\"type\":\"$kind\",\"seq\":$seq}"
    done"#;

struct Rig {
    folder: TempDir,
    pipe: Pipe,
}

/// A handler whose child is the shell script `script`; `$0` is a folder for it to leave traces in.
fn rig_with(script: &str, more: &str, stop: &StopToken) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let toml = format!("command = ['/bin/sh', '-c', '''{script}''', '{path}']\n{more}");
    let pipe = Pipe::new("p", &settings(&toml), stop).unwrap_or_else(|error| panic!("{error}"));
    Rig { folder, pipe }
}

fn rig(script: &str, more: &str) -> Rig {
    rig_with(script, more, &StopToken::never())
}

impl Rig {
    fn begin(&mut self) -> Result<(), HandlerError> {
        self.pipe.begin_sync(SyncReason::Started)
    }

    fn apply(&mut self, key: &str) -> Result<(), HandlerError> {
        self.pipe.apply(&Event::set("t", key, "1"))
    }

    /// Calls idle as a lane does, until nothing waits for an answer.
    fn settle(&mut self) -> Result<(), HandlerError> {
        let deadline = testing::deadline();
        while self.pipe.idle(Instant::now())?.is_some() {
            let running = self.pipe.running.as_ref().unwrap();
            if running.window.is_empty() {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "no answers");
        }
        Ok(())
    }

    /// Gives rows until the handler is at its end, and says why.
    fn end(&mut self) -> String {
        let deadline = testing::deadline();
        loop {
            let result = self.apply("k").and_then(|()| self.settle());
            match result {
                Ok(()) => assert!(Instant::now() < deadline, "it lives"),
                Err(HandlerError::Lost(why)) => return why,
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn left(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

fn closing() -> Closing {
    Closing {
        deadline: testing::deadline(),
    }
}

#[test]
fn a_child_is_told_everything_in_order() {
    let mut rig = rig(FAITHFUL, "window = 3");
    rig.begin().unwrap();
    for n in 0..10 {
        rig.apply(&format!("k{n}")).unwrap();
    }
    rig.pipe.end_sync().unwrap();
    rig.pipe.apply(&Event::delete("t", "k\n\"")).unwrap();
    rig.settle().unwrap();
    rig.pipe.close(closing()).unwrap();
    let told = rig.left("told");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[0], protocol::hello("p", 3));
    assert_eq!(lines[1], protocol::begin_sync(1, "started"));
    for n in 0..10 {
        assert!(lines[n + 2].starts_with(&format!(r#"{{"type":"row","seq":{},"#, n + 2)));
    }
    assert_eq!(lines[12], protocol::end_sync(12));
    assert_eq!(
        lines[13],
        protocol::change(13, &Event::delete("t", "k\n\""), false)
    );
}

#[test]
fn a_refused_row_is_a_late_failure() {
    let mut rig = rig(
        r#"echo '{"type":"hello","protocol":1}'; read hello; read begin; read a; read b
           echo '{"type":"nack","seq":2,"reason":"no room","retry":false}'
           echo 'just a line'; echo '{"type":"log","level":"warn","message":"a log line"}'
           echo '{"type":"ack","seq":3}'; exec cat"#,
        "",
    );
    rig.begin().unwrap();
    let mut failed = Vec::new();
    for key in ["a", "b"] {
        if let Err(error) = rig.apply(key) {
            panic!("{error}");
        }
    }
    while failed.is_empty() {
        rig.pipe.idle(Instant::now()).unwrap();
        rig.pipe.late_failures(&mut |event, error| {
            failed.push((event.key.to_owned(), error));
        });
    }
    let refused = HandlerError::Permanent("no room".into());
    assert_eq!(failed, [("a".to_owned(), refused)]);
    rig.settle().unwrap();
    rig.pipe.late_failures(&mut |event, _| panic!("{event:?}"));
}

/// It is a row of the resync.
#[test]
fn a_row_of_before_a_resync_that_is_refused_is_no_failure() {
    let mut rig = rig(
        r#"echo '{"type":"hello","protocol":1}'; read hello; read begin; read a; read end
           echo '{"type":"ack","seq":1}'; read begin
           echo '{"type":"nack","seq":2,"reason":"no room"}'; echo '{"type":"ack","seq":4}'
           read a; echo '{"type":"nack","seq":5,"reason":"no room"}'; exec cat"#,
        "",
    );
    rig.begin().unwrap();
    rig.apply("a").unwrap();
    rig.pipe.end_sync().unwrap();
    rig.begin().unwrap();
    rig.pipe.late_failures(&mut |event, _| panic!("{event:?}"));
    rig.apply("a").unwrap();
    rig.settle().unwrap();
    let mut failed = 0;
    rig.pipe.late_failures(&mut |_, _| failed += 1);
    assert_eq!(failed, 1, "the one of the resync");
}

#[test]
fn whatever_ends_a_child_is_told() {
    let hello = r#"echo '{"type":"hello","protocol":1}'; "#;
    for (script, more, expected) in [
        ("exit 3", "", "exit status: 3"),
        ("echo oh >&2; exit 3", "", "; its last words: oh"),
        ("kill -9 $$", "", "signal: 9"),
        ("exec >&-; sleep 1000", "", "closed its standard output"),
        ("sleep 1000", "timeout = 0.2", "said no hello within 0.2 s"),
        (
            r#"echo '{"type":"hello","protocol":2}'; sleep 1000"#,
            "",
            "speaks protocol 2, not 1",
        ),
        (
            r#"echo '{"type":"ack","seq":1}'; sleep 1000"#,
            "",
            "said ack before hello",
        ),
    ] {
        let why = rig(script, more).end();
        assert!(
            why.starts_with("its child ") && why.contains(expected),
            "{script}: {why}"
        );
    }
    for (script, more, expected) in [
        ("sleep 1000", "timeout = 2", "the next is seq 1, t k"),
        (
            r#"echo '{"type":"ack","seq":99}'; sleep 1000"#,
            "",
            "never sent",
        ),
        (
            r#"echo '{"type":"ack"}'; sleep 1000"#,
            "",
            "without a number seq",
        ),
        // It neither reads nor answers: more than the pipe holds must not block for ever.
        (
            "exec 0<&-; sleep 1000",
            "timeout = 2",
            "the next is seq 1, t k",
        ),
    ] {
        let why = rig(&format!("{hello}{script}"), more).end();
        assert!(why.contains(expected), "{script}: {why}");
    }
    let toml = "command = ['/nonexistent/program']";
    let mut pipe =
        Pipe::new("p", &settings(toml), &StopToken::never()).unwrap_or_else(|e| panic!("{e}"));
    let Err(HandlerError::Lost(why)) = pipe.begin_sync(SyncReason::Started) else {
        panic!("started");
    };
    assert!(
        why.starts_with("cannot start /nonexistent/program: No such file"),
        "{why}"
    );
}

#[test]
fn a_child_with_nothing_to_do_is_asked_whether_it_is_there() {
    let mut rig = rig(FAITHFUL, "ping_interval = 0.05");
    rig.begin().unwrap();
    rig.settle().unwrap();
    within("it is asked twice", || {
        rig.pipe.idle(Instant::now()).unwrap();
        rig.left("told").matches(r#""type":"ping""#).count() >= 2
    });
    // One that hangs is found so.
    let mut hung = rig_with(
        r#"echo '{"type":"hello","protocol":1}'; read hello; read begin
           echo '{"type":"ack","seq":1}'; sleep 1000"#,
        "ping_interval = 0.05\ntimeout = 2",
        &StopToken::never(),
    );
    hung.begin().unwrap();
    let mut end = None;
    within("the hang is noticed", || {
        end = hung.pipe.idle(Instant::now()).err();
        end.is_some()
    });
    let end = end.unwrap().to_string();
    assert!(
        end.contains("answered nothing for 2 s; the next is seq 2"),
        "{end}"
    );
}

#[test]
fn a_value_larger_than_any_pipe_gets_through() {
    let mut rig = rig(FAITHFUL, "timeout = 60");
    let value = "x".repeat(3 << 20);
    rig.begin().unwrap();
    rig.pipe.apply(&Event::set("t", "k", &value)).unwrap();
    rig.settle().unwrap();
    assert!(rig.left("told").len() > 3 << 20);
}

#[test]
fn the_whole_group_ends_with_the_handler() {
    let script = r#"sleep 1000 & echo $! > "$0/new"; mv "$0/new" "$0/grandchild""#;
    let mut rig = rig(&format!("{script}{FAITHFUL}"), "");
    rig.begin().unwrap();
    rig.settle().unwrap();
    let Rig { folder, pipe } = rig;
    let grandchild = fs::read_to_string(folder.path().join("grandchild")).unwrap();
    assert!(runs(&grandchild));
    drop(pipe);
    within("the grandchild is gone", || !runs(&grandchild));
}

#[test]
fn a_stop_ends_the_wait_for_a_child() {
    let (stop, token) = stop().unwrap();
    let script = r#"echo $$ > "$0/new"; mv "$0/new" "$0/child"; sleep 1000"#;
    let mut rig = rig_with(script, "", &token);
    let trace = rig.folder.path().join("child");
    let stopper = std::thread::spawn(move || {
        within("the child runs", || trace.exists());
        stop.stop();
        Instant::now()
    });
    assert_eq!(rig.begin(), Err(HandlerError::Retry("stopped".into())));
    assert!(stopper.join().unwrap().elapsed() < at_most(Duration::from_secs(1)));
    let child = rig.left("child");
    within("the child is gone", || !runs(&child));
    assert!(rig.apply("k").is_err());
    assert!(rig.pipe.running.is_none(), "nothing is started any more");
    rig.pipe.close(closing()).unwrap();
}

#[test]
fn the_end_waits_for_answers_but_not_for_ever() {
    let slow = r#"echo '{"type":"hello","protocol":1}'; read hello; read begin
        sleep 0.3; echo '{"type":"ack","seq":1}'; read more || echo over > "$0/over""#;
    let mut rig = rig(slow, "");
    rig.begin().unwrap();
    rig.pipe.close(closing()).unwrap();
    assert_eq!(
        rig.left("over").trim(),
        "over",
        "it saw the end of its input"
    );

    let mut stuck = rig_with(
        r#"echo '{"type":"hello","protocol":1}'; exec sleep 1000"#,
        "",
        &StopToken::never(),
    );
    stuck.begin().unwrap();
    let deadline = Instant::now() + at_most(Duration::from_millis(600));
    let closed = stuck.pipe.close(Closing { deadline });
    assert!(closed.unwrap_err().to_string().contains("left 1 lines"));
    assert!(Instant::now() < deadline);
}

#[test]
fn settings_are_checked_and_nothing_is_started() {
    for (toml, expected) in [
        ("", "command: must be set"),
        ("command = 'x'", "command: must be a list"),
        ("command = ['a']\nwindow = 0", "window: 0 is not between"),
        (
            "command = ['a']\nwindow = 10001",
            "window: 10001 is not between",
        ),
        ("command = ['a']\ntimeout = 0", "timeout: 0 is not between"),
        (
            "command = ['a']\nping_interval = 9999",
            "ping_interval: 9999 is not",
        ),
    ] {
        let fault = Pipe::new("p", &settings(toml), &StopToken::never()).err();
        let fault = fault.map_or_else(String::new, |fault| fault.to_string());
        assert!(fault.starts_with(expected), "{toml}: {fault}");
    }
    let rig = rig(r#"touch "$0/started""#, "");
    assert!(rig.pipe.running.is_none());
}
