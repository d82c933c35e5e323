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
        "publisher {}, incarnation {}, {}\n\n",
        text(&report["publisher_id"]),
        number(&report["incarnation"]),
        text(&report["uri"]),
    ));
    let parts = &report["parts"];
    let mut figures = Table::new(&["JOURNAL AND SENDING", ""]);
    for (what, part, name) in [
        ("last event", "service", "head_seq"),
        ("rows", "service", "rows"),
        ("events published", "service", "events_published_total"),
        ("journal failures", "service", "commits_failed_total"),
        ("subscriptions", "service", "subscriptions"),
        ("connections", "service", "connections"),
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
    ] {
        figures.row(None, vec![what.into(), number(&parts[part][name])]);
    }
    out.push_str(&figures.render(paint));
    let peers = peers(list(&report["peers"])).render(paint);
    if !peers.is_empty() {
        out.push('\n');
        out.push_str(&peers);
    }
    let mut topics = Table::new(&["TOPIC", "SUBSCRIBERS"]);
    let listed = list(&report["subscribers"]);
    for entry in listed.iter().take(TOPICS) {
        topics.row(None, vec![text(&entry[0]), number(&entry[1])]);
    }
    let table = topics.render(paint);
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&table);
    }
    let more = listed.len().saturating_sub(TOPICS) as u64
        + report["topics_not_listed"].as_u64().unwrap_or(0);
    if more > 0 {
        out.push_str(&format!("and {more} topics more; see --json\n"));
    }
    let mut refused = Table::new(&[
        "NO GRANT FOR NODE",
        "TOPIC",
        "SUBSCRIPTIONS",
        "REQUESTS",
        "LAST",
    ]);
    for entry in list(&report["refused"]).iter().take(REFUSALS) {
        let last = entry["last_seconds"].as_u64().unwrap_or(0);
        refused.row(
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
    let table = refused.render(paint);
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&table);
    }
    out
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
