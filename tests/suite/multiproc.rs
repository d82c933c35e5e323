//! Workers to the publisher service of their host, over a unix socket.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanfare::event::{Event, EventBatch};
use fanfare::pubsub::driver::zmq::ZmqPubSub;
use fanfare::pubsub::driver::zmq::multiproc::ZmqMultiproc;
use fanfare::pubsub::{Callback, LinkChange, PubSubApi, PubSubError, Source, SubscriberApi};
use serde_json::json;

use crate::rig::agent::{endpoint, options, publisher};
use crate::rig::config::{Folder, PUBLISHER};
use crate::rig::peer::Publisher;
use crate::rig::process::Process;
use crate::rig::{at_most, logs, wait_for};

#[derive(Default)]
struct Heard(Mutex<Vec<(String, String)>>);

impl Callback for Heard {
    fn events(&self, _: &Source, events: EventBatch) {
        let mut heard = self.0.lock().unwrap();
        heard.extend(
            events
                .iter()
                .map(|event| (event.topic_or_all().into(), event.key.into())),
        );
    }

    fn link(&self, _: &Source, _: LinkChange) {}
}

impl Heard {
    fn keys(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        heard.iter().map(|(_, key)| key.clone()).collect()
    }

    #[track_caller]
    fn has(&self, key: &str) {
        wait_for(&format!("{key} arrives"), || {
            self.keys().iter().any(|known| known == key)
        });
    }
}

struct Service {
    subscriber: Box<dyn SubscriberApi>,
    heard: Arc<Heard>,
}

impl Service {
    fn start(uri: &str) -> Service {
        logs::capture();
        let mut subscriber = ZmqMultiproc::new().subscriber(&options()).unwrap();
        subscriber.register_listen_address(&endpoint(uri)).unwrap();
        let heard = Arc::new(Heard::default());
        subscriber
            .initialize(Arc::clone(&heard) as Arc<dyn Callback>)
            .unwrap();
        subscriber.daemonize().unwrap();
        Service { subscriber, heard }
    }

    fn source(&self) -> Arc<Source> {
        self.subscriber.sources().remove(0)
    }

    #[track_caller]
    fn live(&self) {
        let source = self.source();
        wait_for("the service is bound", || source.metrics.live.get() == 1);
    }
}

#[test]
fn what_workers_send_arrives_in_order_whatever_its_topic() {
    let folder = Folder::new();
    let uri = format!("ipc://{}", folder.path("p.sock").display());
    let service = Service::start(&uri);
    service.live();
    let mut workers: Vec<_> = (0..3)
        .map(|_| publisher(&ZmqMultiproc::new(), &uri))
        .collect();
    for worker in &mut workers {
        worker.initialize().unwrap();
    }
    for n in 0..5_000 {
        for (number, worker) in workers.iter_mut().enumerate() {
            let (key, topic) = (format!("w{number}-{n}"), format!("tenant{}", n % 50));
            worker
                .send_event(&Event::set("t", &key, "v").on(&topic), None)
                .unwrap();
        }
    }
    for worker in &mut workers {
        worker.close();
    }
    wait_for("everything arrives", || {
        service.heard.keys().len() == 15_000
    });
    let keys = service.heard.keys();
    for number in 0..3 {
        let prefix = format!("w{number}-");
        let of_worker = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
        assert!(of_worker.eq((0..5_000).map(|n| n.to_string())));
    }
}

#[test]
fn without_a_service_a_worker_is_told_in_time() {
    let folder = Folder::new();
    let uri = format!("ipc://{}", folder.path("p.sock").display());
    let driver = ZmqMultiproc::new();
    let mut worker = publisher(&driver, &uri);
    worker.initialize().unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let error = worker
            .send_event(&Event::set("t", "k", "v"), None)
            .unwrap_err();
        assert!(
            matches!(&error, PubSubError::Busy { uri: at } if *at == uri),
            "{error}"
        );
        let took = begun.elapsed();
        let least = Duration::from_millis(300);
        assert!((least..at_most(3 * least)).contains(&took), "{took:?}");
    }
    // The same worker is heard once the service is there, and again when that has come back.
    for life in 0..2 {
        let mut service = Service::start(&uri);
        service.live();
        let key = format!("life{life}");
        wait_for("the worker reaches the service", || {
            worker.send_event(&Event::set("t", &key, "v"), None).is_ok()
        });
        service.heard.has(&key);
        service.subscriber.close();
    }
}

#[test]
fn a_second_service_is_refused_and_told_who_the_first_is() {
    let folder = Folder::new();
    let path = folder.path("p.sock");
    let uri = format!("ipc://{}", path.display());
    let mut first = Service::start(&uri);
    first.live();
    let second = Service::start(&uri);
    let source = second.source();
    wait_for("it is refused again and again", || {
        source.metrics.connects_failed_total.get() >= 2
    });
    assert_eq!(source.metrics.connects_total.get(), 0);
    let us = format!("{uri} is in use by process {}", std::process::id());
    let said = logs::with(&uri);
    assert!(said.iter().any(|line| line.contains(&us)), "{said:?}");
    // Nothing was taken from the first.
    let mut worker = publisher(&ZmqMultiproc::new(), &uri);
    worker.send_event(&Event::set("t", "k", "v"), None).unwrap();
    first.heard.has("k");
    assert!(second.heard.keys().is_empty());
    // It takes over when the first is gone.
    first.subscriber.close();
    second.live();
    // What is pushed while the connection to the first ends may still go there, and be lost.
    wait_for("the worker reaches the second", || {
        let sent = worker.send_event(&Event::set("t", "k2", "v"), None);
        sent.is_ok() && second.heard.keys().iter().any(|key| key == "k2")
    });
}

#[test]
fn a_path_that_another_process_has_is_refused_with_its_number() {
    let folder = Folder::new();
    let path = folder.path("p.sock");
    // Two services that share nothing but the path they bind.
    let config = |name: &str| {
        let at = |file: &str| folder.path(&format!("{name}-{file}"));
        format!(
            "publisher_transport = \"ipc\"\npublisher_bind_address = {path:?}\n\
             publisher_multiproc_socket = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\n",
            at("workers.sock"),
            at("state"),
            at("run"),
        )
    };
    let running = Process::start(folder.command(PUBLISHER, &config("first")));
    running.err.find("it is bound", |line| {
        line.contains("sends on").then_some(())
    });
    let uri = format!("ipc://{}", path.display());
    let mut other = publisher(&ZmqPubSub::new(), &uri);
    match other.initialize() {
        Err(PubSubError::InUse { pid, .. }) => assert_eq!(pid, Some(running.id())),
        other => panic!("{other:?}"),
    }
    let mut second = Process::start(folder.command(PUBLISHER, &config("second")));
    assert_eq!(second.ends_within(Duration::from_secs(5)).code(), Some(1));
    let why = format!("in use by process {}", running.id());
    assert!(second.errors().contains(&why), "{}", second.errors());
}

#[test]
fn an_unchanged_python_worker_feeds_it() {
    let folder = Folder::new();
    let uri = format!("ipc://{}", folder.path("p.sock").display());
    let service = Service::start(&uri);
    service.live();
    let mut worker = Publisher::start(&["--type", "push", "--connect", &uri]);
    worker
        .tell(json!({"op": "series", "topics": ["t1", "t2", "D"], "count": 3_000, "spec": "old"}));
    // Nothing selects by topic here, so an empty one can arrive.
    worker.raw(&[b"", b"\x80"]);
    worker.raw(&[b"t1"]);
    worker.set("t3", "last", "v");
    service.heard.has("last");
    let keys = service.heard.keys();
    assert!(
        keys.iter()
            .take(3_000)
            .cloned()
            .eq((0..3_000).map(|n| format!("k{n}")))
    );
    let source = service.source();
    let counted: Vec<u64> = source.malformed.iter().map(|metric| metric.get()).collect();
    assert_eq!(counted, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(source.metrics.events_foreign_total.get(), 0);
}
