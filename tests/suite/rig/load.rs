//! What is published, and what it leaves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare::event::Event;
use fanfare::publisher::client::{ClientError, PublisherClient, Summary};
use serde_json::Value;

use super::{PATIENCE, at_most, wait_for, within};

/// Publishes an event, as soon as there is room for it.
#[track_caller]
pub fn send(client: &PublisherClient, event: &Event<'_>) {
    within(
        PATIENCE * 9,
        "there is room for an event",
        || match client.publish(event, None) {
            Ok(_) => Some(()),
            Err(ClientError::SpoolFull { .. }) => None,
            Err(error) => panic!("{error}"),
        },
    );
}

/// Publishes `{"n": number}` as rows `k<number % keys>` of table `t`.
#[track_caller]
pub fn publish(client: &PublisherClient, topic: &str, numbers: Range<u64>, keys: u64) {
    for n in numbers {
        let (key, value) = (format!("k{}", n % keys), format!("{{\"n\": {n}}}"));
        send(client, &Event::set("t", &key, &value).on(topic));
    }
}

/// Waits until everything is acknowledged.
#[track_caller]
pub fn flush(client: &PublisherClient) -> Summary {
    let summary = client.flush(at_most(PATIENCE * 4)).unwrap();
    assert_eq!((summary.pending, summary.refused), (0, 0), "{summary:?}");
    summary
}

/// What [`publish`] of `0..count` leaves.
pub fn rows(count: u64, keys: u64) -> BTreeMap<String, Value> {
    (count.saturating_sub(keys)..count)
        .map(|n| (format!("k{}", n % keys), serde_json::json!({ "n": n })))
        .collect()
}

/// A worker that publishes until it is told to end.
pub struct Load {
    pub client: Arc<PublisherClient>,
    first: u64,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Events that a load publishes at once.
const STROKE: u64 = 20;

impl Load {
    /// Publishes numbers from `first` on, twenty in each `pace`.
    pub fn start(
        client: PublisherClient,
        topic: &'static str,
        first: u64,
        keys: u64,
        pace: Duration,
    ) -> Load {
        let client = Arc::new(client);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(first));
        let sent = Arc::new(sent);
        let thread = {
            let (client, stop, sent) = (Arc::clone(&client), Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = sent.load(Ordering::Relaxed);
                    publish(&client, topic, next..next + STROKE, keys);
                    sent.store(next + STROKE, Ordering::Relaxed);
                    std::thread::sleep(pace);
                }
            })
        };
        Load {
            client,
            first,
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Publishes rows with keys of their own on `t1`, as fast as `client` takes them.
    pub fn flat_out(client: PublisherClient) -> Load {
        Load::start(client, "t1", 0, u64::MAX, Duration::ZERO)
    }

    /// Numbers published so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn acknowledged(&self) -> u64 {
        self.client.summary().acknowledged
    }

    /// Waits until so many more events are acknowledged.
    #[track_caller]
    pub fn gets_on(&self, events: u64) {
        let wanted = self.acknowledged() + events;
        wait_for("events are acknowledged", || self.acknowledged() >= wanted);
    }

    /// Ends it; all is acknowledged then. Gives how many numbers were published.
    #[track_caller]
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let sent = self.sent.load(Ordering::Relaxed);
        assert_eq!(flush(&self.client).acknowledged, sent - self.first);
        sent
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
