//! Tables for people, in colour on a terminal only.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use serde_json::Value;

use crate::util::printable;

/// Longest cell, bytes.
const CELL: usize = 96;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Head,
    Good,
    Poor,
    Bad,
}

impl Paint {
    /// As standard output is; never where `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(io::stdout().is_terminal() && !unwanted)
    }

    /// `text` in the colour of `tone`.
    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Head => "1",
            Tone::Good => "32",
            Tone::Poor => "33",
            Tone::Bad => "31",
        };
        match self.0 && !code.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// The tone of a state as reports have it.
pub fn tone(state: &str) -> Tone {
    match state {
        "ok" | "self" => Tone::Good,
        "legacy" | "syncing" | "behind" | "late" | "new" => Tone::Poor,
        _ => Tone::Bad,
    }
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// An empty table.
    pub fn new(heads: &[&'static str]) -> Self {
        Table {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of plain cells, of which the cell number `.0` has a tone.
    pub fn row(&mut self, toned: Option<(usize, Tone)>, cells: Vec<String>) {
        let tone = |place| match toned {
            Some((toned, tone)) if toned == place => tone,
            _ => Tone::Plain,
        };
        let cells = cells.into_iter().enumerate();
        self.rows
            .push(cells.map(|(place, cell)| (tone(place), cell)).collect());
    }

    /// Puts it below what is there, after an empty line; nothing when it has no rows.
    pub fn put_below(&self, out: &mut String, paint: Paint) {
        let text = self.render(paint);
        if !text.is_empty() {
            out.push('\n');
            out.push_str(&text);
        }
    }

    /// As text; nothing when it has no rows. Numbers stand to the right.
    pub fn render(&self, paint: Paint) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let width = |place: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(place));
            let cells = cells.map(|(_, cell)| cell.chars().count());
            cells.max().unwrap_or(0).max(self.heads[place].len())
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let heads = self.heads.iter().map(|head| (Tone::Head, head.to_string()));
        let mut out = String::new();
        line(&mut out, &heads.collect::<Vec<_>>(), &widths, paint);
        for row in &self.rows {
            line(&mut out, row, &widths, paint);
        }
        out
    }
}

fn line(out: &mut String, cells: &[(Tone, String)], widths: &[usize], paint: Paint) {
    let last = cells.len().saturating_sub(1);
    for (place, ((tone, cell), width)) in cells.iter().zip(widths).enumerate() {
        let gap = width.saturating_sub(cell.chars().count());
        let text = paint.text(*tone, cell);
        // Writing to a String cannot fail.
        let _ = if is_number(cell) {
            write!(out, "{:gap$}{text}", "")
        } else if place == last {
            write!(out, "{text}")
        } else {
            write!(out, "{text}{:gap$}", "")
        };
        if place != last {
            out.push_str("  ");
        }
    }
    out.push('\n');
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains(':') && cell.len() < 24
}

/// A text of a report, as a cell.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable::name(text, CELL).to_string(),
        value => printable::text(&value.to_string(), CELL).to_string(),
    }
}

/// A number of a report; `-` where there is none.
pub fn number(value: &Value) -> String {
    match value.as_u64() {
        Some(number) => number.to_string(),
        None => "-".into(),
    }
}

/// Seconds as people say it.
pub fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_and_colours_do_not_shift_them() {
        let mut table = Table::new(&["NAME", "STATE", "ROWS"]);
        let row = |name: &str, state: &str, rows: u64| {
            vec![text(&json!(name)), state.to_owned(), number(&json!(rows))]
        };
        table.row(Some((1, Tone::Good)), row("ß-long-name", "ok", 7));
        table.row(Some((1, Tone::Bad)), row("a\u{1b}[2J", "down", 12345));
        let plain = table.render(Paint(false));
        assert_eq!(
            plain,
            "NAME           STATE  ROWS\n\
             \"ß-long-name\"  ok         7\n\
             \"a\\u{1b}[2J\"   down   12345\n"
        );
        let painted = table.render(Paint(true));
        assert!(painted.contains("\u{1b}[32mok\u{1b}[0m"));
        let bare = ["\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[0m"]
            .iter()
            .fold(painted, |text, code| text.replace(code, ""));
        assert_eq!(bare, plain);
    }

    #[test]
    fn times_are_short() {
        let times = [0, 119, 120, 7199, 7200, 172_800].map(time);
        assert_eq!(times, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
