//! The simulated sync service answers as the real one: the same history, the same questions, and what
//! a client may rely on is the same in both. They once differed in how far a complete replay reaches,
//! which no simulation could find.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fanfare::event::{Event, codec};
use fanfare::publisher::history::{History, Moment, Options, Outcome, Submission};
use fanfare::publisher::sync::{Oracle, SyncOptions};
use fanfare::sync::{Answer, Digest, Packed, Request};
use fastrand::Rng;

use crate::counts::Counts;
use crate::publisher::{Object, Publisher, Write};
use crate::service;

const TOPICS: [&str; 3] = ["D", "t1", "t10"];

/// A topic that nothing was ever published on.
const EMPTY: &str = "t2";

/// The same publisher twice.
struct Twins {
    simulated: Publisher,
    real: History,
    oracle: Oracle,
    rng: Rng,
    counts: Counts,
    /// Far enough from one question to the next that neither gives what it gave before.
    now: Duration,
    base: Instant,
    _folder: tempfile::TempDir,
}

impl Twins {
    fn new(seed: u64, journal: usize) -> Twins {
        let folder = tempfile::tempdir().unwrap();
        let (simulated, base) = (Publisher::new(0, journal, 4), Instant::now());
        let mut options = Options::new(folder.path().join("publisher.redb"));
        options.id = Some(simulated.id());
        options.max_events = journal as u64;
        // Trimmed by the event, as the other is.
        options.tail_bytes = 0;
        // So that it begins with the incarnation of the other.
        let moment = Moment {
            unix_micros: simulated.incarnation * 1_000,
            instant: base,
        };
        let real = History::open(options, moment).unwrap();
        assert_eq!(real.incarnation(), simulated.incarnation);
        assert_eq!(real.complete_since(), simulated.complete_since);
        Twins {
            simulated,
            real,
            oracle: Oracle::new(&SyncOptions::default(), seed, base),
            rng: Rng::with_seed(seed),
            counts: Counts::default(),
            now: Duration::ZERO,
            base,
            _folder: folder,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            // Of what the simulated one stamps.
            unix_micros: 1,
            instant: self.base + self.now,
        }
    }

    fn write(&mut self, key: u8, version: u64, value: Option<String>) {
        let object = Object {
            key: format!("k{key}"),
            topic: TOPICS[usize::from(key) % TOPICS.len()],
            owner: None,
        };
        let (key, topic) = (object.key.clone(), object.topic);
        let event = match &value {
            Some(value) => Event::set("lport", &key, value),
            None => Event::delete("lport", &key),
        };
        let submission = Submission {
            version: Some(version),
            ..Submission::of(event.on(topic))
        };
        let moment = self.moment();
        let outcomes = self.real.commit(&[submission], moment).unwrap();
        let sent = self.simulated.accept(Write {
            object,
            version,
            value: value.clone(),
        });
        match (outcomes[0], sent) {
            (Outcome::Stamped(stamp), Some(sent)) => assert_eq!(stamp, sent.stamp),
            (Outcome::Older { .. } | Outcome::Duplicate, None) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Both keep their journals within the same bound.
    fn trim(&mut self) {
        self.simulated.trim();
        let moment = self.moment();
        while self.real.maintain(moment).unwrap().more {}
        let first = self.simulated.journal.front();
        let floor = first.map_or(self.simulated.disk.head + 1, |first| first.stamp.seq);
        assert_eq!(self.real.floor(), floor);
        assert_eq!(self.real.head(), self.simulated.disk.head);
    }

    fn simulated(&mut self, request: &Request) -> Answer {
        loop {
            self.now += Duration::from_secs(10);
            let answer = service::answer(
                &mut self.simulated,
                request.clone(),
                self.now,
                &mut self.rng,
                &mut self.counts,
            );
            if !matches!(answer, Answer::RetryAfter(_)) {
                return answer;
            }
        }
    }

    fn real(&mut self, request: &Request) -> Answer {
        self.now += Duration::from_secs(10);
        let now = self.base + self.now;
        let answer = self.oracle.answer(&self.real, request.clone(), now);
        answer.unwrap().expect("an answer that can be read")
    }

    fn heads(&mut self) {
        let known = self.simulated.incarnation;
        for incarnation in [known, known + 1] {
            let topics = TOPICS.iter().chain([&EMPTY]);
            let mut request = Vec::new();
            for topic in topics {
                let head = self.simulated.topic_head(topic);
                let at = *self.rng.choice(&[0, head.saturating_sub(1), head]).unwrap();
                request.push(((*topic).to_owned(), at));
            }
            let request = Request::Heads {
                incarnation,
                topics: request,
            };
            assert_eq!(self.simulated(&request), self.real(&request), "{request:?}");
        }
    }

    fn topics(&mut self) {
        let simulated = listed(|request| self.simulated(request));
        let real = listed(|request| self.real(request));
        assert_eq!(simulated, real);
    }

    fn replays(&mut self) {
        let head = self.simulated.disk.head;
        for topic in TOPICS.iter().chain([&EMPTY]) {
            let last = self.simulated.topic_head(topic);
            let anywhere = self.rng.u64(..=head);
            for after in [0, anywhere, last.saturating_sub(1), last, head, head + 3] {
                let simulated = Replayed::of(topic, after, |request| self.simulated(request));
                let real = Replayed::of(topic, after, |request| self.real(request));
                assert_eq!(simulated, real, "{topic} after {after}, head {head}");
            }
        }
        let other = Request::Replay {
            incarnation: self.simulated.incarnation + 1,
            topic: "D".into(),
            after: 0,
        };
        assert_eq!(self.simulated(&other), self.real(&other));
    }

    fn snapshots(&mut self) {
        for topic in TOPICS.iter().chain([&EMPTY]) {
            let real = Snapshot::of(topic, |request| self.real(request));
            // It lets snapshots lapse, and gives old ones.
            let simulated = loop {
                self.simulated.service = service::Service::default();
                if let Some(simulated) = Snapshot::of(topic, |request| self.simulated(request)) {
                    break Some(simulated);
                }
            };
            assert_eq!(simulated, real, "{topic}");
            let unknown = Request::Snapshot {
                topic: (*topic).into(),
                chunk: Some((1 << 60, 0)),
            };
            assert_eq!(self.simulated(&unknown), self.real(&unknown));
        }
    }
}

/// The names of all topics, in however many pages.
fn listed(mut ask: impl FnMut(&Request) -> Answer) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().cloned().unwrap_or_default();
        match ask(&Request::Topics { after }) {
            Answer::Topics { topics, more, .. } => {
                all.extend(topics);
                if !more {
                    return all;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn events(packed: &Packed) -> Vec<(String, u64, u64)> {
    let events = packed.iter().map(|payload| {
        let event = codec::decode(payload).unwrap();
        let stamp = event.stamp.unwrap();
        (event.key.to_owned(), stamp.seq, stamp.prev)
    });
    events.collect()
}

/// A replay to its end, however it was cut.
#[derive(Debug, PartialEq, Eq)]
enum Replayed {
    Gone(u64),
    Whole {
        incarnation: u64,
        upto: u64,
        last: u64,
        events: Vec<(String, u64, u64)>,
    },
}

impl Replayed {
    /// Asks until that was all, as an agent does.
    fn of(topic: &str, after: u64, mut ask: impl FnMut(&Request) -> Answer) -> Replayed {
        let (mut all, mut at, mut first) = (Vec::new(), after, None);
        loop {
            let request = Request::Replay {
                incarnation: first.unwrap_or(10),
                topic: topic.to_owned(),
                after: at,
            };
            match ask(&request) {
                Answer::Gone { incarnation } => return Replayed::Gone(incarnation),
                Answer::Events {
                    incarnation,
                    upto,
                    last,
                    events,
                } => {
                    first = Some(incarnation);
                    all.extend(self::events(&events));
                    if upto >= last {
                        return Replayed::Whole {
                            incarnation,
                            upto,
                            last,
                            events: all,
                        };
                    }
                    assert!(upto > at, "it leads nowhere");
                    at = upto;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A whole snapshot, however it was cut.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    incarnation: u64,
    seq: u64,
    complete_since: u64,
    total: Digest,
    rows: BTreeMap<String, Vec<u8>>,
}

impl Snapshot {
    /// `None` when it lapsed.
    fn of(topic: &str, mut ask: impl FnMut(&Request) -> Answer) -> Option<Snapshot> {
        let (mut rows, mut chunk, mut digest) = (BTreeMap::new(), None, Digest::default());
        loop {
            let request = Request::Snapshot {
                topic: topic.to_owned(),
                chunk,
            };
            match ask(&request) {
                Answer::Lapsed => return None,
                Answer::Rows {
                    id,
                    chunk: number,
                    chunks,
                    incarnation,
                    seq,
                    complete_since,
                    total,
                    rows: packed,
                } => {
                    digest.add(&packed);
                    for payload in packed.iter() {
                        let event = codec::decode(payload).unwrap();
                        assert_eq!(event.topic, Some(topic));
                        rows.insert(event.key.to_owned(), payload.to_vec());
                    }
                    assert_eq!(number, chunk.map_or(0, |(_, number)| number));
                    assert_eq!(total.is_some(), number + 1 == chunks);
                    if let Some((count, sum)) = total {
                        let total = Digest { rows: count, sum };
                        assert_eq!(total, digest);
                        return Some(Snapshot {
                            incarnation,
                            seq,
                            complete_since,
                            total,
                            rows,
                        });
                    }
                    chunk = Some((id, number + 1));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_simulated_service_answers_as_the_real_one() {
    for seed in 0..24 {
        let mut rng = Rng::with_seed(seed);
        let journal = rng.usize(3..60);
        let mut twins = Twins::new(seed, journal);
        let mut version = 10;
        for round in 0..6 {
            for _ in 0..rng.usize(0..25) {
                version += 1;
                let value = (rng.u8(..4) > 0).then(|| format!("v{version}-{round}"));
                // No version twice; some are older than what is known.
                let given = 2 * version - if rng.u8(..4) == 0 { 9 } else { 0 };
                twins.write(rng.u8(..12), given, value);
            }
            twins.trim();
            twins.heads();
            twins.topics();
            twins.replays();
            twins.snapshots();
        }
    }
}
