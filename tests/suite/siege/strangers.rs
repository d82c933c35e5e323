//! Who has no key: garbage, handshakes that are begun and not ended, bytes one by one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Siege;
use crate::rig::site::Site;
use crate::rig::zmtp::greeting;
use crate::rig::{PATIENCE, wait_for};

/// The time between two bytes of who is slow.
const PACE: Duration = Duration::from_millis(60);

/// Half-open handshakes.
const HALF_OPEN: usize = 500;

struct Attack {
    addresses: [String; 2],
}

impl Attack {
    fn connect(&self, number: usize) -> TcpStream {
        let stream = TcpStream::connect(&self.addresses[number % 2]).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Each gets as far as the number says within the first step of the handshake.
    fn half_open(&self, count: usize) -> Vec<TcpStream> {
        let connections = (0..count).map(|number| {
            let mut stream = self.connect(number);
            let greeting = greeting("CURVE");
            let far = [0, 1, 10, 11, 40, 63, 64][number % 7];
            stream.write_all(&greeting[..far]).unwrap();
            stream
        });
        connections.collect()
    }
}

/// Whether the other side has closed a connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn random(len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..))
        .take(len)
        .collect()
}

fn site() -> (Site, Attack) {
    let mut site = Site::new(&["n1", "n2", "n3"]);
    let at = |uri: &str| uri["tcp://".len()..].to_owned();
    let addresses = [at(&site.cluster.uri()), at(&site.sync_uri)];
    site.cluster.host.stop(PATIENCE);
    site.cluster.host.more += "max_connections = 2000\n";
    site.cluster.host.start();
    (site, Attack { addresses })
}

#[test]
fn garbage() {
    let (mut site, attack) = site();
    let (honest, newcomer) = (vec![site.node("n1"), site.node("n2")], site.idle("n3"));
    let mut siege = Siege::begin("garbage", &mut site.cluster, honest);
    let mut sent = 0_u64;
    for round in 0..5 {
        let mut streams = Vec::new();
        for number in 0..40 {
            let mut stream = attack.connect(number);
            // Some begin as they should.
            let start = match number % 4 {
                0 => greeting("CURVE"),
                1 => greeting("NULL"),
                2 => vec![0xff],
                _ => Vec::new(),
            };
            let bytes = [start, random(64 << 10)].concat();
            // It may have had enough of it.
            sent += stream.write(&bytes).unwrap_or(0) as u64;
            streams.push(stream);
        }
        siege.goes_on();
        wait_for("whoever sends garbage is shown out", || {
            streams.retain_mut(|stream| !is_closed(stream));
            streams.is_empty()
        });
        assert!(sent > round * 100_000, "only {sent} bytes");
    }
    siege.ends(newcomer);
    let said = site.stop();
    let refused =
        said.count("handshakes_refused_total") + said.count("sync_handshakes_refused_total");
    assert!(refused >= 50, "{}", said.0);
}

#[test]
fn half_open_handshakes_and_bytes_one_by_one() {
    let (mut site, attack) = site();
    let (honest, newcomer) = (vec![site.node("n1"), site.node("n2")], site.idle("n3"));
    let mut siege = Siege::begin("half-open handshakes", &mut site.cluster, honest);
    let mut streams = attack.half_open(HALF_OPEN);
    let slow: Vec<_> = (0..50).map(|number| attack.connect(number)).collect();
    siege.goes_on();
    // A handshake without a fault, but a byte at a time: time is up before its end.
    let hello = [&[4, 200], &b"\x05HELLO"[..], &[0; 194]].concat();
    let bytes = [greeting("CURVE"), hello].concat();
    let mut bytes = bytes.chunks(1);
    let mut slow: Vec<Option<TcpStream>> = slow.into_iter().map(Some).collect();
    let (begun, mut first, mut round) = (Instant::now(), None, 0);
    wait_for("all of them are shown out", || {
        let byte = bytes.next().expect("it came to the end");
        for place in &mut slow {
            let sends =
                |stream: &mut TcpStream| stream.write_all(byte).is_ok() && !is_closed(stream);
            if place.is_some() && !place.as_mut().is_some_and(sends) {
                *place = None;
                first.get_or_insert(begun.elapsed());
            }
        }
        streams.retain_mut(|stream| !is_closed(stream));
        round += 1;
        if round % 20 == 0 {
            siege.goes_on();
        }
        std::thread::sleep(PACE);
        streams.is_empty() && slow.iter().all(Option::is_none)
    });
    let first = first.unwrap();
    assert!(
        first >= Duration::from_secs(4),
        "one after {first:?}, not for being slow"
    );
    siege.ends(newcomer);
    let said = site.stop();
    let refused =
        said.count("handshakes_refused_total") + said.count("sync_handshakes_refused_total");
    assert!(refused >= HALF_OPEN as u64 / 2, "{}", said.0);
}
