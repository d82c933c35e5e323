//! `fanfare status`: the agent's report for people.

use std::process::ExitCode;

use serde_json::Value;

use super::ask::{NOT_READY, Target, Wanted, failed, put};
use super::screen::{Paint, Table, Tone, number, text, time, tone};
use crate::control::Request;
use crate::util::printable;

/// Asks and prints. Exit status 4 when the agent is not in step.
pub fn run(target: &Target, json: bool) -> ExitCode {
    let mut client = match target.connect(Wanted::Agent) {
        Ok(client) => client,
        Err(status) => return status,
    };
    match client.ask(&Request::Status {}, |_| true) {
        Ok(report) if json => finish(&format!("{report:#}\n"), &report),
        Ok(report) => finish(&render(&report, Paint::of_stdout()), &report),
        Err(error) => failed(&error, Wanted::Agent),
    }
}

/// Prints; the exit status says whether the daemon is ready.
pub fn finish(text: &str, report: &Value) -> ExitCode {
    match (put(text), report["ready"].as_bool()) {
        (false, _) => ExitCode::FAILURE,
        (true, Some(true)) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(NOT_READY),
    }
}

/// The first lines of any daemon's report.
pub fn head(name: &str, good: &str, report: &Value, paint: Paint) -> String {
    let up = time(report["uptime_seconds"].as_u64().unwrap_or(0));
    let mut out = format!(
        "{name} {}, process {}, up for {up}, log level {}\n",
        text(&report["version"]),
        number(&report["pid"]),
        text(&report["log_level"]),
    );
    match report["ready"].as_bool() {
        Some(true) => out.push_str(&paint.text(Tone::Good, good)),
        _ => out.push_str(&paint.text(Tone::Bad, &format!("not {good}"))),
    }
    out.push('\n');
    for reason in list(&report["reasons"]) {
        let reason = reason.as_str().unwrap_or_default();
        out.push_str(&format!("  {}\n", printable::text(reason, 400)));
    }
    for notice in list(&report["notices"]) {
        let notice = notice.as_str().unwrap_or_default();
        let notice = printable::text(notice, 400).to_string();
        out.push_str(&format!("{}\n", paint.text(Tone::Bad, &notice)));
    }
    out
}

/// The whole for people.
pub fn render(report: &Value, paint: Paint) -> String {
    let mut out = head("fanfare-agent", "in step", report, paint);
    let followed = list(&report["publishers"]);
    for table in [
        publishers(followed),
        forbidden(followed),
        handlers(list(&report["handlers"])),
        topics(list(&report["topics"])),
    ] {
        table.put_below(&mut out, paint);
    }
    out
}

/// The publishers that are followed.
fn publishers(publishers: &[Value]) -> Table {
    let mut table = Table::new(&[
        "PUBLISHER",
        "STATE",
        "SINCE",
        "INCARNATION",
        "SEQ",
        "BEHIND",
        "HEARD",
        "PROVED",
        "EVENTS",
        "GAPS",
        "REPLAYS",
        "SNAPSHOTS",
        "CONNECTS",
    ]);
    for publisher in publishers {
        let (counters, recovery) = (&publisher["counters"], &publisher["recovery"]);
        let state = text(&publisher["state"]);
        table.row(
            Some((1, tone(&state))),
            vec![
                text(&publisher["uri"]),
                state,
                since(publisher),
                number(&publisher["incarnation"]),
                number(&publisher["seq"]),
                number(&publisher["topics_behind"]),
                age(&publisher["heard_seconds"]),
                age(&publisher["proved_seconds"]),
                number(&counters["events_received_total"]),
                number(&recovery["gaps_total"]),
                number(&recovery["replays_total"]),
                number(&recovery["snapshots_total"]),
                number(&counters["connects_total"]),
            ],
        );
    }
    table
}

/// What publishers do not let this node have.
fn forbidden(publishers: &[Value]) -> Table {
    let mut table = Table::new(&["NOT GRANTED", "TOPIC"]);
    for publisher in publishers {
        for topic in list(&publisher["topics_forbidden"]) {
            table.row(
                Some((0, Tone::Bad)),
                vec![text(&publisher["uri"]), text(topic)],
            );
        }
    }
    table
}

fn handlers(handlers: &[Value]) -> Table {
    let mut table = Table::new(&[
        "HANDLER",
        "STATE",
        "SINCE",
        "QUEUE",
        "APPLIED",
        "FAILED",
        "RETRIES",
        "QUARANTINE",
        "RESYNCS",
        "LAST ERROR",
    ]);
    for handler in handlers {
        let counters = &handler["counters"];
        let state = text(&handler["state"]);
        table.row(
            Some((1, tone(&state))),
            vec![
                text(&handler["name"]),
                state,
                since(handler),
                number(&handler["queued"]),
                number(&counters["events_applied_total"]),
                number(&counters["events_failed_total"]),
                number(&counters["retries_waiting"]),
                number(&counters["quarantined"]),
                number(&counters["resyncs_total"]),
                error(handler),
            ],
        );
    }
    table
}

/// Topics as a table.
pub fn topics(topics: &[Value]) -> Table {
    let mut table = Table::new(&["TOPIC", "ROWS", "WANTED BY"]);
    for topic in topics {
        let users: Vec<String> = list(&topic["wanted_by"]).iter().map(text).collect();
        let (toned, users) = match users.is_empty() {
            true => (Some((2, Tone::Poor)), "nobody".to_owned()),
            false => (None, users.join(", ")),
        };
        table.row(
            toned,
            vec![text(&topic["topic"]), number(&topic["rows"]), users],
        );
    }
    table
}

fn since(part: &Value) -> String {
    age(&part["since_seconds"])
}

/// The last error and how old it is.
fn error(handler: &Value) -> String {
    let Some(error) = handler["last_error"].as_str() else {
        return "-".into();
    };
    let age = age(&handler["last_error_seconds"]);
    format!("{} ({age} ago)", printable::text(error, 120))
}

/// A number of seconds for people.
pub fn age(seconds: &Value) -> String {
    seconds.as_u64().map_or("-".into(), time)
}

/// The members of a list; none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_that_is_not_in_step_says_why() {
        let report = json!({
            "version": "1.2.3", "pid": 7, "uptime_seconds": 300, "log_level": "info",
            "ready": false, "reasons": ["publisher tcp://a:1 is not connected, for 3 s\n"],
            "notices": ["the new configuration is refused"],
            "publishers": [{
                "uri": "tcp://a:1", "state": "down", "since_seconds": 3, "seq": 40,
                "counters": {"events_received_total": 12, "connects_total": 2},
                "recovery": {"gaps_total": 1}, "proved_seconds": 5,
            }],
            "handlers": [],
            "topics": [{"topic": "D", "rows": 1, "wanted_by": ["a", "b"]}],
        });
        assert_eq!(
            render(&report, Paint(false)),
            "fanfare-agent 1.2.3, process 7, up for 5 min, log level info\n\
             not in step\n  publisher tcp://a:1 is not connected, for 3 s\\n\n\
             the new configuration is refused\n\
             \n\
             PUBLISHER  STATE  SINCE  INCARNATION  SEQ  BEHIND  HEARD  PROVED  EVENTS  GAPS  REPLAYS  SNAPSHOTS  CONNECTS\n\
             tcp://a:1  down     3 s  -             40  -       -         5 s      12     1  -        -                 2\n\
             \n\
             TOPIC  ROWS  WANTED BY\n\
             D         1  a, b\n"
        );
        // What is no report is shown as well as it goes.
        assert!(render(&json!(null), Paint(true)).contains("not in step"));
    }
}
