//! Prometheus' text form, and the same metrics as a document.

use std::fmt::Write as _;

use super::families::{AGENT, Family, Group, PUBLISHER};

/// What Prometheus is told the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All groups as text: metric by metric, each with its help and type before its values.
pub fn render(groups: &[Group]) -> String {
    let mut out = String::with_capacity(16 << 10);
    let mut done: Vec<&Family> = Vec::new();
    for group in groups {
        let family = group.family;
        if done.iter().any(|done| std::ptr::eq(*done, family)) {
            continue;
        }
        done.push(family);
        let of = groups.iter().filter(|g| std::ptr::eq(g.family, family));
        let of: Vec<&Group> = of.filter(|group| !group.values.is_empty()).collect();
        if of.is_empty() {
            continue;
        }
        for (place, metric) in family.declared.iter().enumerate() {
            let name = format!("{}{}", family.prefix, metric.name);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}", help(metric.help));
            let _ = writeln!(out, "# TYPE {name} {}", metric.kind.as_str());
            for group in &of {
                if let Some(value) = group.values.get(place) {
                    let labels = labels(family.labels, &group.labels);
                    let _ = writeln!(out, "{name}{labels} {value}");
                }
            }
        }
    }
    out
}

fn labels(names: &[&str], values: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let pairs = names.iter().zip(values);
    let pairs = pairs.map(|(name, value)| format!("{name}=\"{}\"", label(value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn label(value: &str) -> String {
    let value = value.replace('\\', "\\\\");
    value.replace('"', "\\\"").replace('\n', "\\n")
}

fn help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// docs/metrics.md.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         What `/metrics` shows, for Prometheus. The agent listens on `metrics_address`\n\
         (127.0.0.1:9866), the publisher service on its own (127.0.0.1:9867). Counters only rise, and\n\
         start at 0 with the process. `fanfare status --json` shows the same figures.\n\n\
         Ready-made: [alerts](../packaging/prometheus/alerts.yml) and a\n\
         [dashboard](../packaging/grafana/dashboard.json).\n\n\
         Generated from the sources by `BLESS=1 cargo test --lib exporter`; to change a text, change it\n\
         there.\n",
    );
    for (program, families) in [("fanfare-agent", AGENT), ("fanfare-publisher", PUBLISHER)] {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## {program}\n");
        let mut heading = "";
        for family in families {
            if heading != family.about {
                heading = family.about;
                let _ = write!(
                    out,
                    "\n### {heading}\n\n| metric | kind | labels | meaning |\n"
                );
                out.push_str("|---|---|---|---|\n");
            }
            let labels = family.labels.join(", ");
            for metric in family.declared {
                let (kind, name, help) = (metric.kind.as_str(), metric.name, metric.help);
                let prefix = family.prefix;
                let _ = writeln!(out, "| `{prefix}{name}` | {kind} | {labels} | {help} |");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Declared, Kind};

    static FAMILY: Family = Family {
        about: "x",
        prefix: "p_",
        labels: &["a", "b"],
        declared: &[
            Declared {
                name: "x_total",
                kind: Kind::Counter,
                help: "Back\\slash.",
            },
            Declared {
                name: "y",
                kind: Kind::Gauge,
                help: "Why.",
            },
        ],
    };

    #[test]
    fn the_text_form() {
        let group = |label: &str, values: [u64; 2]| Group {
            family: &FAMILY,
            labels: vec![label.into(), "z".into()],
            values: values.to_vec(),
        };
        let text = render(&[group("a\"b\\c\nd", [1, 2]), group("e", [3, 4])]);
        assert_eq!(
            text,
            "# HELP p_x_total Back\\\\slash.\n# TYPE p_x_total counter\n\
             p_x_total{a=\"a\\\"b\\\\c\\nd\",b=\"z\"} 1\np_x_total{a=\"e\",b=\"z\"} 3\n\
             # HELP p_y Why.\n# TYPE p_y gauge\n\
             p_y{a=\"a\\\"b\\\\c\\nd\",b=\"z\"} 2\np_y{a=\"e\",b=\"z\"} 4\n"
        );
    }
}
