//! What the programs say at their end that they counted: a line for each group, `name=value` each, what
//! is 0 left out. So a name that no metric has would be 0 for ever: it is refused.

use fanfare::agent::follower::RecoveryMetrics;
use fanfare::dispatch::LaneMetrics;
use fanfare::dispatch::hub::HubMetrics;
use fanfare::exporter::PUBLISHER;
use fanfare::metrics::Declared;
use fanfare::pubsub::api::LinkMetrics;

/// How the lines of an agent begin, and what stands in them.
const GROUPS: [(&str, &[Declared]); 4] = [
    ("publisher ", LinkMetrics::DECLARED),
    ("recovery ", RecoveryMetrics::DECLARED),
    ("replica:", HubMetrics::DECLARED),
    ("handler ", LaneMetrics::DECLARED),
];

/// Fails unless one of the metrics has this name.
#[track_caller]
pub fn is_declared(declared: &[Declared], name: &str) {
    let has = declared.iter().any(|metric| metric.name == name);
    assert!(has, "there is no metric {name} here");
}

/// The values of the line of an agent's summary about `what`; nothing where it is another line.
fn values<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    let (_, line) = line.split_at(line.find(what)?);
    let values = match line.strip_suffix(':') {
        Some(_) => "",
        None => line.split_once(": ")?.1,
    };
    let mut words = values.split_whitespace();
    words.all(|word| word.contains('=')).then_some(values)
}

fn value(values: &str, name: &str) -> Option<u64> {
    let mut values = values.split_whitespace();
    let value = values.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.parse().unwrap())
}

/// The sum of `name` over all lines of an agent's summary about `what`, such as ` publisher tcp`.
#[track_caller]
pub fn of_agent(lines: &[String], what: &str, name: &str) -> u64 {
    let group = GROUPS
        .iter()
        .find(|(begin, _)| what.trim_start().starts_with(begin));
    let (_, declared) = group.unwrap_or_else(|| panic!("no agent counts {what}"));
    is_declared(declared, name);
    let lines = lines.iter().filter_map(|line| values(line, what));
    let each: Vec<u64> = lines.map(|line| value(line, name).unwrap_or(0)).collect();
    assert!(!each.is_empty(), "the agent gave no summary of {what}");
    each.iter().sum()
}

/// The value of `name` in what a publisher service said until its end.
#[track_caller]
pub fn of_publisher(said: &str, name: &str) -> u64 {
    let declared = PUBLISHER.iter().flat_map(|family| family.declared);
    is_declared(&declared.copied().collect::<Vec<_>>(), name);
    let has_ended = said.lines().any(|line| line.ends_with("stopped"));
    assert!(has_ended, "it has not ended: {said}");
    said.lines().find_map(|line| value(line, name)).unwrap_or(0)
}

/// What a service said.
pub struct Said(pub String);

impl Said {
    /// What it counted of `name`.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        of_publisher(&self.0, name)
    }
}

#[test]
#[should_panic(expected = "there is no metric gate_cut_total here")]
fn a_name_that_no_metric_has_is_refused() {
    of_publisher("INFO stopped", "gate_cut_total");
}

#[test]
#[should_panic(expected = "there is no metric gaps_total here")]
fn a_name_of_another_group_is_refused() {
    of_agent(
        &["INFO publisher tcp://a:1:".into()],
        " publisher tcp",
        "gaps_total",
    );
}

#[test]
fn what_is_left_out_is_0() {
    let lines = [
        "INFO x: publisher tcp://a:1: connected, was=1 before".to_owned(),
        "INFO x: publisher tcp://a:1: connects_total=2 live=1".to_owned(),
        "INFO x: publisher tcp://b:1:".to_owned(),
        "INFO x: publisher tcp://c:1: connects_total=3".to_owned(),
    ];
    assert_eq!(of_agent(&lines, " publisher tcp", "connects_total"), 5);
    assert_eq!(of_agent(&lines, " publisher tcp", "refusals_total"), 0);
    assert_eq!(of_agent(&lines, "publisher tcp://b:1:", "live"), 0);
}
