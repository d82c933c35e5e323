//! Who asks and does not read.

use std::io::Write;
use std::time::{Duration, Instant};

use fanfare::event::Event;
use fanfare::sync::{Request, request};

use super::{Siege, count, nodes};
use crate::rig::cluster::Cluster;
use crate::rig::counted::Said;
use crate::rig::load::flush;
use crate::rig::zmtp::{connect_from, frame, stranger};
use crate::rig::{PATIENCE, wait_for};

/// Addresses, connections from each, and questions on each at a time: their answers would be 800 MB.
const ADDRESSES: usize = 5;
const CONNECTIONS: usize = 20;
const QUESTIONS: u64 = 16;

/// All unread answers may be 256 MB, and a few are under way.
const ROOM_KB: u64 = 400 << 10;

#[test]
fn answers_that_nobody_reads() {
    let mut cluster = Cluster::running("");
    let client = cluster.host.client();
    for number in 0..100 {
        // So that it cannot be packed.
        let value: String = (0..8_000).map(|_| fastrand::alphanumeric()).collect();
        let (key, value) = (format!("k{number}"), format!("\"{value}\""));
        let event = Event::set("t", &key, &value);
        client.publish(&event.on("large"), None).unwrap();
    }
    flush(&client);
    let (honest, newcomer) = nodes(&cluster);
    let uri = cluster.sync_uri();
    let mut siege = Siege::begin("answers that nobody reads", &mut cluster, honest);
    siege.room_kb = ROOM_KB;
    let number = |siege: &Siege<'_>, name: &str| count(siege.cluster, "sync", name);
    let replay = Request::Replay {
        incarnation: count(siege.cluster, "service", "incarnation"),
        topic: "large".into(),
        after: 0,
    };
    let from = |address| [(); CONNECTIONS].map(|()| connect_from(&uri, "DEALER", "", address));
    let mut streams: Vec<_> = (0..ADDRESSES).flat_map(|_| from(stranger())).collect();
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let mut asked = Vec::new();
    for tag in 0..QUESTIONS {
        let mut out = Vec::new();
        request::encode(tag, &replay, &mut out);
        asked.extend(frame(0, &out));
    }
    let mut next = Instant::now();
    wait_for("there is no more room", || {
        // Now and then again: on a busy machine many are told to come again. Some have been ended.
        if next <= Instant::now() {
            next = Instant::now() + Duration::from_secs(1);
            for stream in &mut streams {
                let _ = stream.write(&asked);
            }
        }
        number(&siege, "sync_answers_withheld_total") > 0
            && number(&siege, "sync_connections_unread_total") > 0
    });
    // What tells them to come again is sent all the same.
    assert!(number(&siege, "sync_unread_bytes") <= 257 << 20);
    siege.goes_on();
    siege.ends(newcomer);
    drop(streams);
    let said = Said(cluster.host.stop(PATIENCE));
    let sent = said.count("sync_sent_bytes_total");
    assert!(sent > 100 << 20, "{sent} bytes were sent: {}", said.0);
}
