//! The request socket against peers that do not keep to the protocol.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use tempfile::TempDir;

use super::*;
use crate::event::{Event, codec};
use crate::publisher::submit::{Answer, Code, Head, Item, Refusal, Reply, encode};
use crate::util::testing::{self, patience, within};

struct Rig {
    _folder: TempDir,
    path: PathBuf,
    context: zmq::Context,
    requests: Requests,
    submitted: Receiver<Submitted>,
}

fn rig(options: &RequestOptions) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.sock.req");
    let context = zmq::Context::new();
    let (sink, submitted) = bounded(8);
    let requests = Requests::start(&context, &path, options, sink).unwrap();
    Rig {
        _folder: folder,
        path,
        context,
        requests,
        submitted,
    }
}

impl Rig {
    fn peer(&self) -> zmq::Socket {
        let socket = self.context.socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(patience().as_millis() as i32).unwrap();
        socket.set_sndtimeo(patience().as_millis() as i32).unwrap();
        socket
            .connect(&format!("ipc://{}", self.path.display()))
            .unwrap();
        socket
    }

    fn next(&self) -> Submitted {
        self.submitted.recv_timeout(patience()).unwrap()
    }
}

fn answer(peer: &zmq::Socket) -> Answer {
    Answer::decode(&peer.recv_bytes(0).unwrap()).unwrap()
}

fn request(first: u64, payloads: &[&[u8]]) -> Vec<u8> {
    let head = Head {
        tag: 5,
        producer: [2; 16],
        floor: 1,
        first,
    };
    let items = payloads.iter().map(|payload| Item {
        version: Some(first),
        payload,
    });
    let mut out = Vec::new();
    encode(&head, items, usize::MAX, &mut out);
    out
}

fn wire(event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(event, &mut out);
    out
}

fn accept(submitted: Submitted) {
    let upto = submitted.first + submitted.events.len() as u64 - 1;
    let refused = Vec::new();
    submitted.reply.send(Reply::Accepted { upto, refused });
}

#[test]
fn bad_events_are_refused_and_the_good_ones_beside_them_taken() {
    let rig = rig(&RequestOptions {
        max_event: 200,
        ..RequestOptions::default()
    });
    let peer = rig.peer();
    let good = Event::set("t", "k", "v").on("x");
    let payloads = [
        wire(&good),
        b"garbage".to_vec(),
        wire(&Event::set("t", "k", "v").on("\u{1}hello")),
        wire(&Event::set("t", "k", &"v".repeat(200))),
        wire(&Event::delete("", "k")),
        wire(&Event::delete("t", "k")),
    ];
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    peer.send(request(4, &payloads), 0).unwrap();
    let submitted = rig.next();
    assert_eq!((submitted.floor, submitted.first), (1, 4));
    assert_eq!(submitted.producer, [2; 16]);
    assert_eq!(submitted.versions, [Some(4); 6]);
    assert_eq!(submitted.events.len(), 6);
    assert_eq!(submitted.events.get(0), Some(good));
    assert_eq!(submitted.events.get(1).unwrap().table, "");
    let theirs = Refusal {
        number: 5,
        code: Code::NotARow,
        reason: "the service's own".into(),
    };
    submitted.reply.send(Reply::Accepted {
        upto: 9,
        refused: vec![theirs],
    });
    let answer = answer(&peer);
    assert_eq!((answer.tag, answer.first), (5, 4));
    let Reply::Accepted { upto: 9, refused } = answer.reply else {
        panic!("{answer:?}");
    };
    let codes: Vec<_> = refused.iter().map(|r| (r.number, r.code)).collect();
    assert_eq!(
        codes,
        [
            (5, Code::Malformed),
            (6, Code::Topic),
            (7, Code::TooLarge),
            (8, Code::NotARow)
        ]
    );
    assert_eq!(rig.requests.metrics.request_events_refused_total.get(), 4);
}

#[test]
fn what_is_no_request_is_answered_and_ends_nothing() {
    let rig = rig(&RequestOptions::default());
    let peer = rig.peer();
    let good = wire(&Event::delete("t", "k"));
    peer.send("\u{1}", 0).unwrap();
    assert!(matches!(answer(&peer).reply, Reply::Malformed { .. }));
    let mut other = request(1, &[&good]);
    other[0] = 9;
    peer.send(other, 0).unwrap();
    let unsupported = answer(&peer);
    assert_eq!(unsupported.tag, 5);
    assert_eq!(unsupported.reply, Reply::Unsupported { versions: vec![1] });
    peer.send_multipart(["a", "b", "c"], 0).unwrap();
    peer.send("", 0).unwrap();
    assert!(matches!(answer(&peer).reply, Reply::Malformed { .. }));
    peer.send(request(1, &[&good]), 0).unwrap();
    accept(rig.next());
    assert!(matches!(
        answer(&peer).reply,
        Reply::Accepted { upto: 1, .. }
    ));
    assert_eq!(rig.requests.metrics.requests_malformed_total.get(), 4);
}

#[test]
fn a_client_that_never_reads_costs_only_its_own_answers() {
    let rig = rig(&RequestOptions::default());
    let (deaf, well) = (rig.peer(), rig.peer());
    deaf.set_rcvhwm(1).unwrap();
    // Answers with long reasons, so that the kernel's buffers are full soon.
    let payloads = vec![&b"garbage"[..]; 1024];
    let bad = request(1, &payloads);
    let good = request(1, &[&wire(&Event::delete("t", "k"))]);
    let lost = &rig.requests.metrics.replies_lost_total;
    let deadline = testing::deadline();
    while lost.get() < 10 {
        assert!(Instant::now() < deadline, "no answer was ever dropped");
        deaf.send(&bad, 0).unwrap();
        accept(rig.next());
        well.send(&good, 0).unwrap();
        accept(rig.next());
        assert!(matches!(answer(&well).reply, Reply::Accepted { .. }));
    }
}

#[test]
fn an_answer_to_a_client_that_is_gone_is_counted() {
    let rig = rig(&RequestOptions::default());
    let good = request(1, &[&wire(&Event::delete("t", "k"))]);
    let peer = rig.peer();
    let ask = |_| {
        peer.send(&good, 0).unwrap();
        rig.next()
    };
    let mut waiting: Vec<Submitted> = (0..1_000).map(ask).collect();
    drop(peer);
    // That it is gone libzmq sees a moment later, and takes what is for it until then.
    let metrics = &rig.requests.metrics;
    let (sent, lost) = (&metrics.replies_total, &metrics.replies_lost_total);
    let mut answers = 0;
    within("an answer is lost", || {
        if sent.get() + lost.get() == answers && lost.get() == 0 {
            accept(waiting.pop().expect("all were taken"));
            answers += 1;
        }
        lost.get() > 0
    });
    assert_eq!(lost.get(), 1);
    let next = rig.peer();
    next.send(&good, 0).unwrap();
    accept(rig.next());
    assert!(matches!(answer(&next).reply, Reply::Accepted { .. }));
    assert_eq!(lost.get(), 1);
}

#[test]
fn bytes_that_await_an_answer_are_bounded() {
    let rig = rig(&RequestOptions {
        max_waiting: 1000,
        ..RequestOptions::default()
    });
    let peer = rig.peer();
    let big = request(1, &[&wire(&Event::set("t", "k", &"v".repeat(900)))]);
    for _ in 0..3 {
        peer.send(&big, 0).unwrap();
    }
    let (first, second) = (rig.next(), rig.next());
    let early = rig.submitted.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "two are more than the limit");
    accept(first);
    accept(second);
    accept(rig.next());
    for _ in 0..3 {
        answer(&peer);
    }
}

#[test]
fn the_path_is_locked_and_closed_to_others() {
    let rig = rig(&RequestOptions::default());
    let mode = std::fs::metadata(&rig.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (sink, _submitted) = bounded(1);
    let options = RequestOptions::default();
    let second = Requests::start(&rig.context, &rig.path, &options, sink.clone());
    let error = second.err().unwrap().to_string();
    let pid = format!("process {}", std::process::id());
    assert!(error.contains(&pid), "{error}");
    let path = rig.path.clone();
    drop(rig.requests);
    Requests::start(&rig.context, &path, &options, sink).unwrap();
}
