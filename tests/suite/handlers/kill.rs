//! A child that is killed again and again under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Stage, file, lane};
use crate::rig::config::Folder;
use crate::rig::tape::Tape;
use crate::rig::{at_most, until, wait_for, within};

const KILLS: u64 = 50;
const KEYS: u64 = 300;
/// A life so many times as long as the wait before it ends the lane's series of waits.
const WORTH_ITS_WAIT: u32 = 4;

#[test]
fn fifty_deaths_of_a_child_lose_nothing_and_disturb_nobody() {
    let folder = Folder::new();
    let rows = folder.path("rows.json");
    let pid = folder.path("pid");
    let script = file("examples/pipe/handler.py");
    let command = format!(
        "command = ['/bin/sh', '-c', 'echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec \"$@\"', {pid:?}, \
         '/usr/bin/python3', {script:?}, {rows:?}]"
    );
    let tape = Tape::default();
    let mut stage = Stage::new(vec![lane("pipe", &command), tape.handler()]);
    let metrics = Arc::clone(&stage.agent.lanes()[0].metrics);
    let other = Arc::clone(&stage.agent.lanes()[1].metrics);
    let child = || {
        std::fs::read_to_string(&pid)
            .ok()?
            .trim()
            .parse::<i32>()
            .ok()
    };

    // Load for as long as there is something to kill: the kills are by time, the load in between.
    let (mut sent, mut killed, mut last) = (0u64, 0, 0);
    let (mut seen, mut down, mut born) = (0, Duration::ZERO, Instant::now());
    let start = Instant::now();
    while killed < KILLS {
        let (key, gone) = (format!("k{}", sent % KEYS), sent % 7 == 3);
        match gone {
            true => stage.delete("t", &key),
            false => stage.set("t", &key, &sent.to_string()),
        }
        sent += 1;
        if sent.is_multiple_of(16) {
            // More than a thousand events a second, and no more than a debug build follows.
            std::thread::sleep(Duration::from_millis(10));
        }
        let alive = metrics.running.get() == 1 && metrics.losses_total.get() == killed;
        let Some(pid) = child().filter(|pid| alive && *pid != last) else {
            assert!(
                start.elapsed() < at_most(Duration::from_secs(240)),
                "{killed} kills, {metrics:?}"
            );
            continue;
        };
        if pid != seen {
            (seen, down, born) = (pid, born.elapsed(), Instant::now());
        }
        // Some as soon as they are there, before or in the resync; the others when they have lived
        // for long enough that the lane does not wait longer for the next.
        let is_early = killed % 10 == 9;
        if is_early || born.elapsed() >= down * WORTH_ITS_WAIT {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            (killed, last, born) = (killed + 1, pid, Instant::now());
        }
    }
    stage.set("t", "last", "1");

    tape.has("last");
    within(
        Duration::from_secs(60),
        "the child has the last row",
        || {
            let rows: Value = serde_json::from_slice(&std::fs::read(&rows).ok()?).ok()?;
            (rows["t"]["last"] == 1).then_some(())
        },
    );
    let expected = tape.state();
    until("its rows are those of the other handler", || {
        let rows: Value = serde_json::from_slice(&std::fs::read(&rows).ok()?).ok()?;
        let rows = rows["t"].as_object()?;
        let same = expected
            .iter()
            .all(|((_, key), value)| rows.get(key).map(Value::to_string).as_ref() == Some(value));
        (same && rows.len() == expected.len()).then_some(())
    });
    wait_for("every death is counted", || {
        metrics.losses_total.get() == KILLS
    });
    assert_eq!(
        metrics.panics_total.get() + metrics.starts_failed_total.get(),
        0
    );
    assert!(
        metrics.resyncs_total.get() > KILLS,
        "each new child starts over"
    );
    // The other handler was given everything once, in order, and never had to wait.
    let duplicates = stage.agent.hub().metrics.events_duplicate_total.get();
    assert_eq!(tape.count() as u64 + duplicates, sent + 1);
    assert_eq!(tape.begins().len(), 1);
    assert_eq!(
        other.overflows_total.get() + other.events_failed_total.get(),
        0
    );
    assert!(sent > 10 * KILLS, "there was no load");
    assert_eq!(stage.agent.stop(), 0);
}
