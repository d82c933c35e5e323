//! What every driver must do; run on each by the registry's test.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::NbStore;

/// Checks an empty store.
pub fn check(store: Arc<dyn NbStore>) {
    rows(store.as_ref());
    names(store.as_ref());
    threads(&store);
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

fn rows(store: &dyn NbStore) {
    assert!(store.tables().unwrap().is_empty());
    assert!(store.keys("t").unwrap().is_empty());
    assert_eq!(store.get("t", "k").unwrap(), None);
    assert!(!store.delete("t", "k").unwrap());
    store.set("t", "k", "1").unwrap();
    store.set("t", "k", "2").unwrap();
    store.set("t", "l", "").unwrap();
    store.set("u", "k", "3").unwrap();
    assert_eq!(store.get("t", "k").unwrap().as_deref(), Some("2"));
    assert_eq!(store.get("t", "l").unwrap().as_deref(), Some(""));
    assert_eq!(sorted(store.keys("t").unwrap()), ["k", "l"]);
    assert_eq!(sorted(store.tables().unwrap()), ["t", "u"]);
    assert!(store.delete("t", "k").unwrap());
    assert!(!store.delete("t", "k").unwrap());
    assert_eq!(store.get("t", "k").unwrap(), None);
    assert_eq!(store.get("u", "k").unwrap().as_deref(), Some("3"));
    assert!(store.delete("t", "l").unwrap());
    assert_eq!(store.tables().unwrap(), ["u"]);
    assert!(store.delete("u", "k").unwrap());
}

/// Tables and keys that are prefixes of each other, or contain what a driver may use as a mark.
fn names(store: &dyn NbStore) {
    let names = ["a", "a\0", "a\0b", "a/b", "ab", "b", "", "ä", "\u{10ffff}"];
    for table in names {
        for key in names {
            store.set(table, key, &format!("{table}|{key}")).unwrap();
        }
    }
    let all: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let listed = |list: Vec<String>| {
        let set: BTreeSet<String> = list.iter().cloned().collect();
        assert_eq!(set.len(), list.len(), "each once");
        set
    };
    assert_eq!(listed(store.tables().unwrap()), all);
    for table in names {
        assert_eq!(listed(store.keys(table).unwrap()), all, "{table:?}");
        for key in names {
            let value = store.get(table, key).unwrap().unwrap();
            assert_eq!(value, format!("{table}|{key}"));
            assert!(store.delete(table, key).unwrap());
        }
        assert!(store.keys(table).unwrap().is_empty());
    }
    assert!(store.tables().unwrap().is_empty());
}

fn threads(store: &Arc<dyn NbStore>) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for key in 0..20 {
                    let key = format!("{thread}-{key}");
                    store.set("shared", &key, &key).unwrap();
                    assert_eq!(store.get("shared", &key).unwrap(), Some(key));
                }
            });
        }
    });
    assert_eq!(store.keys("shared").unwrap().len(), 80);
}
