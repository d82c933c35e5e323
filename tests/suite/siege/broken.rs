//! Connections that break, or are ended, in the middle of a burst: libzmq 4.3.4 ends the process where the
//! system reports one broken while something of it waits for room.

use std::io::Write;
use std::time::Duration;

use rustix::net;

use super::{Siege, count, nodes};
use crate::rig::cluster::Cluster;
use crate::rig::zmtp::{PING, connect, connect_as, reset, short};
use crate::rig::{PATIENCE, wait_for, within};

/// What it may take until a peer that went by a reset is given up: 15 to 20 s, and a loaded machine.
const LIFELESS: Duration = Duration::from_secs(60);

/// More subscriptions than libzmq holds, then something that it wants to answer, and some more.
fn burst(round: usize) -> Vec<u8> {
    let many = short(b"\x01a").repeat(50 + 37 * round % 1_500);
    [
        &many[..],
        &PING.repeat(20),
        &short(b"\x00a").repeat(20),
        PING,
    ]
    .concat()
}

/// A peer that is reset right after a burst.
#[test]
fn who_breaks_off_after_a_burst() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = nodes(&cluster);
    let (uri, sync_uri) = (cluster.uri(), cluster.sync_uri());
    let mut siege = Siege::begin("breaking off after a burst", &mut cluster, honest);
    for round in 0..300 {
        let mut stream = connect(&uri, "SUB");
        stream.write_all(&burst(round)).unwrap();
        std::thread::sleep(Duration::from_millis(round as u64 % 5));
        reset(stream);
        let mut stream = connect(&sync_uri, "DEALER");
        let asked = [&short(b"no request").repeat(100), PING].concat();
        stream.write_all(&asked).unwrap();
        reset(stream);
        if round % 100 == 0 {
            siege.goes_on();
        }
    }
    siege.ends(newcomer);
    let said = cluster.stop();
    assert!(said.count("sync_refused_total") > 0, "{}", said.0);
}

/// Peers that are ended while they send.
#[test]
fn who_is_ended_in_a_burst() {
    let mut cluster = Cluster::running("max_subscriptions = 100\n");
    let (honest, newcomer) = nodes(&cluster);
    let uri = cluster.uri();
    let mut siege = Siege::begin("ended in a burst", &mut cluster, honest);
    for round in 0..30 {
        let mut stream = connect(&uri, "SUB");
        stream
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        // Some ask for too much, the others only for too many changes.
        let (mut topics, times) = match round % 2 {
            0 => (0..1_000_000, 2),
            _ => (0..50, 60),
        };
        let mut sent = 0;
        while sent < 64 << 20 {
            let topic = topics.next().unwrap_or(7).to_string();
            let bytes = short(&[b"\x01", topic.as_bytes()].concat());
            let bytes = [bytes.repeat(times), PING.to_vec()].concat();
            sent += bytes.len();
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
        if round % 10 == 0 {
            siege.goes_on();
        }
    }
    siege.ends(newcomer);
    let said = cluster.stop();
    assert!(said.count("connections_greedy_total") >= 10, "{}", said.0);
    assert!(said.count("connections_unruly_total") >= 10, "{}", said.0);
}

/// A peer that takes nothing of what it asked for, and goes on to ask: the system would give its connection
/// up in the midst of that.
#[test]
fn who_asks_and_takes_nothing() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = nodes(&cluster);
    let uri = cluster.uri();
    let mut siege = Siege::begin("taking nothing", &mut cluster, honest);
    let mut stream = connect(&uri, "SUB");
    net::sockopt::set_socket_recv_buffer_size(&stream, 4_096).unwrap();
    stream.write_all(&short(b"\x01")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let asked = [&short(b"\x01a").repeat(3), PING, &short(b"\x00a").repeat(3)].concat();
    let mut round = 0;
    within(LIFELESS, "it is ended", || {
        // More than the systems at both ends hold.
        if round % 20 == 0 {
            siege.goes_on();
        }
        round += 1;
        // When it is ended it need not be told: it reads nothing.
        let _ = stream.write(&asked);
        std::thread::sleep(Duration::from_millis(50));
        (count(siege.cluster, "service", "connections_stuck_total") > 0).then_some(())
    });
    siege.ends(newcomer);
    cluster.host.stop(PATIENCE);
}

/// Two that claim one identity: libzmq takes in nothing of the second.
#[test]
fn who_claims_the_identity_of_another() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = nodes(&cluster);
    let sync_uri = cluster.sync_uri();
    let mut siege = Siege::begin("one identity", &mut cluster, honest);
    let open = |siege: &Siege<'_>| count(siege.cluster, "sync", "sync_connections");
    let mut first = connect_as(&sync_uri, "DEALER", "me");
    first.write_all(&short(b"no request")).unwrap();
    wait_for("the first is there", || open(&siege) > 0);
    let before = open(&siege);
    // Numbers that libzmq gives out itself are claimed as well.
    let others: Vec<_> = ["me", "me", "\0\0\0\0\0", "\0\0\0\0\u{1}"]
        .into_iter()
        .map(|identity| {
            let mut other = connect_as(&sync_uri, "DEALER", identity);
            other.write_all(&short(b"no request").repeat(200)).unwrap();
            other
        })
        .collect();
    wait_for("the others are there", || open(&siege) >= before + 4);
    siege.goes_on();
    let mut others = others.into_iter();
    others.next().into_iter().for_each(reset);
    drop(others);
    within(LIFELESS, "those that ended are noticed", || {
        // The first, and one line of each honest agent.
        (open(&siege) <= 3).then_some(())
    });
    siege.goes_on();
    // One that goes on for ever is ended, though nothing of it is ever seen.
    let mut other = connect_as(&sync_uri, "DEALER", "me");
    // A machine that stalls is no end.
    other.set_write_timeout(Some(PATIENCE)).unwrap();
    let (bytes, mut sent) = (short(&[7; 200]).repeat(300), 0);
    let why = loop {
        match other.write_all(&bytes) {
            Ok(()) => sent += bytes.len(),
            Err(why) => break why,
        }
        assert!(sent < 256 << 20, "{sent} bytes were taken");
    };
    eprintln!("{sent} bytes, then {why}");
    siege.ends(newcomer);
    drop(first);
    let said = cluster.stop();
    assert!(
        said.count("sync_connections_unruly_total") > 0,
        "{}",
        said.0
    );
}
