//! The tail of the journal: what is in it counts, whatever happens between it and the database.

use super::super::disk::Disk;
use super::super::{store, tail};
use super::*;

const HEAD: usize = 4096;

fn open(options: &Options, start: Instant, second: u64) -> History {
    History::open(options.clone(), at(start, second)).unwrap()
}

/// A history whose first events are in the database and whose last ten are in the tail.
fn filled(options: &Options, start: Instant) -> History {
    let mut history = open(options, start, 0);
    for n in 0..20 {
        let (value, producer) = (n.to_string(), Some(([4; 16], n + 1)));
        let one = Submission {
            producer,
            ..set(&value, "v", "x")
        };
        history.commit(&[one], at(start, n + 1)).unwrap();
        if n == 9 {
            maintain(&mut history, at(start, 10));
        }
    }
    history
}

fn disk(history: &History) -> &Disk {
    history.disk.as_ref().unwrap()
}

fn tail_of(options: &Options) -> Vec<u8> {
    std::fs::read(tail::path(&options.path)).unwrap()
}

/// The incarnation rose, rows of the database stayed, and no number is given a second time.
fn assert_broken_off(history: &History, before: &(u64, u64, u64, u64, Vec<(String, u64)>, Rows)) {
    assert!(history.incarnation() > before.0);
    assert_eq!(history.complete_since(), history.incarnation());
    assert!(history.head() > before.1 + 1_000_000);
    assert!(history.rows().len() >= 10);
}

#[test]
fn small_groups_do_not_touch_the_database() {
    for durability in [Durability::Sync, Durability::Os] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.durability = durability;
        let mut history = filled(&options, start);
        assert_eq!(disk(&history).tail.blobs().first(), 11);
        let before = std::fs::read(&options.path).unwrap();
        history
            .commit(&[set("new", "v", "x")], at(start, 30))
            .unwrap();
        assert_eq!(std::fs::read(&options.path).unwrap(), before);
        // All of it is asked for as if it were in one place.
        assert_eq!(replayed(&history, None, 0).unwrap().len(), 21);
        assert_eq!(replayed(&history, Some("x"), 9).unwrap().len(), 12);
        assert_eq!(replayed(&history, Some("x"), 15).unwrap().len(), 6);
    }
}

#[test]
fn a_full_tail_is_moved_with_the_group_that_found_it_full() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.tail_bytes = 20_000;
    let mut history = open(&options, start, 0);
    let value = "v".repeat(500);
    let (mut moves, mut first) = (0, u64::MAX);
    for n in 0..200 {
        let key = n.to_string();
        history
            .commit(&[set(&key, &value, "x")], at(start, n))
            .unwrap();
        let now = disk(&history).tail.blobs().first();
        moves += usize::from(now != first);
        first = now;
        assert!(tail_of(&options).len() <= 20_000);
    }
    assert!(moves > 6, "{moves}");
    // Larger than the tail is.
    let value = "w".repeat(30_000);
    history
        .commit(&[set("large", &value, "y")], at(start, 300))
        .unwrap();
    assert_eq!(disk(&history).tail.blobs().first(), u64::MAX);
    // As large as a blob, and with it what was in the tail.
    history.options.tail_bytes = 4 << 20;
    history.reopen(at(start, 300)).unwrap();
    let last = [set("small", "v", "x")];
    history.commit(&last, at(start, 301)).unwrap();
    assert_ne!(disk(&history).tail.blobs().first(), u64::MAX);
    let value = "w".repeat(300_000);
    history
        .commit(&[set("larger", &value, "y")], at(start, 302))
        .unwrap();
    assert_eq!(disk(&history).tail.blobs().first(), u64::MAX);
    let before = picture(&history);
    assert_eq!(replayed(&history, None, 0).unwrap().len(), 203);
    drop(history);
    assert_eq!(picture(&open(&options, start, 303)), before);
}

#[test]
fn wherever_a_move_ends_nothing_is_lost_or_there_twice() {
    let mut refused = 0;
    for left in (0..200_000).step_by(8_000) {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let mut history = filled(&options, start);
        let before = picture(&history);
        options.faults.full_after(left);
        let moved = history.maintain(at(start, 60));
        refused += usize::from(moved.is_err());
        options.faults.heal();
        // Killed there.
        drop(history);
        let mut history = open(&options, start, 61);
        assert_eq!(picture(&history), before);
        assert_eq!(replayed(&history, None, 0).unwrap().len(), 20);
        assert_eq!(history.last_number(&[4; 16]), Some(20));
        // The file is written from its beginning again.
        history
            .commit(&[set("new", "v", "x")], at(start, 62))
            .unwrap();
        let after = picture(&history);
        drop(history);
        assert_eq!(picture(&open(&options, start, 63)), after);
    }
    assert!(refused > 2, "{refused}");
}

#[test]
fn a_torn_entry_was_promised_to_nobody() {
    for durability in [Durability::Sync, Durability::Os] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.durability = durability;
        let mut history = filled(&options, start);
        let before = picture(&history);
        history
            .commit(&[set("torn", "v", "x")], at(start, 30))
            .unwrap();
        drop(history);
        let whole = tail_of(&options);
        std::fs::write(tail::path(&options.path), &whole[..whole.len() - 9]).unwrap();
        let history = open(&options, start, 31);
        assert_eq!(picture(&history), before);
    }
}

#[test]
fn damage_before_what_was_promised_breaks_off() {
    for damage in ["bit", "missing", "empty", "foreign"] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let history = filled(&options, start);
        let before = picture(&history);
        drop(history);
        let (file, mut bytes) = (tail::path(&options.path), tail_of(&options));
        match damage {
            "bit" => bytes[HEAD + 40] ^= 1,
            "empty" => bytes.clear(),
            "foreign" => bytes = b"something else\n".repeat(2000),
            _ => {}
        }
        std::fs::write(&file, bytes).unwrap();
        if damage == "missing" {
            std::fs::remove_file(&file).unwrap();
        }
        let mut history = open(&options, start, 40);
        assert_broken_off(&history, &before);
        // Once, and it works on.
        let incarnation = history.incarnation();
        history
            .commit(&[set("new", "v", "x")], at(start, 41))
            .unwrap();
        let after = picture(&history);
        drop(history);
        let history = open(&options, start, 42);
        assert_eq!(history.incarnation(), incarnation, "{damage}");
        assert_eq!(picture(&history), after);
    }
}

#[test]
fn a_database_that_is_older_than_its_tail_breaks_off() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let options = options(folder.path());
    let mut history = filled(&options, start);
    let old = std::fs::read(&options.path).unwrap();
    maintain(&mut history, at(start, 60));
    history
        .commit(&[set("new", "v", "x")], at(start, 61))
        .unwrap();
    let before = picture(&history);
    drop(history);
    // Restored in place, so that it is no copy.
    std::fs::write(&options.path, old).unwrap();
    let history = open(&options, start, 62);
    assert_broken_off(&history, &before);
    let incarnation = history.incarnation();
    drop(history);
    assert_eq!(open(&options, start, 63).incarnation(), incarnation);
}

#[test]
fn a_tail_that_another_database_has_begun_breaks_off() {
    for other in ["new", "older"] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let mut history = filled(&options, start);
        let old = std::fs::read(&options.path).unwrap();
        maintain(&mut history, at(start, 60));
        history
            .commit(&[set("last", "v", "x")], at(start, 61))
            .unwrap();
        let before = picture(&history);
        drop(history);
        let aside = folder.path().join("aside");
        std::fs::rename(&options.path, &aside).unwrap();
        if other == "older" {
            std::fs::write(&options.path, old).unwrap();
        }
        let mut between = open(&options, start, 62);
        between
            .commit(&[set("between", "v", "x")], at(start, 63))
            .unwrap();
        drop(between);
        std::fs::rename(&aside, &options.path).unwrap();
        // Nothing in the tail is of this one any more.
        let history = open(&options, start, 64);
        assert_broken_off(&history, &before);
        let incarnation = history.incarnation();
        drop(history);
        assert_eq!(open(&options, start, 65).incarnation(), incarnation);
    }
}

#[test]
fn a_tail_without_a_mark_is_read_as_before() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let options = options(folder.path());
    let history = filled(&options, start);
    let before = picture(&history);
    drop(history);
    // As they were made before there were marks.
    let database = redb::Database::open(&options.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut table = transaction.open_table(store::META).unwrap();
    assert!(table.remove(store::MARK_KEY).unwrap().is_some());
    drop(table);
    transaction.commit().unwrap();
    drop(database);
    let mut bytes = tail_of(&options);
    bytes[..32].copy_from_slice(b"fanfare tail \0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    std::fs::write(tail::path(&options.path), bytes).unwrap();
    let mut history = open(&options, start, 30);
    assert_eq!(picture(&history), before);
    history
        .commit(&[set("new", "v", "x")], at(start, 31))
        .unwrap();
    let before = picture(&history);
    drop(history);
    let history = open(&options, start, 32);
    assert_eq!(picture(&history), before);
    // The next one is begun, and has a mark.
    history.close().unwrap();
    drop(open(&options, start, 33));
    assert_eq!(&tail_of(&options)[..16], b"fanfare tail \0\0\x02");
    assert_eq!(picture(&open(&options, start, 34)), before);
}

#[test]
fn after_a_clean_end_there_is_no_tail() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let options = options(folder.path());
    let history = filled(&options, start);
    let before = picture(&history);
    history.close().unwrap();
    assert!(!tail::path(&options.path).exists());
    // One that lies about does not count.
    std::fs::write(tail::path(&options.path), b"fanfare tail \0\0\x01").unwrap();
    assert_eq!(picture(&open(&options, start, 30)), before);
}

#[test]
fn a_tail_goes_aside_with_its_database() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    drop(filled(&options, start));
    options.id = Some([8; 16]);
    let history = open(&options, start, 60);
    assert_eq!((history.id(), history.head()), ([8; 16], 0));
    let aside = folder.path().join("publisher.redb.other-1700000060.tail");
    assert!(aside.exists());
}

#[test]
fn what_an_opening_that_failed_saw_the_next_one_sees() {
    let mut failed = 0;
    for left in (0..24_000).step_by(2_000) {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let history = filled(&options, start);
        let before = picture(&history);
        drop(history);
        std::fs::remove_file(tail::path(&options.path)).unwrap();
        options.faults.full_after(left);
        // As after a restart each time: nothing is known but what is on the disk.
        failed += usize::from(History::open(options.clone(), at(start, 40)).is_err());
        options.faults.heal();
        assert_broken_off(&open(&options, start, 41), &before);
    }
    assert!(failed > 2, "{failed}");
}

#[test]
fn a_copy_from_before_a_clean_end_breaks_off_too() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let options = options(folder.path());
    let history = filled(&options, start);
    let old = std::fs::read(&options.path).unwrap();
    history.close().unwrap();
    let mut history = open(&options, start, 60);
    history
        .commit(&[set("new", "v", "x")], at(start, 61))
        .unwrap();
    let before = picture(&history);
    drop(history);
    std::fs::write(&options.path, old).unwrap();
    assert_broken_off(&open(&options, start, 62), &before);
}

#[test]
fn a_full_journal_is_not_trimmed_for_every_group() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.max_events = 1000;
    // As many blobs as events.
    options.tail_bytes = 0;
    let mut history = open(&options, start, 0);
    for n in 0..1000 {
        let key = n.to_string();
        history
            .commit(&[set(&key, "v", "x")], at(start, 1))
            .unwrap();
    }
    maintain(&mut history, at(start, 2));
    assert_eq!(history.floor(), 1);
    history.close().unwrap();
    options.tail_bytes = tail::BYTES;
    let mut history = open(&options, start, 3);
    let (mut moves, mut first) = (0, u64::MAX);
    for n in 0..1000 {
        let key = n.to_string();
        history
            .commit(&[set(&key, "w", "x")], at(start, 4))
            .unwrap();
        maintain(&mut history, at(start, 4));
        let now = disk(&history).tail.blobs().first();
        moves += usize::from(now != first);
        first = now;
        assert!(history.head() + 1 - history.floor() <= 1063);
    }
    assert!(history.floor() > 900 && moves < 60, "{moves}");
}

#[test]
fn a_position_far_into_the_tail_is_answered() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut history = open(&options(folder.path()), start, 0);
    let value = "v".repeat(200_000);
    for n in 0..15 {
        let key = n.to_string();
        history
            .commit(&[set(&key, &value, "x")], at(start, n))
            .unwrap();
    }
    assert_eq!(disk(&history).tail.blobs().first(), 1);
    for topic in [None, Some("x")] {
        assert_eq!(replayed(&history, topic, 14).unwrap().len(), 1);
        assert_eq!(replayed(&history, topic, 0).unwrap().len(), 15);
    }
    // One that is larger than what is looked through for one answer.
    let value = "w".repeat(3 << 20);
    history
        .commit(&[set("large", &value, "x")], at(start, 20))
        .unwrap();
    history
        .commit(&[set("last", "v", "x")], at(start, 21))
        .unwrap();
    for topic in [None, Some("x")] {
        assert_eq!(replayed(&history, topic, 16).unwrap().len(), 1);
    }
}
