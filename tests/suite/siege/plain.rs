//! What needs no libzmq on the other side: messages that do not end, and headers that lie. Without
//! keys here, so that the bytes can be written by hand; messages without end by a node that was taken over
//! are in [`super::nodes`]. That a header with keys lies was not tried: libzmq reads it the same way.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fanfare::sync::{Request, request};

use super::{Siege, count};
use crate::rig::cluster::Cluster;
use crate::rig::counted::Said;
use crate::rig::node::Node;
use crate::rig::zmtp::{LONG, MORE, connect, connect_with, frame, short, stranger};
use crate::rig::{PATIENCE, wait_for};

/// Most that is sent to one connection.
const ENOUGH: usize = 512 << 20;

fn node(cluster: &Cluster) -> Node {
    Node::new(&[&cluster.uri()], &["t1"], "")
}

fn started(cluster: &Cluster) -> Node {
    let mut node = node(cluster);
    node.start();
    node
}

/// Writes `bytes` again and again until the other side has enough; gives how much it took.
fn pour(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    // Where the other side has closed with a window of none, the system does not say so for long.
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut sent = 0;
    while sent < ENOUGH && stream.write_all(bytes).is_ok() {
        sent += bytes.len();
    }
    sent
}

/// Waits until the other side has closed the connection: one that does not read takes no more either.
#[track_caller]
fn is_cut(stream: &mut TcpStream) {
    let pause = Some(Duration::from_millis(100));
    stream.set_read_timeout(pause).unwrap();
    wait_for("the connection is closed", || {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
            Ok(_) => false,
        }
    });
}

/// One message of ever more frames, small ones and large ones, at both ports.
#[test]
fn endless_multipart() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = (vec![started(&cluster), started(&cluster)], node(&cluster));
    let ports = [(cluster.uri(), "SUB"), (cluster.sync_uri(), "DEALER")];
    let mut siege = Siege::begin("endless multipart", &mut cluster, honest);
    // Of an empty frame libzmq holds up to 32 times its bytes, and on a loaded machine it has many of
    // them before it is noticed; were it not, this would be 14 GB.
    siege.room_kb = 1 << 20;
    for (uri, kind) in ports {
        for size in [0, 900] {
            let mut stream = connect(&uri, kind);
            let sent = pour(&mut stream, &frame(MORE, &vec![0; size]).repeat(64));
            assert!(sent < ENOUGH, "{kind}: {sent} bytes were taken");
            is_cut(&mut stream);
            siege.goes_on();
        }
    }
    siege.ends(newcomer);
    let said = Said(cluster.host.stop(crate::rig::PATIENCE));
    assert_eq!(said.count("connections_unruly_total"), 2, "{}", said.0);
    assert_eq!(said.count("sync_connections_unruly_total"), 2, "{}", said.0);
}

/// Messages that do not end, none longer than it may be, of many.
#[test]
fn parts_of_messages_on_many_connections() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = (vec![started(&cluster), started(&cluster)], node(&cluster));
    let sync_uri = cluster.sync_uri();
    let mut siege = Siege::begin("parts of messages", &mut cluster, honest);
    // Of all that libzmq holds 32 times the bytes, and takes in more until it is looked at again; without a bound
    // it were 2.6 GB.
    siege.room_kb = 1 << 20;
    let part = [MORE, 0].repeat(200 << 10);
    let streams: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(&sync_uri, "DEALER");
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            // It may be ended meanwhile.
            let _ = stream.write_all(&part);
            stream
        })
        .collect();
    siege.goes_on();
    let ended = |siege: &Siege<'_>| count(siege.cluster, "sync", "sync_connections_unruly_total");
    wait_for("some are ended", || ended(&siege) >= 100);
    // They may only have been in the middle of a message.
    let out = count(siege.cluster, "sync", "sync_addresses_kept_out_total");
    assert_eq!(out, 0);
    siege.ends(newcomer);
    drop(streams);
    cluster.host.stop(PATIENCE);
}

/// Messages that are larger than they may be, or say so.
#[test]
fn oversize() {
    let mut cluster = Cluster::running("");
    let (honest, newcomer) = (vec![started(&cluster), started(&cluster)], node(&cluster));
    let ports = [(cluster.uri(), "SUB"), (cluster.sync_uri(), "DEALER")];
    let mut siege = Siege::begin("oversize", &mut cluster, honest);
    let subscription = [&[1], &[b'x'; 1 << 20][..]].concat();
    let mut stream = connect(&ports[0].0, "SUB");
    let sent = pour(&mut stream, &frame(0, &subscription));
    assert!(sent < ENOUGH, "a subscription of a megabyte, {sent} bytes");
    is_cut(&mut stream);
    siege.goes_on();
    for (uri, kind) in ports {
        for length in [4 << 20, 1 << 32, 1 << 40, u64::MAX >> 1, u64::MAX] {
            let mut stream = connect(&uri, kind);
            let header = [&[LONG], &length.to_be_bytes()[..]].concat();
            stream.write_all(&header).unwrap();
            let sent = pour(&mut stream, &[0; 1 << 16]);
            assert!(sent < ENOUGH, "{kind}, {length}: {sent} bytes were taken");
            is_cut(&mut stream);
        }
        siege.goes_on();
    }
    siege.ends(newcomer);
    cluster.host.stop(crate::rig::PATIENCE);
}

/// libzmq takes from the peer what nobody else says of it, and so its name too.
#[test]
fn names_of_their_own() {
    let mut cluster = Cluster::running("");
    let named = |uri: &str, kind: &str| {
        let user = ("User-Id", "forged\nline#7");
        connect_with(uri, &[("Socket-Type", kind), user], stranger())
    };
    let mut stream = named(&cluster.uri(), "SUB");
    stream.write_all(&short(b"no subscription")).unwrap();
    let mut other = named(&cluster.sync_uri(), "DEALER");
    let (mut ahead, incarnation) = (Vec::new(), count(&cluster, "service", "incarnation"));
    let heads = Request::Heads {
        incarnation,
        topics: vec![("t1".into(), 1 << 40)],
    };
    request::encode(1, &heads, &mut ahead);
    other.write_all(&frame(0, &ahead)).unwrap();
    wait_for("both were heard", || {
        count(&cluster, "service", "connections_unruly_total") == 1
            && count(&cluster, "sync", "sync_beyond_total") == 1
    });
    let said = cluster.host.stop(PATIENCE);
    assert!(said.contains("an agent at 127.66."), "{said}");
    assert!(
        !said.contains("forged") && !said.contains("node \""),
        "{said}"
    );
}
