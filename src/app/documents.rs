//! The documents, against the command lines and the files they speak of. `make test-packages` runs their
//! commands too; this needs nothing and takes no time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory};

use super::{agent, ctl, publisher};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "docs/architecture.md",
    "docs/bounds.md",
    "docs/handlers.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/protocol.md",
    "docs/security.md",
];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn program(name: &str) -> Option<Command> {
    match name {
        "fanfare" => Some(ctl::Args::command()),
        "fanfare-agent" => Some(agent::Args::command()),
        "fanfare-publisher" => Some(publisher::Args::command()),
        _ => None,
    }
}

/// The words of the first command of a line, as a shell takes it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '&' | ';' | '>' | '<') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether the program takes this command. In a text, what a command needs may be left out.
fn check(place: &str, line: &str, in_text: bool) -> bool {
    let words = words(line);
    let Some(command) = words.first().and_then(|name| program(name)) else {
        return false;
    };
    if in_text && words.len() == 1 {
        return false;
    }
    if let Err(error) = command.try_get_matches_from(&words) {
        let told = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        let short = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        assert!(told || (in_text && short), "{place}: {line}\n{error}");
    }
    true
}

#[test]
fn every_command_of_the_documents_is_one() {
    let (mut commands, mut mentioned) = (0, 0);
    for file in DOCUMENTS.iter().chain(&[
        "packaging/prometheus/alerts.yml",
        "packaging/doc/handlers.conf",
    ]) {
        let document = read(file).replace("\\\n", " ");
        let mut language = None;
        for line in document.lines() {
            match (line.strip_prefix("```"), language) {
                (Some(name), None) => language = Some(name),
                (Some(_), Some(_)) => language = None,
                (None, Some("sh")) => commands += usize::from(check(file, line, false)),
                (None, Some(_)) => {}
                (None, None) => {
                    let spans = line.split('`').skip(1).step_by(2);
                    mentioned += spans.filter(|span| check(file, span, true)).count();
                }
            }
        }
    }
    assert!(commands >= 40 && mentioned >= 15, "{commands}, {mentioned}");
}

#[test]
#[should_panic(expected = "unexpected argument '--colour'")]
fn a_command_that_is_none_is_found() {
    check(
        "here",
        "fanfare status --colour 'x y' # no such thing",
        false,
    );
}

/// Each alarm has its paragraph, and nothing else has one.
#[test]
fn every_alarm_is_explained() {
    let (rules, document) = (
        read("packaging/prometheus/alerts.yml"),
        read("docs/operations.md"),
    );
    let alerts: BTreeSet<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let explained: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("### Fanfare"))
        .collect();
    let explained: BTreeSet<_> = explained
        .iter()
        .map(|name| format!("Fanfare{name}"))
        .collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    assert!(
        explained
            .iter()
            .map(String::as_str)
            .eq(alerts.iter().copied()),
        "{alerts:#?}\n{explained:#?}"
    );
}

/// What a link is called by: letters, digits, - and _ of the heading, in small letters.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut links = 0;
    for file in DOCUMENTS {
        let document = read(file);
        for link in document.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (path, name) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => (*file).to_owned(),
                path => {
                    let folder = Path::new(file).parent().unwrap();
                    folder.join(path).to_str().unwrap().to_owned()
                }
            };
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(there.exists(), "{file}: {link}");
            if !name.is_empty() {
                let text = read(&target);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found =
                    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == name);
                assert!(found, "{file}: {link}");
            }
        }
    }
    assert!(links >= 20, "{links}");
}
