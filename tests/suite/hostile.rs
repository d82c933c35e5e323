//! Peers that are no publishers: whatever they answer, the agent keeps trying, ever more rarely,
//! and is there when a publisher takes the port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanfare::event::hello::{Hello, topic_hash};
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::{Source, SubscriberOptions};
use rustix::process::Signal;

use crate::rig::agent::{live, options, source, start};
use crate::rig::config::{Folder, summary};
use crate::rig::logs;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::tape::Tape;
use crate::rig::zmtp::{MORE, frame, greeting, ready};
use crate::rig::{PATIENCE, at_most, slowness, until, wait_for};

/// A TCP server that says the same to everyone.
struct Server {
    accepted: Arc<std::sync::Mutex<Vec<Instant>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// It sends the parts of the answer, each after something was heard. `hold`: connections stay
    /// open, otherwise they are closed then.
    fn start(port: &Port, answer: Vec<Vec<u8>>, hold: bool) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", port.number)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&accepted), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut held: Vec<TcpStream> = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                seen.lock().unwrap().push(Instant::now());
                stream.set_nonblocking(false).unwrap();
                let limit = Some(Duration::from_millis(100));
                stream.set_read_timeout(limit).unwrap();
                for part in &answer {
                    // Either fails when the peer has gone.
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(part);
                }
                if hold {
                    held.push(stream);
                }
            }
        });
        Server {
            accepted,
            end,
            thread: Some(thread),
        }
    }

    fn accepted(&self) -> Vec<Instant> {
        self.accepted.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Lets an agent meet the server until it has been there five times, then a publisher. `counted` is
/// what must have moved.
fn meet(answer: &[&[u8]], hold: bool, counted: impl Fn(&Source) -> u64) {
    let port = Port::free();
    let server = Server::start(
        &port,
        answer.iter().map(|part| part.to_vec()).collect(),
        hold,
    );
    let tape = Tape::default();
    let options = SubscriberOptions {
        connect_timeout: Duration::from_millis(250),
        ..options()
    };
    let driver = Box::new(ZmqPubSub::new());
    let agent = start(
        driver,
        options,
        &[&port.uri()],
        &["t1"],
        vec![tape.handler()],
    );
    wait_for("the agent tries again and again", || {
        server.accepted().len() >= 5
    });
    let accepted = server.accepted();
    let took = accepted[4] - accepted[0];
    // Half of 20, 40, 80 and 160 ms at least.
    assert!(
        took >= Duration::from_millis(120),
        "five attempts in {took:?}"
    );
    let source = source(&agent, &port.uri());
    wait_for("every attempt is counted", || counted(&source) >= 4);
    let said = logs::with(&port.uri());
    assert!(!said.is_empty(), "nobody was told");
    drop(server);

    let mut publisher = Publisher::bind(&port.uri());
    publisher.has_agent(&["D", "t1"]);
    live(&agent, &port.uri());
    publisher.set("t1", "recovered", "x");
    tape.has("recovered");
    assert_eq!(agent.stop(), 0);
}

fn failed(source: &Source) -> u64 {
    source.metrics.connects_failed_total.get()
}

fn refused(source: &Source) -> u64 {
    source.metrics.refusals_total.get()
}

fn lost(source: &Source) -> u64 {
    source.metrics.disconnects_total.get()
}

#[test]
fn one_that_speaks_http() {
    let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(20);
    meet(&[&answer], true, failed);
}

#[test]
fn one_that_closes_at_once() {
    meet(&[], false, failed);
}

#[test]
fn one_that_says_nothing() {
    meet(&[], true, failed);
}

#[test]
fn one_that_wants_another_mechanism() {
    meet(&[&greeting("BOGUS")], true, refused);
}

#[test]
fn one_that_breaks_off_within_the_greeting() {
    meet(&[&greeting("NULL")[..30]], false, failed);
}

#[test]
fn one_that_breaks_the_protocol_in_the_handshake() {
    meet(&[&greeting("NULL"), &[0xee; 300]], true, refused);
}

/// Here libzmq reports nothing but a lost connection.
#[test]
fn one_that_breaks_the_protocol_in_one_piece_with_the_greeting() {
    let garbage = [greeting("NULL"), ready("PUB"), vec![0xee; 300]].concat();
    meet(&[&garbage], true, refused);
}

#[test]
fn one_that_breaks_the_protocol_after_the_handshake() {
    meet(
        &[&greeting("NULL"), &ready("PUB"), &[0xee; 300]],
        true,
        lost,
    );
}

#[test]
fn one_that_announces_an_endless_message() {
    let header = [2, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    meet(&[&greeting("NULL"), &ready("PUB"), &header], true, lost);
}

#[test]
fn one_that_closes_after_the_handshake() {
    meet(&[&greeting("NULL"), &ready("PUB")], false, lost);
}

#[test]
fn one_that_is_no_publisher() {
    meet(&[&greeting("NULL"), &ready("PUSH")], true, refused);
}

/// What an agent has beside what it holds, and what the allocator keeps of that; bytes.
const ROOM: u64 = 64 << 20;

/// What comes within a second, bytes.
const PACE: usize = 32 << 20;

/// Takes one connection and sends `piece` over and over until it is closed; says how many bytes that
/// were. It is a socket of this kind, without keys.
fn pour(listener: &TcpListener, kind: &str, piece: &[u8]) -> usize {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = until("the agent connects", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(at_most(PATIENCE))).unwrap();
    stream.write_all(&greeting("NULL")).unwrap();
    stream.read_exact(&mut [0; 64]).unwrap();
    stream.write_all(&ready(kind)).unwrap();
    let limit = Some(Duration::from_secs(2));
    stream.set_write_timeout(limit).unwrap();
    let (mut sent, start) = (0, Instant::now());
    while stream.write_all(piece).is_ok() {
        sent += piece.len();
        assert!(
            start.elapsed() < at_most(PATIENCE / 2),
            "{sent} bytes are taken"
        );
        let due = Duration::from_secs_f64(sent as f64 / PACE as f64);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    sent
}

/// Lines of the agent's log that have this in them.
fn said(agent: &Process, what: &str) -> usize {
    let all = agent.err.all();
    all.iter().filter(|line| line.contains(what)).count()
}

/// The agent never had more than `most` bytes beside what it has anyway.
fn has_had(agent: &Process, what: &str, poured: usize, most: usize) {
    let peak = agent.peak_kb();
    let bound = u64::from(slowness()) * ((most as u64 + ROOM) >> 10);
    eprintln!(
        "{what}: {} MB were sent, the agent has {peak} kB at most of {bound}",
        poured >> 20
    );
    assert!(peak < bound, "{peak} kB of {bound}");
}

/// What it sends is held until it ends, so its connection does: again and again, until there is a
/// publisher. It is looked for once a second; what a fast line brings until then is held.
#[test]
fn one_that_sends_a_message_without_end() {
    let (port, folder) = (Port::free(), Folder::new());
    let listener = TcpListener::bind(("127.0.0.1", port.number)).unwrap();
    let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
    let piece = frame(MORE, &[b'x'; 60_000]).repeat(16);
    let poured = (0..2).map(|_| pour(&listener, "PUB", &piece)).sum();
    drop(listener);
    assert!(poured > 32 << 20, "only {poured} bytes");
    let mut publisher = Publisher::bind(&port.uri());
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "recovered", "x");
    folder.has_key("t", "recovered");
    // Eight times the longest message, twice.
    let most = 2 * 8 * (4 << 20);
    has_had(&agent, "a message without end", poured, most + PACE);
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(PATIENCE).success());
    let ended = said(&agent, "a message that does not end");
    assert_eq!(ended, 2, "{}", agent.errors());
    assert!(summary(&agent, " publisher tcp", "disconnects_total") >= 2);
}

/// An agent whose publisher names a sync service that sends `piece` over and over; twice, for it is asked
/// again. Each time the line is closed, for a reason of which this is a part.
fn serve(piece: &[u8], most: usize, why: &str) -> usize {
    let (port, service, folder) = (Port::free(), Port::free(), Folder::new());
    let listener = TcpListener::bind(("127.0.0.1", service.number)).unwrap();
    let mut publisher = Publisher::bind(&port.uri());
    let mut agent = folder.agent(&[&port.uri()], &["t1"], "");
    publisher.subscribed("\u{1}hello\0", 1);
    let hello = Hello {
        publisher: [9; 16],
        incarnation: 1,
        head: 1,
        recent: vec![(topic_hash("t1"), 1)],
        sync_endpoint: service.uri(),
        ..Hello::default()
    };
    let mut payload = Vec::new();
    hello.encode(&mut payload);
    publisher.raw(&[b"\x01hello\0", &payload]);
    let poured = (0..2).map(|_| pour(&listener, "ROUTER", piece)).sum();
    wait_for("the line is closed twice", || said(&agent, why) >= 2);
    has_had(&agent, why, poured, most + PACE);
    agent.signal(Signal::TERM);
    assert!(agent.ends_within(PATIENCE).success());
    assert!(summary(&agent, " recovery tcp", "bad_answers_total") >= 2);
    poured
}

/// The same of a sync service.
#[test]
fn a_sync_service_that_sends_an_answer_without_end() {
    let piece = frame(MORE, &[b'x'; 60_000]).repeat(16);
    // Twice the longest answer, twice.
    let poured = serve(&piece, 4 * (16 << 20), "a message that does not end");
    assert!(poured > 32 << 20, "only {poured} bytes");
}

/// Whole ones would be taken for as long as they come.
#[test]
fn a_sync_service_that_answers_what_nobody_asked() {
    let piece = frame(0, &[b'x'; 60_000]).repeat(16);
    serve(&piece, 4 * (60_000 + (1 << 20)), "nobody asked for");
}
