//! What the parts count, as lines for an operator.

use std::fmt::Write as _;
use std::sync::Arc;

use super::publisher::Part;
use crate::agent::follower::Followed;
use crate::dispatch::{Hub, LaneMetrics};
use crate::event::codec::Malformed;
use crate::metrics::Sample;
use crate::pubsub::Source;

/// One line for each publisher and its recovery, the replica and each handler; what is zero is left
/// out.
pub fn summary(
    sources: &[Arc<Source>],
    followed: &[(String, Arc<Followed>)],
    hub: &Hub,
    lanes: &[(String, Arc<LaneMetrics>)],
) -> Vec<String> {
    let mut lines: Vec<String> = sources.iter().map(|source| publisher(source)).collect();
    lines.extend(
        followed
            .iter()
            .map(|(uri, each)| line(&format!("recovery {uri}"), &each.metrics.each())),
    );
    lines.push(line("replica", &hub.metrics.each()));
    lines.extend(
        lanes
            .iter()
            .map(|(name, m)| line(&format!("handler {name}"), &m.each())),
    );
    lines
}

/// One line for the workers' side and one for each part of the publisher service that counted
/// anything.
pub fn publisher_summary(sources: &[Arc<Source>], parts: &[(Part, Vec<Sample>)]) -> Vec<String> {
    let mut lines: Vec<String> = sources.iter().map(|source| publisher(source)).collect();
    let counted = |samples: &[Sample]| samples.iter().any(|sample| sample.value > 0);
    let parts = parts.iter().filter(|(_, samples)| counted(samples));
    lines.extend(parts.map(|(part, samples)| line(part.as_str(), samples)));
    lines
}

fn publisher(source: &Source) -> String {
    let mut text = line(&format!("publisher {}", source.uri), &source.metrics.each());
    for (reason, count) in Malformed::REASONS.iter().zip(&source.malformed) {
        if count.get() > 0 {
            put(&mut text, &format!("malformed_{reason}"), count.get());
        }
    }
    text
}

fn line(what: &str, samples: &[Sample]) -> String {
    let mut text = format!("{what}:");
    for sample in samples.iter().filter(|sample| sample.value > 0) {
        put(&mut text, sample.name, sample.value);
    }
    text
}

fn put(text: &mut String, name: &str, value: u64) {
    // Writing to memory cannot fail.
    let _ = write!(text, " {name}={value}");
}
