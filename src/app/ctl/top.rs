//! `fanfare top`: the status again and again, with rates.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::{Target, Wanted, failed, put};
use super::screen::{Paint, Table, text};
use super::status::{list, render};
use crate::control::Request;

/// Moves to the corner and clears what is below: the terminal's own history stays.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Looks until `count` is reached, or until nobody reads.
pub fn run(target: &Target, interval: Duration, count: Option<u64>) -> ExitCode {
    let mut client = match target.connect(Wanted::Agent) {
        Ok(client) => client,
        Err(status) => return status,
    };
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let paint = Paint::of_stdout();
    let mut last: Option<(Value, Instant)> = None;
    let mut looks = 0;
    loop {
        let report = match client.ask(&Request::Status {}, |_| true) {
            Ok(report) => report,
            Err(error) => return failed(&error, Wanted::Agent),
        };
        let now = Instant::now();
        let mut screen = if terminal { CLEAR } else { "" }.to_owned();
        screen.push_str(&render(&report, paint));
        if let Some((last, at)) = &last {
            let rates = rates(last, &report, now - *at).render(paint);
            screen.push_str(&format!("\n{rates}"));
        }
        screen.push('\n');
        if !put(&screen) {
            return ExitCode::SUCCESS;
        }
        last = Some((report, now));
        looks += 1;
        if count.is_some_and(|count| looks >= count) {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(interval);
    }
}

/// Events a second between two reports.
fn rates(last: &Value, now: &Value, time: Duration) -> Table {
    let mut table = Table::new(&["PER SECOND", "EVENTS"]);
    let kinds = [
        ("publishers", "uri", "events_received_total"),
        ("handlers", "name", "events_applied_total"),
    ];
    for (kind, name, counter) in kinds {
        for part in list(&now[kind]) {
            let before = list(&last[kind]).iter().find(|old| old[name] == part[name]);
            let count = |part: &Value| part["counters"][counter].as_u64().unwrap_or(0);
            // A new one has counted since it is there; a restarted one begins anew.
            let more = count(part).saturating_sub(before.map_or(0, count));
            let rate = more as f64 / time.as_secs_f64().max(0.001);
            table.row(None, vec![text(&part[name]), format!("{rate:.1}")]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_are_differences_over_time() {
        let report = |events: u64| json!({"publishers": [{"uri": "a", "counters": {"events_received_total": events}}]});
        let table = rates(&report(10), &report(30), Duration::from_secs(4));
        let text = table.render(Paint(false));
        assert_eq!(text, "PER SECOND  EVENTS\na              5.0\n");
    }
}
