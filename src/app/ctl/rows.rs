//! What comes row by row: `get`, `watch`, lists.

use std::process::ExitCode;

use serde_json::Value;

use super::ask::{Target, Wanted, failed, print, put};
use super::screen::{Paint, Table, number, text};
use super::status;
use crate::control::{Client, Request};
use crate::util::printable;

/// Asks for items and has each printed; `false` from `item` ends it.
fn each(target: &Target, request: &Request, item: impl FnMut(Value) -> bool) -> ExitCode {
    match target.connect(Wanted::Agent) {
        Ok(mut client) => ask(&mut client, request, item),
        Err(status) => status,
    }
}

fn ask(client: &mut Client, request: &Request, item: impl FnMut(Value) -> bool) -> ExitCode {
    match client.ask(request, item) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&error, Wanted::Agent),
    }
}

/// Asks for items and prints them as one table, or as JSON.
fn tabled(
    target: &Target,
    request: &Request,
    json: bool,
    table: impl FnOnce(&[Value]) -> Table,
) -> ExitCode {
    if json {
        return each(target, request, |item| put(&format!("{item}\n")));
    }
    let mut items = Vec::new();
    let status = each(target, request, |item| {
        items.push(item);
        true
    });
    match status == ExitCode::SUCCESS {
        true => print(&table(&items).render(Paint::of_stdout())),
        false => status,
    }
}

/// `fanfare get`.
pub fn get(target: &Target, table: String, key: Option<String>, json: bool) -> ExitCode {
    let one = key.is_some();
    let request = Request::Get { table, key };
    if one && !json {
        // As it is: it is what scripts want. On a terminal it must not do anything.
        let raw = !std::io::IsTerminal::is_terminal(&std::io::stdout());
        return each(target, &request, |row| {
            let value = row["value"].as_str().unwrap_or_default();
            match raw {
                true => put(&format!("{value}\n")),
                false => put(&format!("{}\n", printable::text(value, usize::MAX))),
            }
        });
    }
    tabled(target, &request, json, |rows| {
        let mut table = Table::new(&["KEY", "TOPIC", "VERSION", "VALUE"]);
        for row in rows {
            let value = row["value"].as_str().unwrap_or_default();
            table.row(
                None,
                vec![
                    text(&row["key"]),
                    text(&row["topic"]),
                    number(&row["version"]),
                    printable::text(value, 200).to_string(),
                ],
            );
        }
        table
    })
}

/// `fanfare topics list`.
pub fn topics(target: &Target, json: bool) -> ExitCode {
    tabled(target, &Request::TopicsList {}, json, status::topics)
}

/// `fanfare quarantine list`.
pub fn quarantine(target: &Target, handler: Option<String>, json: bool) -> ExitCode {
    let request = Request::QuarantineList { handler };
    tabled(target, &request, json, |rows| {
        let mut table = Table::new(&["HANDLER", "TABLE", "KEY", "REASON"]);
        for row in rows {
            let reason = row["reason"].as_str().unwrap_or_default();
            table.row(
                None,
                vec![
                    text(&row["handler"]),
                    text(&row["table"]),
                    text(&row["key"]),
                    printable::text(reason, 200).to_string(),
                ],
            );
        }
        table
    })
}

/// `fanfare watch`.
pub fn watch(target: &Target, tables: Vec<String>, topics: Vec<String>, json: bool) -> ExitCode {
    let mut client = match target.connect(Wanted::Agent) {
        Ok(client) => client,
        Err(status) => return status,
    };
    if let Err(error) = client.be_patient() {
        return failed(&error, Wanted::Agent);
    }
    ask(
        &mut client,
        &Request::Watch { tables, topics },
        |event| match json {
            true => put(&format!("{event}\n")),
            false => put(&format!("{}\n", line(&event))),
        },
    )
}

/// One event on one line.
fn line(event: &Value) -> String {
    if let Some(lost) = event["lost"].as_u64() {
        return format!("({lost} events were too fast for this watch and are left out)");
    }
    let mut line = format!(
        "{} table={} key={} topic={}",
        text(&event["action"]),
        text(&event["table"]),
        text(&event["key"]),
        text(&event["topic"]),
    );
    if !event["version"].is_null() {
        line.push_str(&format!(" version={}", number(&event["version"])));
    }
    if !event["value"].is_null() {
        let value = event["value"].to_string();
        line.push_str(&format!(" value={}", printable::text(&value, 1000)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "action": "set", "table": "t", "key": "a\nb", "topic": "D", "version": 7,
            "value": {"x": "\u{1b}"},
        });
        assert_eq!(
            line(&event),
            "set table=t key=\"a\\nb\" topic=D version=7 value={\"x\":\"\\\\u001b\"}"
        );
        assert!(line(&json!({"lost": 3})).starts_with("(3 events"));
    }
}
