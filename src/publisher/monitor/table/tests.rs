use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::store::driver::memory::MemoryStore;

fn map(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = rows.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    owned.collect()
}

fn look(rows: &[(&str, &str)]) -> Result<Rows, &'static StoreError> {
    Ok(Rows {
        rows: map(rows),
        unsure: BTreeSet::new(),
    })
}

#[test]
fn the_first_look_publishes_what_changed_meanwhile_and_no_more() {
    let mut monitor = TableMonitor::new(Some(map(&[("a", "1"), ("b", "1"), ("c", "1")])));
    let changes = monitor.observe(look(&[("a", "1"), ("b", "2"), ("d", "1"), ("", "x")]));
    let (key, value) = (String::from, String::from);
    let expected = [
        Change::Set {
            key: key("b"),
            value: value("2"),
        },
        Change::Create {
            key: key("d"),
            value: value("1"),
        },
        Change::Delete { key: key("c") },
    ];
    assert_eq!(changes, expected);
    assert_eq!(monitor.len(), 3);
    assert_eq!(changes[1].event("t").action, Action::Create);
    assert_eq!(changes[2].event("t"), Event::delete("t", "c"));
}

#[test]
fn where_nothing_was_known_the_first_look_is_silent() {
    let mut monitor = TableMonitor::new(None);
    let error = StoreError::Retry {
        what: String::new(),
        why: String::new(),
    };
    assert!(monitor.observe(Err(&error)).is_empty());
    assert!(monitor.observe(look(&[("a", "1")])).is_empty());
    assert!(monitor.observe(Err(&error)).is_empty());
    assert_eq!(monitor.observe(look(&[("a", "2")])).len(), 1);
}

/// As with the empty store of a new disk, beside a journal that was brought back.
#[test]
fn a_table_that_is_empty_from_the_start_ends_nothing() {
    let mut monitor = TableMonitor::new(Some(map(&[("a", "1"), ("b", "1")])));
    for _ in 0..2 {
        let empty = look(&[("", "x")]).unwrap();
        assert!(monitor.doubts(&empty));
        assert!(monitor.observe(Ok(empty)).is_empty());
        assert_eq!(monitor.len(), 2);
    }
    // What it says is believed from the first row on, also that there is none.
    let ended = |key: &str| Change::Delete { key: key.into() };
    assert_eq!(monitor.observe(look(&[("b", "1")])), [ended("a")]);
    assert_eq!(monitor.observe(look(&[])), [ended("b")]);
    // Where nothing is published there is nothing to lose.
    assert!(!TableMonitor::new(Some(map(&[]))).doubts(&Rows::default()));
}

#[test]
fn a_row_is_absent_only_if_a_second_look_agrees() {
    let store = MemoryStore::new();
    for key in ["blink", "stuck", "gone", "stays"] {
        store.set("t", key, "1").unwrap();
    }
    let mut monitor = TableMonitor::new(Rows::read(&store, "t").ok().map(|seen| seen.rows));
    store.hide("t", "blink", 1);
    store.hide("t", "stuck", 2);
    store.vanish_after_keys("t", "gone");
    let seen = Rows::read(&store, "t").unwrap();
    assert_eq!(seen.rows, map(&[("blink", "1"), ("stays", "1")]));
    assert!(seen.unsure.contains("stuck") && seen.unsure.len() == 1);
    let key = "gone".to_owned();
    assert_eq!(monitor.observe(Ok(seen)), [Change::Delete { key }]);
    assert_eq!(
        (store.happened().hidden, store.happened().vanished),
        (3, 1),
        "the faults happened"
    );
}

#[test]
fn a_part_of_a_table_is_an_error() {
    for fail_at in 0..3 {
        let store = MemoryStore::new();
        store.set("t", "a", "1").unwrap();
        store.set("t", "b", "1").unwrap();
        let failing = FailAt {
            store,
            left: std::sync::Mutex::new(fail_at),
        };
        assert!(Rows::read(&failing, "t").is_err(), "{fail_at}");
    }
}

/// Fails the n-th call.
struct FailAt {
    store: MemoryStore,
    left: std::sync::Mutex<usize>,
}

impl FailAt {
    fn step(&self) {
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            self.store.fail_next(1);
        }
        *left = left.wrapping_sub(1);
    }
}

impl NbStore for FailAt {
    fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.store.tables()
    }
    fn keys(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.step();
        self.store.keys(table)
    }
    fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.step();
        self.store.get(table, key)
    }
    fn set(&self, table: &str, key: &str, value: &str) -> Result<(), StoreError> {
        self.store.set(table, key, value)
    }
    fn delete(&self, table: &str, key: &str) -> Result<bool, StoreError> {
        self.store.delete(table, key)
    }
}

fn tables() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[a-e]", "[0-2]", 0..5)
}

/// A look: rows, keys it is unsure of, or a failure.
fn looks() -> impl Strategy<Value = Option<(BTreeMap<String, String>, BTreeSet<String>)>> {
    proptest::option::weighted(0.8, (tables(), btree_set("[a-e]", 0..2)))
}

proptest! {
    /// Whoever applies the changes has, after each look, what the look saw; where it was unsure,
    /// what was there before; and is told nothing that he knew.
    #[test]
    fn changes_lead_to_what_is_seen(start in tables(), looks in vec(looks(), 1..8)) {
        let error = StoreError::Retry { what: String::new(), why: String::new() };
        let mut monitor = TableMonitor::new(Some(start.clone()));
        let (mut published, mut believed) = (start, false);
        for look in looks {
            let before = published.clone();
            let (seen, unsure) = match &look {
                Some((rows, unsure)) => {
                    let unsure = unsure.iter().filter(|key| !rows.contains_key(*key));
                    (Some(rows.clone()), unsure.cloned().collect())
                }
                None => (None, BTreeSet::new()),
            };
            let given = match &seen {
                Some(rows) => Ok(Rows { rows: rows.clone(), unsure: unsure.clone() }),
                None => Err(&error),
            };
            for change in monitor.observe(given) {
                match change {
                    Change::Create { key, value } => {
                        prop_assert_eq!(published.insert(key, value), None);
                    }
                    Change::Set { key, value } => {
                        let old = published.insert(key, value.clone());
                        prop_assert!(old.is_some_and(|old| old != value));
                    }
                    Change::Delete { key } => {
                        prop_assert!(published.remove(&key).is_some());
                    }
                }
            }
            let nothing = seen.as_ref().is_some_and(|rows| rows.is_empty()) && unsure.is_empty();
            let doubted = nothing && !believed && !before.is_empty();
            believed |= seen.is_some() && !doubted;
            let seen = seen.filter(|_| !doubted);
            let mut expected = seen.unwrap_or_else(|| before.clone());
            for key in unsure {
                if let Some(value) = before.get(&key) {
                    expected.insert(key, value.clone());
                }
            }
            prop_assert_eq!(&published, &expected);
            prop_assert_eq!(monitor.len(), expected.len());
        }
    }
}
