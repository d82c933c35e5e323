//! Journal and rows by themselves: events per second by the size of a group, the chores, replay,
//! opening and closing.

use std::time::{Duration, Instant};

use fanfare::event::Event;
use fanfare::publisher::history::{Durability, History, Moment, Options, Replay, Submission};

/// With each durability, so many groups of each size, and at most two million events.
pub fn run(groups: u64) {
    for durability in [Durability::Os, Durability::Sync] {
        for size in [1usize, 100, 1_000, 5_000] {
            measure(durability, size, 2_000_000.min(size as u64 * groups));
        }
    }
}

fn measure(durability: Durability, size: usize, total: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("publisher.redb"));
    options.durability = durability;
    let mut history = History::open(options.clone(), Moment::now()).unwrap();
    let value = "v".repeat(270);
    let keys: Vec<String> = (0..10_000).map(|key| format!("port-{key:08}")).collect();
    let topics: Vec<String> = (0..100).map(|topic| format!("tenant-{topic:04}")).collect();
    let (mut sent, mut chores, mut slowest, mut bytes) = (0, Duration::ZERO, Duration::ZERO, 0);
    let start = Instant::now();
    let (mut last, mut more) = (start, false);
    while sent < total {
        let group: Vec<_> = (sent..sent + size as u64)
            .map(|n| {
                let key = (n * 7919 % 10_000) as usize;
                let event = Event::set("lport", &keys[key], &value).on(&topics[key % 100]);
                Submission {
                    producer: Some(([(n % 4) as u8; 16], n + 1)),
                    ..Submission::of(event)
                }
            })
            .collect();
        let outcomes = history.commit(&group, Moment::now()).unwrap();
        assert_eq!(outcomes.len(), size);
        bytes = history.committed().bytes() / size;
        sent += size as u64;
        if more || last.elapsed() > Duration::from_millis(200) {
            let begin = Instant::now();
            more = history.maintain(Moment::now()).unwrap().more;
            slowest = slowest.max(begin.elapsed());
            chores += begin.elapsed();
            last = Instant::now();
        }
    }
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    println!(
        "journal, {durability:?}, groups of {size}: {rate:.0} events/s of {bytes} bytes; chores {chores:?}, longest {slowest:?}"
    );
    if size == 1_000 {
        let begin = Instant::now();
        let Replay::Events { records, .. } =
            history.replay(None, history.floor() - 1, 1 << 30).unwrap()
        else {
            unreachable!("nothing was trimmed that early");
        };
        println!(
            "journal,   replay of {} events: {:?}",
            records.len(),
            begin.elapsed()
        );
        let copy = folder.path().join("copy.redb");
        std::fs::copy(&options.path, &copy).unwrap();
        std::fs::copy(
            folder.path().join("publisher.redb.tail"),
            folder.path().join("copy.redb.tail"),
        )
        .unwrap();
        let length = std::fs::metadata(&copy).unwrap().len() >> 20;
        let begin = Instant::now();
        options.path = copy;
        options.notice_copies = false;
        let crashed = History::open(options.clone(), Moment::now()).unwrap();
        println!(
            "journal,   opening after a crash: {:?}, {length} MiB",
            begin.elapsed()
        );
        let begin = Instant::now();
        crashed.close().unwrap();
        println!("journal,   closing: {:?}", begin.elapsed());
        let begin = Instant::now();
        let _again = History::open(options, Moment::now()).unwrap();
        println!(
            "journal,   opening after a clean end: {:?}",
            begin.elapsed()
        );
    }
}
