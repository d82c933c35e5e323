//! Many who want a snapshot at once.

use std::time::{Duration, Instant};

use fanfare::sync::Answer;

use crate::rig::cluster::Cluster;
use crate::rig::dealer::{Peer, Taken, snapshot};
use crate::rig::{PATIENCE, slowness};

/// A client that fetches one snapshot, asking as the service tells it to.
struct Client {
    peer: Peer,
    taken: Taken,
    /// Chunks that were only counted: that they are good is seen by the first few clients.
    counted: u32,
    /// When it asks again.
    again: Option<Instant>,
    done: bool,
}

/// Clients that read what they are given.
const READERS: usize = 20;

/// Snapshot, number and count of chunks of an answer with rows.
fn place(answer: &[u8]) -> Option<(u64, u32, u32)> {
    let numbers = answer.get(10..26).filter(|_| answer[1] == 4)?;
    let (id, numbers) = numbers.split_first_chunk()?;
    let (chunk, chunks) = numbers.split_first_chunk()?;
    let chunks = chunks.try_into().ok()?;
    Some((
        u64::from_be_bytes(*id),
        u32::from_be_bytes(*chunk),
        u32::from_be_bytes(chunks),
    ))
}

/// Has so many clients fetch the topic; gives how often they were told to wait.
#[track_caller]
fn fetch_all(cluster: &Cluster, clients: usize, rows: usize) -> usize {
    // A context holds a thousand sockets at most.
    let contexts: Vec<_> = (0..=clients / 250).map(|_| zmq::Context::new()).collect();
    let uri = cluster.sync_uri();
    let mut clients: Vec<_> = (0..clients)
        .map(|number| {
            let mut peer = Peer::on(&contexts[number / 250], &uri);
            peer.send(&snapshot("t1", None));
            Client {
                peer,
                taken: Taken::default(),
                counted: 0,
                again: None,
                done: false,
            }
        })
        .collect();
    let (mut told, deadline) = (0, Instant::now() + 3 * PATIENCE);
    while clients.iter().any(|client| !client.done) {
        assert!(Instant::now() < deadline, "not all are served");
        let mut idle = true;
        let all = clients.iter_mut().enumerate();
        for (number, client) in all.filter(|(_, client)| !client.done) {
            if client.again.is_some_and(|at| at <= Instant::now()) {
                client.again = None;
                client.peer.send(&snapshot("t1", None));
            }
            let Ok(bytes) = client.peer.socket.recv_bytes(zmq::DONTWAIT) else {
                continue;
            };
            idle = false;
            if number >= READERS
                && let Some((id, chunk, chunks)) = place(&bytes)
            {
                assert_eq!(chunk, client.counted);
                client.counted += 1;
                client.done = client.counted == chunks;
                if !client.done {
                    client.peer.send(&snapshot("t1", Some((id, chunk + 1))));
                }
                continue;
            }
            match fanfare::sync::answer::decode(&bytes).unwrap().1 {
                Answer::RetryAfter(millis) => {
                    told += 1;
                    let wait = Duration::from_millis(millis.into());
                    client.again = Some(Instant::now() + wait);
                }
                Answer::Lapsed => {
                    (client.taken, client.counted) = (Taken::default(), 0);
                    client.peer.send(&snapshot("t1", None));
                }
                rows => match client.taken.take(rows) {
                    Some(next) => {
                        client.peer.send(&snapshot("t1", Some(next)));
                    }
                    None => client.done = true,
                },
            }
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut readers = clients.iter().take(READERS);
    assert!(readers.all(|client| client.taken.rows.len() == rows));
    told
}

#[test]
fn a_hundred_clients_and_four_places() {
    let mut cluster = Cluster::running("sync_max_snapshots = 4\nsync_snapshot_rate = 100\n");
    cluster.fill("t1", 0..2_000, "v");
    let told = fetch_all(&cluster, 100, 2_000);
    assert!(told >= 50, "only {told} were told to wait");
    assert!(cluster.stop().count("sync_retry_after_total") >= 50);
}

#[test]
fn a_thousand_clients_and_ten_thousand_rows() {
    let mut cluster = Cluster::running("sync_snapshot_rate = 1000\n");
    let value = "v".repeat(300);
    cluster.fill("t1", 0..10_000, &value);
    let before = cluster.host.process().peak_kb();
    let begun = Instant::now();
    let told = fetch_all(&cluster, 1_000, 10_000);
    let took = begun.elapsed();
    let peak = cluster.host.process().peak_kb();
    eprintln!(
        "1000 clients, 10000 rows of 300 bytes: {took:?}, {told} waits; \
         the service had {before} kB, at most {peak} kB"
    );
    let room = u64::from(slowness()) * (128 << 10);
    assert!(peak < before + room, "{before} kB, then {peak} kB");
}
