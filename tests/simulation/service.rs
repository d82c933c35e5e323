//! The sync service of a publisher, as unhelpful as the protocol lets it be: answers in small
//! pieces, old snapshots whose rows are newer than their seq, identifiers that begin anew with
//! each process.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare::event::codec;
use fanfare::sync::{Answer, Digest, Packed, Request};
use fastrand::Rng;

use crate::counts::Counts;
use crate::publisher::{Object, Publisher, Sent};

#[derive(Debug, Default)]
pub struct Service {
    snapshots: BTreeMap<u64, Snapshot>,
    next_id: u64,
    /// Last events as they were answered, by topic and position, and until when they are given to
    /// whoever asks for the same.
    replays: BTreeMap<(String, u64), (Duration, Answer)>,
    pub stuck_until: Duration,
}

/// Chunks are read when they are first asked for.
#[derive(Debug)]
struct Snapshot {
    topic: &'static str,
    begun: Duration,
    seq: u64,
    complete_since: u64,
    chunks: Vec<(Vec<Object>, Option<Packed>)>,
}

/// Snapshots that are kept, and for how long.
const KEPT: usize = 3;
pub const KEPT_FOR: Duration = Duration::from_secs(4);

/// For how long a replay is given to whoever asks for the same.
const REPLAY_KEPT: Duration = Duration::from_millis(500);

/// Longest patience asked for, milliseconds.
pub const PATIENCE: u32 = 1500;

pub fn answer(
    publisher: &mut Publisher,
    request: Request,
    now: Duration,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Answer {
    match request {
        Request::Heads {
            incarnation,
            topics,
        } => {
            let same = incarnation == publisher.incarnation;
            let head = |name: &str| publisher.topic_head(name);
            let behind = topics
                .into_iter()
                .filter(|(name, last)| !same || head(name) > *last);
            Answer::Heads {
                incarnation: publisher.incarnation,
                head: publisher.disk.head,
                behind: behind
                    .map(|(name, _)| (head(&name), name))
                    .map(|(head, name)| (name, head))
                    .collect(),
            }
        }
        Request::Replay {
            incarnation,
            topic,
            after,
        } if incarnation == publisher.incarnation => {
            let key = (topic, after);
            if let Some((until, kept)) = publisher.service.replays.get(&key)
                && now < *until
            {
                counts.note("fault: old replay");
                return kept.clone();
            }
            let answer = replay(publisher, &key.0, after, rng);
            if matches!(&answer, Answer::Events { events, .. } if !events.is_empty()) {
                let kept = (now + REPLAY_KEPT, answer.clone());
                publisher.service.replays.insert(key, kept);
            }
            answer
        }
        Request::Topics { after } => {
            let topics = publisher.topics();
            let left: Vec<_> = topics.into_iter().filter(|name| **name > *after).collect();
            let some = left.len().min(rng.usize(1..4));
            Answer::Topics {
                incarnation: publisher.incarnation,
                more: some < left.len(),
                topics: left[..some].iter().map(|name| (*name).into()).collect(),
            }
        }
        Request::Replay { .. } => Answer::Gone {
            incarnation: publisher.incarnation,
        },
        Request::Snapshot { .. } if rng.u8(..) < 30 => Answer::RetryAfter(rng.u32(..PATIENCE)),
        Request::Snapshot { topic, chunk: None } => {
            let id = begin(publisher, &topic, now, rng, counts);
            chunk(publisher, id, 0)
        }
        Request::Snapshot {
            chunk: Some((id, number)),
            ..
        } => {
            let known = publisher.service.snapshots.contains_key(&id);
            if !known || rng.u8(..) < 4 {
                counts.note("fault: snapshot lapsed");
                publisher.service.snapshots.remove(&id);
                return Answer::Lapsed;
            }
            chunk(publisher, id, number)
        }
    }
}

fn pack<'a>(rows: impl Iterator<Item = &'a Sent>) -> Packed {
    let (mut packed, mut bytes) = (Packed::default(), Vec::new());
    for row in rows {
        codec::encode(&row.event(), &mut bytes);
        packed.push(&bytes);
    }
    packed
}

fn replay(publisher: &Publisher, topic: &str, after: u64, rng: &mut Rng) -> Answer {
    let incarnation = publisher.incarnation;
    let last = publisher.topic_head(topic);
    let head = publisher.disk.head;
    if last <= after {
        return Answer::Events {
            incarnation,
            upto: head.max(after),
            last,
            events: Packed::default(),
        };
    }
    let journal = publisher.journal.iter();
    let wanted = journal.filter(|sent| sent.write.object.topic == topic && sent.stamp.seq > after);
    let wanted: Vec<&Sent> = wanted.collect();
    if wanted.first().is_none_or(|first| first.stamp.prev > after) {
        return Answer::Gone { incarnation };
    }
    let some = wanted.len().min(rng.usize(1..8));
    // The journal may be searched a little further than the last one given.
    let upto = match wanted.get(some) {
        None => head,
        Some(next) if rng.bool() => next.stamp.seq - 1,
        Some(_) => wanted[some - 1].stamp.seq,
    };
    Answer::Events {
        incarnation,
        upto,
        last,
        events: pack(wanted.into_iter().take(some)),
    }
}

fn begin(
    publisher: &mut Publisher,
    topic: &str,
    now: Duration,
    rng: &mut Rng,
    counts: &mut Counts,
) -> u64 {
    let head = publisher.topic_head(topic);
    let service = &mut publisher.service;
    service
        .snapshots
        .retain(|_, kept| now < kept.begun + KEPT_FOR);
    let kept = service
        .snapshots
        .iter()
        .find(|(_, kept)| kept.topic == topic);
    if let Some((id, kept)) = kept
        && rng.u8(..) < 180
    {
        if kept.seq < head {
            counts.note("fault: old snapshot");
        }
        return *id;
    }
    if service.snapshots.len() >= KEPT {
        service.snapshots.pop_first();
    }
    service.next_id += 1;
    let id = service.next_id;
    let topic = crate::world::TOPICS
        .iter()
        .copied()
        .find(|known| *known == topic);
    let topic = topic.expect("only known topics are asked for");
    let objects = publisher
        .disk
        .rows
        .keys()
        .filter(|object| object.topic == topic);
    let objects: Vec<Object> = objects.cloned().collect();
    let chunks = objects.chunks(rng.usize(1..6));
    let mut chunks: Vec<_> = chunks.map(|objects| (objects.to_vec(), None)).collect();
    if chunks.is_empty() {
        chunks.push((Vec::new(), None));
    }
    let snapshot = Snapshot {
        topic,
        begun: now,
        seq: head,
        complete_since: publisher.complete_since,
        chunks,
    };
    publisher.service.snapshots.insert(id, snapshot);
    id
}

fn chunk(publisher: &mut Publisher, id: u64, number: u32) -> Answer {
    let rows = &publisher.disk.rows;
    let Some(snapshot) = publisher.service.snapshots.get_mut(&id) else {
        return Answer::Lapsed;
    };
    let chunks = snapshot.chunks.len() as u32;
    if number >= chunks {
        // Of another process's snapshot with the same name.
        return Answer::Lapsed;
    }
    let is_last = number + 1 == chunks;
    let mut digest = Digest::default();
    for (at, (objects, packed)) in snapshot.chunks.iter_mut().enumerate() {
        if is_last || at as u32 == number {
            let read = || pack(objects.iter().filter_map(|object| rows.get(object)));
            digest.add(packed.get_or_insert_with(read));
        }
    }
    Answer::Rows {
        id,
        chunk: number,
        chunks,
        incarnation: publisher.incarnation,
        seq: snapshot.seq,
        complete_since: snapshot.complete_since,
        total: is_last.then_some((digest.rows, digest.sum)),
        rows: snapshot.chunks[number as usize]
            .1
            .clone()
            .unwrap_or_default(),
    }
}
