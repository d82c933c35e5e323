//! What was recorded off the wire is worth nothing to whoever sends it again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::rig::load::rows;
use crate::rig::port::Port;
use crate::rig::site::Site;
use crate::rig::{PATIENCE, wait_for};

/// A man in the middle: it passes on and records, or plays what it has recorded.
struct Middle {
    shared: Arc<Shared>,
    port: Port,
}

struct Shared {
    to: SocketAddr,
    /// What clients and what the server sent on the first connection.
    recorded: [Mutex<Vec<u8>>; 2],
    connections: AtomicUsize,
    replay: AtomicBool,
    replayed: AtomicUsize,
    end: AtomicBool,
}

impl Middle {
    fn before(uri: &str) -> Middle {
        let port = Port::free();
        let listener = TcpListener::bind(("127.0.0.1", port.number)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            to: uri["tcp://".len()..].parse().unwrap(),
            recorded: Default::default(),
            connections: AtomicUsize::new(0),
            replay: AtomicBool::new(false),
            replayed: AtomicUsize::new(0),
            end: AtomicBool::new(false),
        });
        let of = Arc::clone(&shared);
        std::thread::spawn(move || {
            while !of.end.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => of.serve(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Middle { shared, port }
    }

    fn recorded(&self, side: usize) -> Vec<u8> {
        self.shared.recorded[side].lock().unwrap().clone()
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, mut client: TcpStream) {
        client.set_nonblocking(false).unwrap();
        if self.replay.load(Ordering::SeqCst) {
            let mut bytes = self.recorded[1].lock().unwrap().clone();
            // Either fails when the node has had enough of it.
            let _ = client.write_all(&bytes);
            client
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let _ = client.read_to_end(&mut bytes);
            self.replayed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        // The publisher may be down: then so is this.
        let Ok(server) = TcpStream::connect(self.to) else {
            return;
        };
        let record = self.connections.fetch_add(1, Ordering::SeqCst) == 0;
        let ends = [
            (client.try_clone().unwrap(), server.try_clone().unwrap()),
            (server, client),
        ];
        for (side, (mut from, mut to)) in ends.into_iter().enumerate() {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    if record {
                        let mut recorded = shared.recorded[side].lock().unwrap();
                        recorded.extend(&buffer[..read]);
                    }
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                // Fails where the other direction has ended first.
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }
}

/// A session of an earlier incarnation, played to the node and to the publisher.
#[test]
fn frames_recorded_from_an_earlier_incarnation_are_worth_nothing() {
    let mut site = Site::new(&["n1", "n2"]);
    let direct = site.cluster.uri();
    let middle = Middle::before(&direct);
    // Nobody is told of a way around it.
    site.cluster.host.stop(PATIENCE);
    site.cluster.host.more += &format!("publisher_uri = {:?}\n", middle.port.uri());
    site.cluster.host.start();
    let mut node = site.node_of("n1", &middle.port.uri());
    let mut beside = site.node("n2");
    site.cluster.publish("t1", 0..100, 100);
    node.has(&rows(100, 100));
    site.cluster.publish("t1", 100..200, 100);
    node.has(&rows(200, 100));
    let [asked, told] = [middle.recorded(0), middle.recorded(1)];
    assert!(
        asked.len() > 300 && told.len() > 5_000,
        "nothing was recorded"
    );

    // To the node, in the publisher's place; which comes back without its state, so in a new life.
    middle.shared.replay.store(true, Ordering::SeqCst);
    site.cluster.host.kill();
    std::fs::remove_file(site.cluster.host.state_dir.join("publisher.redb")).unwrap();
    wait_for("the node is played the recording", || {
        let lines = node.process.as_ref().unwrap().err.all();
        let refused = lines.iter().filter(|line| line.contains("refused:"));
        refused.count() >= 2
    });
    assert!(middle.shared.replayed.load(Ordering::SeqCst) >= 2);
    site.cluster.host.start();
    site.cluster.publish("t1", 200..300, 100);
    beside.has(&rows(300, 100));
    assert_eq!(node.rows()["t"], rows(200, 100));

    // To the publisher, in the node's place: it gets as far as the second step of the handshake.
    let mut stream = TcpStream::connect(middle.shared.to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    stream.write_all(&asked).unwrap();
    let (mut heard, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
    let until = Instant::now() + PATIENCE;
    let mut next = 300;
    loop {
        // Fails when it has not closed the connection yet, and when it has reset it.
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => heard.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(_) => {
                site.cluster.publish("t1", next..next + 10, 100);
                next += 10;
            }
        }
        assert!(Instant::now() < until, "the connection is not closed");
    }
    // Its greeting and its welcome, which hold no event.
    assert!(
        heard.len() <= 64 + 2 + 168,
        "{} bytes were heard",
        heard.len()
    );
    beside.has(&rows(next, 100));

    // And the node takes up with the publisher as if nothing had been.
    middle.shared.replay.store(false, Ordering::SeqCst);
    node.has(&rows(next, 100));
    let counted = node.stop();
    let count = |name| counted.of(" publisher tcp", name);
    assert_eq!(count("connects_total"), 2);
    assert!(count("connects_failed_total") + count("refusals_total") >= 2);
    assert_eq!(count("messages_malformed_total"), 0);
    assert_eq!(counted.recovery("new_incarnations_total"), 1);
    assert_eq!(counted.recovery("lower_incarnations_total"), 0);
    // The peer beside has lost the publisher once, as all have, and noticed nothing else. It has heard of the
    // other way to it, too.
    let counted = beside.stop();
    let count = |of: &str, name| counted.of(&format!(" {of} {direct}:"), name);
    assert_eq!(count("publisher", "connects_total"), 2);
    assert_eq!(count("publisher", "messages_malformed_total"), 0);
    assert_eq!(count("recovery", "new_incarnations_total"), 1);
    assert_eq!(count("recovery", "lower_incarnations_total"), 0);
    let said = site.stop();
    assert!(said.count("handshakes_refused_total") > 0, "{}", said.0);
}
