use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::exporter::markdown;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn all() -> impl Iterator<Item = &'static Family> {
    AGENT.iter().chain(PUBLISHER).copied()
}

fn names() -> BTreeSet<String> {
    let name = |family: &'static Family| {
        let declared = family.declared.iter();
        declared.map(|metric| format!("{}{}", family.prefix, metric.name))
    };
    all().flat_map(name).collect()
}

/// `BLESS=1 cargo test --lib exporter` writes the file anew.
#[test]
fn the_document_is_as_generated() {
    let path = root().join("docs/metrics.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == markdown(),
        "docs/metrics.md is not what is declared; run: BLESS=1 cargo test --lib exporter"
    );
}

#[test]
fn names_are_unique_and_follow_the_conventions() {
    let count: usize = all().map(|family| family.declared.len()).sum();
    assert_eq!(names().len(), count, "a name stands twice");
    for family in all() {
        for metric in family.declared {
            let name = format!("{}{}", family.prefix, metric.name);
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Whoever declares a group must put it into a family.
#[test]
fn every_group_is_exported() {
    let exported: BTreeSet<(&str, &str)> = all()
        .flat_map(|family| family.declared)
        .map(|metric| (metric.name, metric.help))
        .collect();
    let mut groups = 0;
    // A handler module logs its own at its end: modules are not known here.
    let modules = root().join("src/handler");
    for path in sources(&root().join("src")) {
        if path.starts_with(&modules) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("\ncrate::metrics! {").skip(1) {
            groups += 1;
            let block = &block[..block.find("\n}").unwrap()];
            for line in block.lines().filter(|line| line.contains(" = \"")) {
                let (name, rest) = line.trim().split_once(": ").unwrap();
                let help = rest.split('"').nth(1).unwrap();
                assert!(
                    exported.contains(&(name, help)),
                    "{}: {name} is in no family of src/exporter/families.rs",
                    path.display()
                );
            }
        }
    }
    assert!(groups >= 10, "only {groups} groups were found");
}

/// Every `fanfare_…` in what operators install is a metric.
fn check(file: &str, least: usize) {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let names = names();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut used = BTreeSet::new();
    for (start, _) in text.match_indices("fanfare_") {
        let rest = &text[start..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        used.insert(&rest[..end]);
    }
    for name in &used {
        assert!(names.contains(*name), "{file}: {name} is no metric");
    }
    assert!(used.len() >= least, "{file} uses {} metrics", used.len());
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    check("packaging/prometheus/alerts.yml", 8);
    check("packaging/grafana/dashboard.json", 12);
    let dashboard = fs::read(root().join("packaging/grafana/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 8);
}
