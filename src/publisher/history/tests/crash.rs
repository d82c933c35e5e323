//! Crashes, power cuts, foreign files and failing disks.

use std::os::unix::fs::MetadataExt;

use super::super::store;
use super::*;

fn filled(options: &Options, start: Instant) -> History {
    let mut history = History::open(options.clone(), at(start, 0)).unwrap();
    for n in 0..20 {
        let value = n.to_string();
        let group = [set("a", &value, "x"), set(&value, "v", "y")];
        history.commit(&group, at(start, n)).unwrap();
        if n == 10 {
            maintain(&mut history, at(start, 40));
        }
    }
    history
}

/// The file as it is while the history lives: what kill -9 leaves.
fn killed(options: &Options) -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let mut copy = options.clone();
    copy.path = folder.path().join("publisher.redb");
    copy_files(&options.path, &copy.path);
    (folder, copy)
}

#[test]
fn a_kill_loses_nothing() {
    for durability in [Durability::Sync, Durability::Os] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.durability = durability;
        let history = filled(&options, start);
        let (_copy, copied) = killed(&options);
        let crashed = History::open(copied, at(start, 50)).unwrap();
        assert_eq!(picture(&crashed), picture(&history));
    }
}

#[test]
fn a_power_cut_raises_the_incarnation_unless_synced() {
    for durability in [Durability::Sync, Durability::Os] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.durability = durability;
        let history = filled(&options, start);
        let (_copy, mut copied) = killed(&options);
        copied.boot = Some([2; 16]);
        let mut crashed = History::open(copied.clone(), at(start, 50)).unwrap();
        let (old, new) = (picture(&history), picture(&crashed));
        assert_eq!((&old.4, &old.5), (&new.4, &new.5), "rows and topics stay");
        if durability == Durability::Sync {
            assert_eq!(old, new);
            continue;
        }
        assert!(crashed.incarnation() > history.incarnation());
        assert!(crashed.head() > history.head() && crashed.floor() == crashed.head() + 1);
        assert_eq!(replayed(&crashed, Some("x"), 3), None);
        assert_eq!(replayed(&crashed, Some("x"), old.1), Some(vec![]));
        let outcome = crashed
            .commit(&[set("a", "z", "x")], at(start, 51))
            .unwrap();
        let next = stamp(&outcome[0]);
        assert_eq!((next.seq, next.prev), (new.1 + 1, history.topic_head("x")));
        assert_eq!(replayed(&crashed, Some("x"), next.prev), Some(vec![next]));
        let after = picture(&crashed);
        drop(crashed);
        let crashed = History::open(copied, at(start, 52)).unwrap();
        assert_eq!(picture(&crashed), after);
    }
}

#[test]
fn a_clean_end_holds_over_a_reboot() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    let history = filled(&options, start);
    let before = picture(&history);
    history.close().unwrap();
    options.boot = Some([2; 16]);
    let history = History::open(options.clone(), at(start, 50)).unwrap();
    assert_eq!(picture(&history), before);
    // And is used up: the next end is not clean.
    let (_copy, mut copied) = killed(&options);
    copied.boot = Some([3; 16]);
    let crashed = History::open(copied, at(start, 50)).unwrap();
    assert!(crashed.incarnation() > before.0);
}

#[test]
fn the_second_process_is_refused() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let _first = filled(&options(folder.path()), start);
    let second = History::open(options(folder.path()), at(start, 1)).unwrap_err();
    assert!(matches!(second, HistoryError::InUse { .. }), "{second}");
    // The database and its tail.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_path_that_cannot_be_is_to_be_fixed() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let error = History::open(options(&folder.path().join("no")), at(start, 0)).unwrap_err();
    assert!(matches!(error, HistoryError::Fix { .. }), "{error}");
}

#[test]
fn foreign_and_damaged_files_are_moved_aside() {
    for damage in ["foreign", "short", "holes"] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let old = filled(&options, start).incarnation();
        let mut bytes = std::fs::read(&options.path).unwrap();
        match damage {
            "foreign" => bytes = b"something else\n".repeat(2000),
            "short" => bytes.truncate(bytes.len() / 2),
            _ => bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x55),
        }
        std::fs::write(&options.path, bytes).unwrap();
        let mut history = History::open(options.clone(), at(start, 60)).unwrap();
        assert!(history.incarnation() > old && history.was_begun_anew());
        assert_eq!((history.head(), history.rows().len()), (0, 0), "{damage}");
        let aside = folder.path().join("publisher.redb.corrupt-1700000060");
        assert!(aside.exists(), "{damage}");
        history
            .commit(&[set("a", "1", "x")], at(start, 61))
            .unwrap();
    }
}

/// Else all rows that were published before would be dropped on every node.
#[test]
fn what_was_begun_anew_vouches_for_nothing_before_until_the_operator_knows() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.authoritative = true;
    let history = filled(&options, start);
    assert_eq!(
        (history.was_begun_anew(), history.complete_since()),
        (false, 0)
    );
    drop(history);
    std::fs::write(&options.path, b"something else\n".repeat(2000)).unwrap();
    // It is as long as the file is there, which restarts do not change.
    for seconds in [60, 61, 62] {
        let history = History::open(options.clone(), at(start, seconds)).unwrap();
        assert!(history.was_begun_anew());
        let (since, incarnation) = (history.complete_since(), history.incarnation());
        assert_eq!(since, incarnation, "{seconds}");
        history.close().unwrap();
    }
    let at_hand = |name: &str| folder.path().join(name);
    let aside = at_hand("publisher.redb.corrupt-1700000060");
    std::fs::remove_file(&aside).unwrap();
    // The tail alone is as good; another's, or a file of the operator's, is not.
    std::fs::write(at_hand("publisher.redb.other-1700000060"), "x").unwrap();
    std::fs::write(at_hand("saved.publisher.redb.corrupt-1"), "x").unwrap();
    let tail = at_hand("publisher.redb.corrupt-1700000060.tail");
    std::fs::write(&tail, "x").unwrap();
    let history = History::open(options.clone(), at(start, 63)).unwrap();
    assert!(history.was_begun_anew() && history.complete_since() > 0);
    drop(history);
    std::fs::remove_file(&tail).unwrap();
    let history = History::open(options.clone(), at(start, 64)).unwrap();
    assert_eq!(
        (history.was_begun_anew(), history.complete_since()),
        (false, 0)
    );
}

#[test]
fn another_id_begins_another_history() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    filled(&options, start).close().unwrap();
    options.id = None;
    let history = History::open(options.clone(), at(start, 60)).unwrap();
    assert_eq!((history.id(), history.head()), ([7; 16], 40));
    drop(history);
    options.id = Some([8; 16]);
    let history = History::open(options, at(start, 60)).unwrap();
    assert_eq!((history.id(), history.head()), ([8; 16], 0));
}

#[test]
fn a_full_disk_takes_nothing_and_recovers() {
    // Wherever in a commit the disk is full.
    for left in (0..60_000).step_by(2_500) {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let options = options(folder.path());
        let mut history = filled(&options, start);
        let before = picture(&history);
        let faults = &options.faults;
        faults.full_after(left);
        let big = "v".repeat(700);
        let group: Vec<_> = (0..100).map(|_| set("big", &big, "x")).collect();
        let mut taken = false;
        while history.broken().is_none() {
            let size = picture(&history);
            match history.commit(&group, at(start, 50)) {
                Ok(_) => taken = true,
                Err(error) => {
                    assert!(matches!(error, HistoryError::Retry { .. }), "{error}");
                    assert!(history.committed().is_empty());
                    assert_eq!(picture(&history), size, "nothing of the group is visible");
                }
            }
        }
        assert!(faults.hits() > 0);
        let good = picture(&history);
        assert!(taken || good == before);
        let stuck = history.commit(&group, at(start, 51)).unwrap_err();
        assert!(stuck.to_string().contains("reopened"), "{stuck}");
        assert!(history.maintain(at(start, 51)).is_err());
        faults.full_after(0);
        let still = history.reopen(at(start, 52)).unwrap_err();
        assert!(matches!(still, HistoryError::Retry { .. }), "{still}");
        assert_eq!(picture(&history), good, "rows can be read all the time");
        faults.heal();
        history.reopen(at(start, 53)).unwrap();
        assert_eq!(picture(&history), good);
        history.commit(&group, at(start, 54)).unwrap();
        assert_eq!(history.head(), good.1 + 100);
        let after = picture(&history);
        drop(history);
        let history = History::open(options.clone(), at(start, 55)).unwrap();
        assert_eq!(picture(&history), after);
    }
}

#[test]
fn a_failing_sync_acknowledges_nothing() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.durability = Durability::Sync;
    let mut history = filled(&options, start);
    let before = picture(&history);
    options.faults.fail_sync();
    let submission = Submission {
        producer: Some(([1; 16], 1)),
        ..set("a", "new", "x")
    };
    let error = history.commit(&[submission], at(start, 50)).unwrap_err();
    assert!(matches!(error, HistoryError::Retry { .. }), "{error}");
    assert!(options.faults.hits() > 0);
    assert_eq!(picture(&history), before);
    options.faults.heal();
    let found = history.reopen(at(start, 51)).unwrap();
    assert_eq!(history.incarnation(), before.0);
    // The group is there as a whole or not at all, and sent again it is there once.
    let there = history.head() > before.1;
    assert_eq!(found, history.head() - before.1);
    let outcome = history.commit(&[submission], at(start, 52)).unwrap()[0];
    assert_eq!(outcome == Outcome::AlreadyDone, there);
    assert_eq!(history.head(), before.1 + 1);
}

#[test]
fn failing_chores_lose_nothing() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.max_events = 5;
    let mut history = filled(&options, start);
    let before = picture(&history);
    options.faults.full_after(0);
    history.maintain(at(start, 90)).unwrap_err();
    assert_eq!(picture(&history), before);
    options.faults.heal();
    history.reopen(at(start, 91)).unwrap();
    assert_eq!(picture(&history), before);
    assert!(maintain(&mut history, at(start, 92)) > 0);
    assert_eq!(picture(&history).5, before.5);
}

#[test]
fn since_when_it_is_complete_is_kept() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    let mut history = History::open(options.clone(), at(start, 0)).unwrap();
    let first = history.incarnation();
    assert_eq!(history.complete_since(), first);
    history.commit(&[set("k", "v", "x")], at(start, 1)).unwrap();
    // A kill, then a clean end.
    drop(history);
    let history = History::open(options.clone(), at(start, 2)).unwrap();
    assert_eq!(history.complete_since(), first);
    history.close().unwrap();
    options.authoritative = true;
    let history = History::open(options.clone(), at(start, 3)).unwrap();
    assert_eq!(history.complete_since(), 0);
    drop(history);
    // A power cut: what was sent last may not be known.
    options.authoritative = false;
    options.durability = Durability::Os;
    drop(History::open(options.clone(), at(start, 4)).unwrap());
    options.boot = Some([2; 16]);
    let history = History::open(options.clone(), at(start, 5)).unwrap();
    let second = history.incarnation();
    assert!(second > first);
    assert_eq!(history.complete_since(), second);
    drop(history);
    std::fs::remove_file(&options.path).unwrap();
    let history = History::open(options, at(start, 6)).unwrap();
    assert!(history.complete_since() > second);
    assert_eq!(history.complete_since(), history.incarnation());
}

#[test]
fn a_copy_does_not_go_on_as_the_original() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.notice_copies = true;
    options.durability = Durability::Sync;
    let history = filled(&options, start);
    let before = picture(&history);
    history.close().unwrap();
    let (_copy, copied) = killed(&options);
    let copy = History::open(copied.clone(), at(start, 50)).unwrap();
    assert!(copy.was_copied() && copy.incarnation() > before.0);
    assert_eq!(copy.id(), [7; 16]);
    assert_eq!(picture(&copy).5, before.5, "rows stay");
    // No number of the original's is given a second time.
    assert!(copy.head() > before.1 + 1_000_000);
    let incarnation = copy.incarnation();
    drop(copy);
    // From now on it is at home.
    let copy = History::open(copied, at(start, 51)).unwrap();
    assert!(!copy.was_copied());
    assert_eq!(copy.incarnation(), incarnation);
    let original = History::open(options, at(start, 52)).unwrap();
    assert!(!original.was_copied());
    assert_eq!(picture(&original), before);
}

/// Brings the files of a backup back: what is there is removed first, as by `rm` and `cp`, or by `tar`.
/// Gives whether the database has the number of the file that was removed for it.
fn restore(backup: &Path, database: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let was = inode(database);
    std::fs::remove_file(database).unwrap();
    let tail = super::super::tail::path(database);
    if tail.exists() {
        std::fs::remove_file(tail).unwrap();
    }
    copy_files(backup, database);
    inode(database) == was
}

#[test]
fn a_backup_that_is_brought_back_to_its_place_does_not_go_on() {
    for (killed, durability) in [
        (false, Durability::Os),
        (false, Durability::Sync),
        (true, Durability::Os),
        (true, Durability::Sync),
    ] {
        let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut options = options(folder.path());
        options.notice_copies = true;
        options.durability = durability;
        let backup = folder.path().join("backup.redb");
        let mut history = filled(&options, start);
        if killed {
            copy_files(&options.path, &backup);
        } else {
            history.close().unwrap();
            copy_files(&options.path, &backup);
            history = History::open(options.clone(), at(start, 50)).unwrap();
            assert!(!history.was_copied());
        }
        // Sent, and not in the backup.
        history
            .commit(&[set("later", "v", "x")], at(start, 51))
            .unwrap();
        let sent = picture(&history);
        match killed {
            true => drop(history),
            false => history.close().unwrap(),
        }
        // The number of the file may be taken by others in between; some file systems never give one
        // a second time.
        let again = (0..200).any(|_| restore(&backup, &options.path));
        if !again {
            eprintln!("no file got the number of the one before it: this shows less than it could");
        }
        let restored = History::open(options.clone(), at(start, 52)).unwrap();
        assert!(restored.was_copied(), "{killed} {durability:?} {again}");
        assert!(restored.incarnation() > sent.0);
        assert!(restored.head() > sent.1 + 1_000_000);
        let incarnation = restored.incarnation();
        drop(restored);
        let restored = History::open(options, at(start, 53)).unwrap();
        assert!(!restored.was_copied());
        assert_eq!(restored.incarnation(), incarnation);
    }
}

#[test]
fn a_place_without_a_birth_time_is_as_good_as_it_was() {
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut options = options(folder.path());
    options.notice_copies = true;
    let history = filled(&options, start);
    let before = picture(&history);
    history.close().unwrap();
    let note = |change: fn(&mut Vec<u8>)| {
        let database = redb::Database::open(&options.path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut place = store::read_place(&transaction).unwrap().unwrap();
        change(&mut place);
        store::write_place(&transaction, &place).unwrap();
        transaction.commit().unwrap();
    };
    // As the first versions noted it.
    note(|place| place.truncate(16));
    let history = History::open(options.clone(), at(start, 50)).unwrap();
    assert!(!history.was_copied());
    assert_eq!(picture(&history), before);
    history.close().unwrap();
    note(|place| place[15] ^= 1);
    let history = History::open(options.clone(), at(start, 51)).unwrap();
    assert!(history.was_copied() && history.incarnation() > before.0);
}

#[test]
fn every_state_has_an_id_of_its_own_and_keeps_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = Instant::now();
    let open = |folder: &tempfile::TempDir, second| {
        let mut options = options(folder.path());
        options.id = None;
        History::open(options, at(start, second)).unwrap()
    };
    let (first, other) = (open(&one, 0), open(&two, 0));
    let (id, incarnation) = (first.id(), first.incarnation());
    assert_ne!(id, other.id());
    drop(first);
    assert_eq!(open(&one, 1).id(), id);
    // Also when the database is lost, where the incarnation rises.
    std::fs::write(one.path().join("publisher.redb"), b"nonsense".repeat(999)).unwrap();
    let again = open(&one, 2);
    assert_eq!(again.id(), id);
    assert!(again.incarnation() > incarnation);
}
