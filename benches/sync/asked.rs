//! How long an event takes to be acknowledged while replays and snapshots are asked for, beside the same
//! while nobody asks. What agents ask is answered by the thread that publishes, between events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanfare::event::Event;
use fanfare::publisher::client::PublisherClient;
use fanfare::sync::{Answer, Request, answer, request};

use super::rig::{PATIENCE, Publisher, TABLE, TOPIC, counted, key, value};

/// The time between two events.
const PACE: Duration = Duration::from_millis(2);

/// As much as they like may be asked.
const OPEN: &str = "sync_request_rate = 1000000\nsync_snapshot_rate = 1000000\n";

pub fn run(rows: u64, rounds: usize, events: u64) {
    let publisher = Publisher::start(OPEN);
    publisher.publish(0..rows, rows.max(10_001));
    let client = publisher.client();
    let (mut calm, mut asked) = (Vec::new(), Vec::new());
    let (mut replays, mut chunks) = (0, 0);
    // In turn, since what else the host does falls on some rounds.
    for _ in 0..rounds {
        calm.push(trickle(&client, rows, events));
        let askers = [Asker::replays(&publisher), Asker::snapshots(&publisher)];
        asked.push(trickle(&client, rows, events));
        let [of_replays, of_chunks] = askers.map(Asker::end);
        assert!(of_replays > 0 && of_chunks > 0, "nothing was asked");
        replays += of_replays;
        chunks += of_chunks;
    }
    drop(client);
    let built = counted(&publisher.stop(), "sync_built_total");
    let [calm, asked] = [calm, asked].map(medians);
    println!(
        "asked: {replays} replays and {chunks} chunks of snapshots of {rows} rows, {built} of them made, in \
         {rounds} rounds of {events} events"
    );
    for (name, calm, asked) in [
        ("p50", calm[0], asked[0]),
        ("p99", calm[1], asked[1]),
        ("longest", calm[2], asked[2]),
    ] {
        println!(
            "asked, until an event is acknowledged, {name} of a round: {asked:.2?}, {calm:.2?} while nobody \
             asks: {:.2?} more (wanted: a millisecond or two)",
            asked.saturating_sub(calm)
        );
    }
}

/// One round, sorted: how long each event took to be acknowledged.
fn trickle(client: &PublisherClient, rows: u64, events: u64) -> Vec<Duration> {
    let (start, text) = (Instant::now(), value(0));
    let mut took: Vec<Duration> = (0..events)
        .map(|number| {
            let due = start + PACE * number as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let key = key(number % rows);
            let begun = Instant::now();
            let event = Event::set(TABLE, &key, &text).on(TOPIC);
            client.publish(&event, None).unwrap();
            let summary = client.flush(PATIENCE).unwrap();
            assert_eq!((summary.pending, summary.refused), (0, 0));
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

/// Of all rounds the median p50, p99 and longest.
fn medians(rounds: Vec<Vec<Duration>>) -> [Duration; 3] {
    [50, 99, 100].map(|part| {
        let of = |round: &Vec<Duration>| round[(round.len() - 1) * part / 100];
        let mut each: Vec<Duration> = rounds.iter().map(of).collect();
        each.sort_unstable();
        each[each.len() / 2]
    })
}

/// Asks the sync service without a pause, until its end. What comes is only counted.
struct Asker {
    end: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Asker {
    /// Each from somewhere else, so that it is made for it alone.
    fn replays(publisher: &Publisher) -> Self {
        Asker::start(publisher, |line, answers| {
            let heads = Request::Heads {
                incarnation: 0,
                topics: vec![(TOPIC.into(), 0)],
            };
            let Ok((
                _,
                Answer::Heads {
                    incarnation, head, ..
                },
            )) = answer::decode(&line.ask(&heads))
            else {
                panic!("no heads");
            };
            let replay = Request::Replay {
                incarnation,
                topic: TOPIC.into(),
                after: fastrand::u64(..head),
            };
            if line.ask(&replay)[1] == EVENTS {
                answers.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// One after the other, from the first chunk to the last.
    fn snapshots(publisher: &Publisher) -> Self {
        let mut next = None;
        Asker::start(publisher, move |line, answers| {
            let snapshot = Request::Snapshot {
                topic: TOPIC.into(),
                chunk: next.take(),
            };
            let bytes = line.ask(&snapshot);
            match bytes[1] {
                ROWS => {
                    answers.fetch_add(1, Ordering::Relaxed);
                    let number = |at| u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
                    let (chunk, chunks) = (number(18), number(22));
                    let id = u64::from_be_bytes(*bytes[10..].first_chunk().unwrap());
                    next = (chunk + 1 < chunks).then_some((id, chunk + 1));
                }
                // It is to come later, or what it had is gone.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        })
    }

    fn start(
        publisher: &Publisher,
        mut ask: impl FnMut(&mut Line, &AtomicU64) + Send + 'static,
    ) -> Self {
        let (end, answers) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ended, counted) = (Arc::clone(&end), Arc::clone(&answers));
        let mut line = Line::open(&publisher.sync_uri());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                ask(&mut line, &counted);
            }
        });
        Asker {
            end,
            answers,
            thread,
        }
    }

    /// Ends it; gives how many answers it had.
    fn end(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.answers.load(Ordering::Relaxed)
    }
}

/// Kinds of answers, as they stand in the second byte.
const EVENTS: u8 = 2;
const ROWS: u8 = 4;

/// A bare client of the sync service.
struct Line {
    socket: zmq::Socket,
    out: Vec<u8>,
}

impl Line {
    fn open(uri: &str) -> Self {
        let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
        socket.connect(uri).unwrap();
        Line {
            socket,
            out: Vec::new(),
        }
    }

    fn ask(&mut self, what: &Request) -> Vec<u8> {
        request::encode(1, what, &mut self.out);
        self.socket.send(&self.out, 0).unwrap();
        self.socket.recv_bytes(0).unwrap()
    }
}
