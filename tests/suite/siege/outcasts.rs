//! Without keys a peer is known by its address alone, and is kept out by that.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Siege, count, nodes};
use crate::rig::cluster::Cluster;
use crate::rig::zmtp::{connect_from, greeting, short, stranger, tcp};
use crate::rig::{PATIENCE, wait_for, within};

/// How long a connection on the loopback may take; the system asks again after a second.
const SOON: Duration = Duration::from_millis(500);

/// How long an address is kept out, and what a loaded machine may add.
const TERM: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(120);

/// Handshakes that may fail, and how many do at a time.
const FORGIVEN: u64 = 40;
const FEW: u64 = 8;

/// Connections of a flood that are open at a time.
const CONNECTIONS: usize = 500;

fn gets_in(uri: &str, address: Ipv4Addr) -> bool {
    tcp(uri, address, SOON).is_ok()
}

/// One sends nonsense at the handshake, one too many subscriptions, one too many requests.
#[test]
fn who_does_harm_is_kept_out_for_a_minute_and_others_are_not() {
    let mut cluster = Cluster::running("max_subscriptions = 100\n");
    let (honest, newcomer) = nodes(&cluster);
    let (uri, sync_uri) = (cluster.uri(), cluster.sync_uri());
    let [garbage, greedy, flood, other] = std::array::from_fn(|_| stranger());
    let mut siege = Siege::begin("who is kept out", &mut cluster, honest);

    // A few failures are forgiven. Each is seen before it fails, lest nobody knows whose it was; and it is the
    // publisher that ends it: a stream that is dropped unread is reset, which is not heard of for long.
    let open = |siege: &Siege<'_>| count(siege.cluster, "service", "connections");
    let cast_out = |siege: &Siege<'_>| count(siege.cluster, "service", "addresses_kept_out_total");
    let usual = open(&siege);
    let fail = |siege: &Siege<'_>| {
        let streams = (0..FEW).map_while(|_| tcp(&uri, garbage, SOON).ok());
        let streams: Vec<_> = streams.collect();
        let all = usual + streams.len() as u64;
        wait_for("they are seen", || {
            open(siege) >= all || cast_out(siege) > 0
        });
        for mut stream in &streams {
            // Where it is kept out by now it has ended.
            let _ = stream.write_all(&[&greeting("NULL"), &short(b"no command")[..]].concat());
        }
        wait_for("they have failed", || open(siege) <= usual);
        cast_out(siege) > 0
    };
    assert!((0..FORGIVEN / FEW).all(|_| !fail(&siege)));
    assert!(gets_in(&uri, garbage));
    wait_for("that is over", || open(&siege) <= usual);
    within(PATIENCE, "more are not", || fail(&siege).then_some(()));
    assert!(!gets_in(&uri, garbage));

    let silent = connect_from(&uri, "SUB", "", greedy);
    let mut stream = connect_from(&uri, "SUB", "", greedy);
    let begun = std::time::Instant::now();
    let many: Vec<u8> = (0..200)
        .flat_map(|topic| short(format!("\x01{topic}").as_bytes()))
        .collect();
    stream.write_all(&many).unwrap();
    let mut stream = connect_from(&sync_uri, "DEALER", "", flood);
    stream.set_write_timeout(Some(SOON)).unwrap();
    let (bytes, mut sent) = (short(b"no request").repeat(1_000), 0);
    while sent < 64 << 20 && stream.write_all(&bytes).is_ok() {
        sent += bytes.len();
    }
    wait_for("all are kept out", || {
        ![(&uri, garbage), (&uri, greedy), (&sync_uri, flood)]
            .iter()
            .any(|(uri, address)| gets_in(uri, *address))
    });
    // And who has done nothing, from the same address.
    let mut one = [0];
    wait_for("its other connection is ended", || {
        silent.set_nonblocking(true).unwrap();
        matches!(std::io::Read::read(&mut &silent, &mut one), Ok(0))
    });
    assert!(gets_in(&uri, other) && gets_in(&sync_uri, other));
    // It has done nothing at this port.
    assert!(gets_in(&sync_uri, greedy));
    siege.goes_on();

    within(LATE, "they are let in again", || {
        [(&uri, garbage), (&uri, greedy), (&sync_uri, flood)]
            .iter()
            .all(|(uri, address)| gets_in(uri, *address))
            .then_some(())
    });
    assert!(begun.elapsed() >= TERM - SOON, "{:?}", begun.elapsed());
    assert_eq!(
        count(siege.cluster, "service", "connections_greedy_total"),
        1
    );
    assert_eq!(cast_out(&siege), 2);
    assert!(count(siege.cluster, "service", "connections_kept_out_total") >= 1);
    siege.ends(newcomer);
    let said = cluster.stop();
    assert_eq!(said.count("sync_addresses_kept_out_total"), 1, "{}", said.0);
}

/// Each connection changes its mind no more often than one may, and its turn comes the later the more there are.
#[test]
fn changes_over_many_connections_are_one_flood() {
    let mut cluster = Cluster::running("max_subscriptions = 1000\n");
    let (honest, newcomer) = nodes(&cluster);
    let (uri, flood) = (cluster.uri(), stranger());
    let mut siege = Siege::begin("changes over many connections", &mut cluster, honest);
    siege.room_kb = 512 << 10;
    // With how much of the changes it has sent.
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| (connect_from(&uri, "SUB", "", flood), 0))
        .collect();
    for (stream, _) in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let pair = [short(b"\x01a"), short(b"\x00a")].concat();
    let (bytes, mut changes) = (pair.repeat(125), 0);
    within(PATIENCE, "it is kept out", || {
        for (stream, at) in &mut streams {
            // Most of it waits in the system; one that was ended takes nothing.
            let taken = stream.write(&bytes[*at..]).unwrap_or_default();
            changes += taken / 4;
            *at = (*at + taken) % bytes.len();
        }
        let out = count(siege.cluster, "service", "addresses_kept_out_total");
        (out == 1).then_some(())
    });
    eprintln!("after {changes} changes");
    assert!(!gets_in(&uri, flood));
    siege.goes_on();
    siege.ends(newcomer);
    cluster.stop();
}

/// Each connection asks no more than one may, and its turn comes the later the more there are.
#[test]
fn a_flood_over_many_connections_is_one() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = nodes(&cluster);
    let (sync_uri, flood) = (cluster.sync_uri(), stranger());
    let mut siege = Siege::begin("a flood over many connections", &mut cluster, honest);
    // What comes until then waits, and a program without optimisations reads a tenth as much; with all that is
    // sent it were 3 GB.
    siege.room_kb = 1 << 20;
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| connect_from(&sync_uri, "DEALER", "", flood))
        .collect();
    for stream in &streams {
        stream.set_write_timeout(Some(SOON)).unwrap();
    }
    let (bytes, mut sent) = (short(b"no request").repeat(100), 0);
    let most = 256 << 20;
    while sent < most && !streams.is_empty() {
        streams.retain_mut(|stream| {
            let taken = stream.write_all(&bytes).is_ok();
            sent += if taken { bytes.len() } else { 0 };
            taken
        });
    }
    wait_for("it is kept out", || {
        count(siege.cluster, "sync", "sync_addresses_kept_out_total") == 1
    });
    eprintln!("after {sent} of {most} bytes");
    assert!(!gets_in(&sync_uri, flood));
    siege.goes_on();
    siege.ends(newcomer);
    cluster.stop();
}
