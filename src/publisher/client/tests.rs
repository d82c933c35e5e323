//! Clients against a request socket with a service that loses, delays, is busy and is restarted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tempfile::TempDir;

use super::*;
use crate::publisher::requests::{RequestOptions, Requests, Submitted};
use crate::publisher::submit::{Reply, hole, request_path};
use crate::util::testing::{at_most, patience, within};

/// What a service has made durable: it outlives the service.
#[derive(Default)]
struct Journal {
    last: HashMap<Producer, u64>,
    keys: Vec<(Producer, String)>,
}

/// How the service treats a request, chosen by its running number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Commits and does not answer.
    Mute,
    /// Neither commits nor answers.
    Deaf,
    Busy,
}

/// The service's part: takes requests, keeps them, answers.
fn serve(
    submitted: &Receiver<Submitted>,
    journal: &Mutex<Journal>,
    mood: &mut dyn FnMut() -> Mood,
) {
    for submitted in submitted {
        let mood = mood();
        if mood == Mood::Deaf {
            continue;
        }
        if mood == Mood::Busy {
            submitted.reply.send(Reply::Busy {
                retry_after_ms: 5,
                reason: "disk full".into(),
            });
            continue;
        }
        let mut journal = lock(journal);
        let last = journal.last.get(&submitted.producer).copied();
        if let Some(number) = hole(last, submitted.floor, submitted.first) {
            submitted.reply.send(Reply::Expect { number });
            continue;
        }
        let mut refused = Vec::new();
        for (event, number) in submitted.events.iter().zip(submitted.first..) {
            if event.value == Some("old") {
                refused.push(Refusal {
                    number,
                    code: Code::Older,
                    reason: "version 9 is known".into(),
                });
            } else if last.is_none_or(|last| number > last) {
                journal
                    .keys
                    .push((submitted.producer, event.key.to_owned()));
            }
        }
        let upto = submitted.first + submitted.events.len() as u64 - 1;
        let kept = journal.last.entry(submitted.producer).or_default();
        *kept = upto.max(*kept);
        if mood == Mood::Well {
            submitted.reply.send(Reply::Accepted { upto, refused });
        }
    }
}

/// A service that can be made again on the same path.
struct Service {
    requests: Option<Requests>,
    core: Option<JoinHandle<()>>,
}

impl Service {
    fn start(path: &Path, journal: &Arc<Mutex<Journal>>, mood: fn(u64) -> Mood) -> Self {
        let (sink, submitted) = bounded(4);
        let requests = start(path, sink);
        let journal = Arc::clone(journal);
        let core = std::thread::spawn(move || {
            let mut number = 0;
            serve(&submitted, &journal, &mut || {
                number += 1;
                mood(number)
            });
        });
        Service {
            requests: Some(requests),
            core: Some(core),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(core) = self.core.take() {
            core.join().unwrap();
        }
    }
}

fn start(path: &Path, sink: Sender<Submitted>) -> Requests {
    Requests::start(&zmq::Context::new(), path, &RequestOptions::default(), sink).unwrap()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = request_path(&folder.path().join("p.sock"));
    (folder, path)
}

fn options(path: &Path) -> ClientOptions {
    ClientOptions {
        socket: path.into(),
        resend: Duration::from_millis(200),
        send_timeout: patience(),
        ..ClientOptions::beside("/x".as_ref())
    }
}

fn publish(client: &PublisherClient, from: u64, to: u64) {
    for number in from..=to {
        let key = number.to_string();
        let event = Event::set("t", &key, "v").on("tenant1");
        assert_eq!(client.publish(&event, None).unwrap(), number);
    }
}

/// Every event of `producers` clients, in its client's order, once.
fn check_journal(journal: &Mutex<Journal>, producers: usize, events: u64) {
    let journal = lock(journal);
    assert_eq!(journal.last.len(), producers);
    for producer in journal.last.keys() {
        let own = journal.keys.iter().filter(|(id, _)| id == producer);
        let numbers: Vec<u64> = own.map(|(_, key)| key.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=events));
    }
}

#[test]
fn every_event_once_whatever_the_service_does() {
    let (_folder, path) = folder();
    let journal = Arc::default();
    let mood = |number| match number % 23 {
        3 => Mood::Mute,
        9 => Mood::Deaf,
        15 => Mood::Busy,
        _ => Mood::Well,
    };
    let client = PublisherClient::new(ClientOptions {
        batch_events: 20,
        spool_events: 500,
        ..options(&path)
    });
    for round in 0..5 {
        let _service = Service::start(&path, &journal, mood);
        publish(&client, round * 1000 + 1, round * 1000 + 1000);
        // The service ends with requests on their way, and is not there for a while.
    }
    let _service = Service::start(&path, &journal, |_| Mood::Well);
    let summary = client.flush(patience()).unwrap();
    assert_eq!(summary.pending, 0);
    assert_eq!(summary.acknowledged, 5000);
    check_journal(&journal, 1, 5000);
}

#[test]
fn clients_share_a_service_and_threads_a_client() {
    let (_folder, path) = folder();
    let journal = Arc::default();
    let _service = Service::start(&path, &journal, |_| Mood::Well);
    let context = zmq::Context::new();
    let clients: Vec<_> = (0..2)
        .map(|_| PublisherClient::with_context(options(&path), &context))
        .collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| publish(client, 1, 20_000));
        }
    });
    for client in &clients {
        let summary = client.flush(patience()).unwrap();
        assert_eq!((summary.acknowledged, summary.pending), (20_000, 0));
    }
    check_journal(&journal, 2, 20_000);
    let shared = &clients[0];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    shared.publish(&Event::delete("t", "k"), Some(3)).unwrap();
                }
            });
        }
    });
    assert_eq!(shared.flush(patience()).unwrap().acknowledged, 22_000);
}

#[test]
fn refusals_say_which_and_why() {
    let (_folder, path) = folder();
    let _service = Service::start(&path, &Arc::default(), |_| Mood::Well);
    let client = PublisherClient::new(options(&path));
    client
        .publish(&Event::set("t", "a", "new"), Some(7))
        .unwrap();
    client
        .publish(&Event::set("t", "b", "old"), Some(7))
        .unwrap();
    let summary = client.flush(patience()).unwrap();
    assert_eq!((summary.acknowledged, summary.refused), (1, 1));
    let refusals = client.refusals();
    assert_eq!(refusals.len(), 1);
    assert_eq!((refusals[0].number, refusals[0].code), (2, Code::Older));
    assert_eq!(refusals[0].reason, "version 9 is known");
    assert!(client.refusals().is_empty());
    let bad = client.publish(&Event::set("t", "k", "v").on(""), None);
    assert!(matches!(
        bad,
        Err(ClientError::Event {
            code: Code::Topic,
            ..
        })
    ));
}

#[test]
fn without_a_service_every_wait_is_bounded_and_says_why() {
    let (_folder, path) = folder();
    let client = PublisherClient::new(ClientOptions {
        spool_events: 3,
        send_timeout: Duration::from_millis(50),
        linger: Duration::from_millis(50),
        ..options(&path)
    });
    let begin = Instant::now();
    publish(&client, 1, 3);
    within("it is in trouble", || client.trouble().is_some());
    let error = client.publish(&Event::delete("t", "k"), None).unwrap_err();
    assert!(matches!(error, ClientError::SpoolFull { .. }));
    assert!(
        error
            .to_string()
            .contains("no publisher service at ipc:///"),
        "{error}"
    );
    assert_eq!(client.flush(Duration::ZERO).unwrap().pending, 3);
    assert_eq!(client.close().pending, 3);
    assert!(begin.elapsed() < patience());
    let wrong = PublisherClient::new(options("relative".as_ref()));
    let error = wrong.publish(&Event::delete("t", "k"), None).unwrap_err();
    assert!(matches!(error, ClientError::Start(_)), "{error}");
    assert_eq!(wrong.close(), Summary::default());
}

#[test]
fn a_service_that_comes_late_gets_everything() {
    let (_folder, path) = folder();
    let client = PublisherClient::new(options(&path));
    publish(&client, 1, 100);
    let journal = Arc::default();
    let _service = Service::start(&path, &journal, |_| Mood::Well);
    assert_eq!(client.flush(patience()).unwrap().acknowledged, 100);
    check_journal(&journal, 1, 100);
}

#[test]
fn a_lone_event_is_not_delayed() {
    let (_folder, path) = folder();
    let _service = Service::start(&path, &Arc::default(), |_| Mood::Well);
    let client = PublisherClient::new(options(&path));
    publish(&client, 1, 1);
    client.flush(patience()).unwrap();
    let times = (2..22).map(|number| {
        let begin = Instant::now();
        publish(&client, number, number);
        assert_eq!(client.flush(patience()).unwrap().pending, 0);
        begin.elapsed()
    });
    // Far below every timer of client and service, which are 2 ms and more.
    let fastest = times.min().unwrap();
    assert!(fastest < at_most(Duration::from_millis(2)), "{fastest:?}");
}

#[test]
fn a_full_service_stops_the_reading_and_loses_nothing() {
    let (_folder, path) = folder();
    let (sink, submitted) = bounded(1);
    let requests = start(&path, sink);
    let client = PublisherClient::new(ClientOptions {
        batch_events: 1,
        resend: patience(),
        ..options(&path)
    });
    publish(&client, 1, 50);
    within("one is read", || requests.metrics.requests_total.get() > 0);
    assert_eq!(client.flush(Duration::from_millis(50)).unwrap().pending, 50);
    assert_eq!(requests.metrics.requests_total.get(), 1);
    let journal = Mutex::default();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&submitted, &journal, &mut || Mood::Well));
        assert_eq!(client.flush(patience()).unwrap().pending, 0);
        drop(requests);
    });
    check_journal(&journal, 1, 50);
}

#[test]
fn no_answer_is_lost_to_a_client_that_reads() {
    let (_folder, path) = folder();
    let service = Service::start(&path, &Arc::default(), |_| Mood::Well);
    // One event a request: more answers than libzmq keeps count of.
    let client = PublisherClient::new(ClientOptions {
        batch_events: 1,
        window: crate::publisher::submit::MAX_WINDOW,
        resend: patience(),
        ..options(&path)
    });
    publish(&client, 1, 20_000);
    assert_eq!(client.flush(patience()).unwrap().acknowledged, 20_000);
    let metrics = &service.requests.as_ref().unwrap().metrics;
    assert_eq!(metrics.replies_lost_total.get(), 0);
}

#[test]
fn nothing_is_opened_before_the_first_event() {
    let client = PublisherClient::new(options("/nowhere/p.sock.req".as_ref()));
    assert!(client.running.get().is_none());
    assert_eq!(client.flush(patience()).unwrap(), Summary::default());
    assert_eq!(client.close(), Summary::default());
    let (sink, _submitted) = unbounded();
    let error = Requests::start(
        &zmq::Context::new(),
        "/nowhere/p.sock.req".as_ref(),
        &RequestOptions::default(),
        sink,
    );
    assert!(error.is_err());
}
