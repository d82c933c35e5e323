//! `fanfare publisher status`.

use std::process::ExitCode;

use serde_json::Value;

use super::ask::{Target, Wanted, failed};
use super::screen::{Paint, Table, Tone, number, text, time, tone};
use super::status::{age, finish, head, list};
use crate::control::Request;

/// Topics that are shown.
const TOPICS: usize = 20;

/// Refusals that are shown.
const REFUSALS: usize = 20;

/// Asks and prints. Exit status 4 when the service does not take or send events.
pub fn run(target: &Target, json: bool) -> ExitCode {
    let mut client = match target.connect(Wanted::Publisher) {
        Ok(client) => client,
        Err(status) => return status,
    };
    match client.ask(&Request::Status {}, |_| true) {
        Ok(report) if json => finish(&format!("{report:#}\n"), &report),
        Ok(report) => finish(&render(&report, Paint::of_stdout()), &report),
        Err(error) => failed(&error, Wanted::Publisher),
    }
}

fn render(report: &Value, paint: Paint) -> String {
    let mut out = head("fanfare-publisher", "publishing", report, paint);
    out.push_str(&format!(
        "publisher {}, incarnation {}, {}\n",
        text(&report["publisher_id"]),
        number(&report["incarnation"]),
        text(&report["uri"]),
    ));
    let listed = list(&report["subscribers"]);
    let more = listed.len().saturating_sub(TOPICS) as u64
        + report["topics_not_listed"].as_u64().unwrap_or(0);
    figures(&report["parts"]).put_below(&mut out, paint);
    peers(list(&report["peers"])).put_below(&mut out, paint);
    topics(listed).put_below(&mut out, paint);
    if more > 0 {
        out.push_str(&format!("and {more} topics more; see --json\n"));
    }
    refused(list(&report["refused"])).put_below(&mut out, paint);
    out
}

/// What the parts count: name, part and counter.
const FIGURES: &[(&str, &str, &str)] = &[
    ("last event", "service", "head_seq"),
    ("rows", "service", "rows"),
    ("events published", "service", "events_published_total"),
    ("journal failures", "service", "commits_failed_total"),
    ("subscriptions", "service", "subscriptions"),
    ("connections", "service", "connections"),
    ("nodes authorised", "gate", "gate_nodes"),
    ("keys not authorised", "gate", "gate_pending"),
    ("key files refused", "gate", "gate_bad_files"),
    ("key files unreadable now", "gate", "gate_unsure_files"),
    ("grants", "grants", "grants"),
    (
        "subscriptions refused",
        "grants",
        "grants_refused_subscriptions_total",
    ),
    (
        "requests refused",
        "grants",
        "grants_refused_requests_total",
    ),
    ("client requests", "requests", "requests_total"),
    ("workers connected, ever", "workers", "connects_total"),
    (
        "events pushed by workers",
        "workers",
        "events_received_total",
    ),
    ("replays for agents", "sync", "sync_replays_total"),
    ("snapshots for agents", "sync", "sync_snapshots_total"),
    ("agents beyond the last event", "sync", "sync_beyond_total"),
    ("lease renewals", "monitors", "lease_renewals_total"),
    ("lease failures", "monitors", "lease_failures_total"),
];

fn figures(parts: &Value) -> Table {
    let mut table = Table::new(&["JOURNAL AND SENDING", ""]);
    for (what, part, name) in FIGURES {
        table.row(None, vec![(*what).into(), number(&parts[part][name])]);
    }
    table
}

/// The publishers that are followed.
fn peers(peers: &[Value]) -> Table {
    let mut table = Table::new(&[
        "PEER",
        "STATE",
        "INCARNATION",
        "SEQ",
        "BEHIND",
        "HEARD",
        "PROVED",
        "GAPS",
        "REPLAYS",
        "SNAPSHOTS",
    ]);
    for peer in peers {
        let (state, recovery) = (text(&peer["state"]), &peer["recovery"]);
        table.row(
            Some((1, tone(&state))),
            vec![
                text(&peer["uri"]),
                state,
                number(&peer["incarnation"]),
                number(&peer["seq"]),
                number(&peer["topics_behind"]),
                age(&peer["heard_seconds"]),
                age(&peer["proved_seconds"]),
                number(&recovery["gaps_total"]),
                number(&recovery["replays_total"]),
                number(&recovery["snapshots_total"]),
            ],
        );
    }
    table
}

/// How many follow each topic; the largest numbers only.
fn topics(subscribers: &[Value]) -> Table {
    let mut table = Table::new(&["TOPIC", "SUBSCRIBERS"]);
    for entry in subscribers.iter().take(TOPICS) {
        table.row(None, vec![text(&entry[0]), number(&entry[1])]);
    }
    table
}

/// What nodes asked for and may not have.
fn refused(refused: &[Value]) -> Table {
    let mut table = Table::new(&[
        "NO GRANT FOR NODE",
        "TOPIC",
        "SUBSCRIPTIONS",
        "REQUESTS",
        "LAST",
    ]);
    for entry in refused.iter().take(REFUSALS) {
        let last = entry["last_seconds"].as_u64().unwrap_or(0);
        table.row(
            Some((0, Tone::Bad)),
            vec![
                text(&entry["node"]),
                text(&entry["topic"]),
                number(&entry["subscriptions"]),
                number(&entry["requests"]),
                time(last),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_shows_its_figures_then_what_there_is_of_the_rest() {
        let gate = json!({
            "gate_nodes": 4, "gate_pending": 5, "gate_bad_files": 6, "gate_unsure_files": 7,
        });
        let mut report = json!({
            "version": "1.2.3", "pid": 7, "uptime_seconds": 300, "log_level": "info",
            "ready": true, "reasons": [], "publisher_id": "ab", "incarnation": 9, "uri": "tcp://a:1",
            "parts": {"service": {"head_seq": 40, "rows": 3}, "gate": gate, "monitors": {"lease_renewals_total": 2}},
            "peers": [{"uri": "tcp://b:1", "state": "ok", "incarnation": 4, "recovery": {"gaps_total": 1}}],
            "subscribers": [["D", 2]], "topics_not_listed": 5,
            "refused": [{"node": "n", "topic": "t", "subscriptions": 1, "requests": 0, "last_seconds": 3}],
        });
        let head = "fanfare-publisher 1.2.3, process 7, up for 5 min, log level info\npublishing\n\
                    publisher ab, incarnation 9, tcp://a:1\n\n\
                    JOURNAL AND SENDING           \nlast event                    40\n\
                    rows                           3\n";
        let shown = render(&report, Paint(false));
        assert!(shown.starts_with(head), "{shown}");
        let gate = "nodes authorised               4\nkeys not authorised            5\n\
                    key files refused              6\nkey files unreadable now       7\n";
        assert!(shown.contains(gate), "{shown}");
        let rest = "lease failures                -\n\n\
             PEER       STATE  INCARNATION  SEQ  BEHIND  HEARD  PROVED  GAPS  REPLAYS  SNAPSHOTS\n\
             tcp://b:1  ok               4  -    -       -      -          1  -        -\n\n\
             TOPIC  SUBSCRIBERS\nD                2\nand 5 topics more; see --json\n\n\
             NO GRANT FOR NODE  TOPIC  SUBSCRIPTIONS  REQUESTS  LAST\n\
             n                  t                  1         0   3 s\n";
        assert!(shown.ends_with(rest), "{shown}");
        for part in ["peers", "subscribers", "topics_not_listed", "refused"] {
            report[part] = json!(null);
        }
        let shown = render(&report, Paint(false));
        assert!(
            shown.ends_with("lease failures                -\n"),
            "{shown}"
        );
    }
}
