//! What happened, by name.

use std::collections::BTreeMap;

/// How often what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

/// What must happen in a run of many seeds.
const WANTED: &[&str] = &[
    // Faults of the network.
    "fault: messages lost in a run",
    "fault: hello lost",
    "fault: subscription lost",
    "fault: subscription to hellos lost",
    "fault: heard after the end",
    "fault: connection lost",
    "fault: connection half open",
    "fault: partition",
    "fault: question lost",
    "fault: answer lost",
    "fault: answer late",
    "fault: answer twice",
    "fault: stray event",
    "fault: taken for legacy",
    // Faults of publishers.
    "fault: clean restart",
    "fault: restart without state",
    "fault: restart with a part of the rows",
    "fault: addresses exchanged",
    "fault: service stuck",
    "fault: old snapshot",
    "fault: old replay",
    "fault: snapshot lapsed",
    "fault: events trimmed",
    "fault: tombstones forgotten",
    "fault: recent overflows",
    "fault: impostor",
    "fault: chain broken",
    "fault: answer damaged",
    "fault: refused",
    "fault: no sync service",
    "fault: legacy publisher",
    "fault: hello not read",
    "fault: grant taken away",
    // What happens to agents.
    "fault: reader panicked",
    "fault: agent killed",
    "fault: agent killed without checkpoint",
    "fault: topic unwanted",
    "fault: topic wanted",
    // What the machine notes.
    "note: AskedToWait",
    "note: BadAnswer",
    "note: BadDigest",
    "note: BrokenChain",
    "note: CannotRepair",
    "note: Duplicate",
    "note: Gap",
    "note: Gone",
    "note: Loaded",
    "note: LowerIncarnation",
    "note: NewIncarnation",
    "note: NotHeld",
    "note: OtherPublisher",
    "note: Refused",
    "note: Replayed",
    "note: TopicNotFollowed",
    "note: Unanswered",
    // That the checks had something to check.
    "check: rows swept",
    "check: resumed from kept positions",
    "check: row that only a lost state knew",
    "check: held events handed on",
    "check: followed with a hole",
    "check: topics listed",
    "check: forbidden topic shown",
    "check: resync after a break",
];

impl Counts {
    /// One more.
    pub fn note(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// How often so far.
    pub fn of(&self, name: &'static str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Counts) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// Fails where something never happened, or happened and is not known here.
    pub fn check(&self) {
        let never: Vec<_> = WANTED.iter().filter(|name| self.of(name) == 0).collect();
        assert!(never.is_empty(), "these never happened: {never:?}");
        let known = |name: &&&'static str| !WANTED.contains(name);
        let unknown: Vec<_> = self.0.keys().filter(known).collect();
        assert!(unknown.is_empty(), "these are not asked for: {unknown:?}");
    }
}
