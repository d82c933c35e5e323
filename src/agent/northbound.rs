//! The northbound store, read where a publisher says no hello: what such a publisher sent and the agent
//! missed is nowhere else.
//!
//! A thread of its own reads all rows, since a store may take its time. They are compared with the
//! replica's: a row that was heard of meanwhile, be it gone again or as it was, is newer than what was
//! read. Rows with a stamp are left alone, as their publisher has them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Deserialize;

use super::follower::Rows;
use super::recovery::Sweep;
use crate::dispatch::{Heard, Hub};
use crate::event::{Event, EventBatch, SEND_ALL};
use crate::handler::SyncReason;
use crate::replica::{Replica, RowKey};
use crate::store::{NbStore, StoreError};
use crate::util::pulse::Pulse;
use crate::util::thread::Thread;

crate::metrics! {
    /// What reading the northbound store counts.
    pub struct NorthboundMetrics {
        reads_total: Counter = "Times all rows of the northbound store were read.",
        reads_failed_total: Counter = "Times it could not be read.",
        reads_empty_total: Counter = "Times it had no row at all, which is not believed.",
        rows_changed_total: Counter = "Rows taken over because the replica had another state of them.",
        rows_removed_total: Counter = "Rows removed because the store does not have them.",
    }
}

/// Opens the store: before each reading, so that an agent keeps no hold of it.
pub type Open = Box<dyn Fn() -> Result<Arc<dyn NbStore>, StoreError> + Send>;

/// A northbound store to be read.
pub struct Options {
    /// How it is opened.
    pub open: Open,
    /// Whether each row stands on the topic that it names. Where distribution is not selective all stand
    /// on [`SEND_ALL`], on which everything is sent then.
    pub selective: bool,
}

/// Rows compared under the hub's lock at once.
const SLICE: usize = 256;

/// How long `Drop` waits for the thread, which a store may hold up.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is to be read.
struct Asked {
    reason: SyncReason,
    topics: Vec<Arc<str>>,
}

/// An agent's rows, which are compared with the northbound store before handlers start over. Dropping
/// it ends its thread.
pub struct Northbound {
    hub: Arc<Hub>,
    asked: Sender<Asked>,
    thread: Thread,
    pulse: Arc<Pulse>,
    selective: Arc<AtomicBool>,
    /// What it counts.
    pub metrics: Arc<NorthboundMetrics>,
}

impl Northbound {
    /// Starts the thread that reads.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(hub: &Arc<Hub>, options: Options) -> std::io::Result<Self> {
        // One that waits covers all that ask meanwhile.
        let (asked, inbox) = bounded(1);
        let metrics = Arc::<NorthboundMetrics>::default();
        let pulse = Arc::<Pulse>::default();
        let selective = Arc::new(AtomicBool::new(options.selective));
        let reader = Reader {
            hub: Arc::clone(hub),
            open: options.open,
            selective: Arc::clone(&selective),
            inbox,
            pulse: Arc::clone(&pulse),
            metrics: Arc::clone(&metrics),
        };
        Ok(Northbound {
            hub: Arc::clone(hub),
            asked,
            thread: Thread::spawn("northbound", move || reader.run())?,
            pulse,
            selective,
            metrics,
        })
    }

    /// From the next reading on rows stand where [`Options::selective`] says.
    pub fn set_selective(&self, selective: bool) {
        self.selective.store(selective, Ordering::Relaxed);
    }

    /// Whether its thread runs; one that has ended does not begin again.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Whether its thread gets on.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

impl Drop for Northbound {
    fn drop(&mut self) {
        (self.asked, _) = bounded(0);
        if !self.thread.join_by(Instant::now() + PATIENCE) {
            log::warn!("the northbound store is still being read: left behind");
        }
    }
}

impl Rows for Northbound {
    fn sweep(&self, sweep: Sweep) -> u64 {
        Rows::sweep(&*self.hub, sweep)
    }

    fn topics(&self, topics: Vec<Arc<str>>) {
        Rows::topics(&*self.hub, topics);
    }

    fn open(&self, reason: SyncReason) {
        Rows::open(&*self.hub, reason);
    }

    fn resync(&self, reason: SyncReason, topics: Vec<Arc<str>>) {
        match self.asked.try_send(Asked { reason, topics }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                log::debug!("the northbound store is about to be read anyway");
            }
            Err(TrySendError::Disconnected(_)) => {
                log::error!(
                    "the thread that reads the northbound store has ended, restart the agent: handlers \
                     start over with the rows that were heard of"
                );
                self.hub.resync(reason);
            }
        }
    }

    fn has_store(&self) -> bool {
        true
    }
}

/// The thread.
struct Reader {
    hub: Arc<Hub>,
    open: Open,
    selective: Arc<AtomicBool>,
    inbox: Receiver<Asked>,
    pulse: Arc<Pulse>,
    metrics: Arc<NorthboundMetrics>,
}

/// A row of the store: its value, and the topic it stands on.
struct Stored {
    value: String,
    topic: String,
}

impl Reader {
    fn run(self) {
        for asked in &self.inbox {
            self.pulse.beat();
            self.metrics.reads_total.inc();
            // Until the rows are merged.
            let hearing = self.hub.hear();
            let before = before(&self.hub);
            match self.read() {
                Ok(stored) if stored.is_empty() => {
                    self.metrics.reads_empty_total.inc();
                    log::warn!("the northbound store is empty: no row is removed for that");
                }
                Ok(stored) => self.merge(&before, &stored, &asked.topics),
                Err(error) => {
                    self.metrics.reads_failed_total.inc();
                    log::warn!("handlers start over with the rows that were heard of: {error}");
                }
            }
            drop(hearing);
            self.hub.resync(asked.reason);
            self.pulse.rest();
        }
    }

    fn read(&self) -> Result<HashMap<RowKey, Stored>, StoreError> {
        let store = (self.open)()?;
        let selective = self.selective.load(Ordering::Relaxed);
        let mut stored = HashMap::new();
        for table in store.tables()? {
            for key in store.keys(&table)? {
                self.pulse.beat();
                // One that is gone by now is gone.
                if let Some(value) = store.get(&table, &key)? {
                    let topic = match selective {
                        true => topic(&value),
                        false => SEND_ALL.to_owned(),
                    };
                    stored.insert(RowKey::new(&table, &key), Stored { value, topic });
                }
            }
        }
        Ok(stored)
    }

    /// Makes the rows that were there `before`, and those that were not, those of the store, but for what
    /// was heard of since.
    fn merge(
        &self,
        before: &HashSet<RowKey>,
        stored: &HashMap<RowKey, Stored>,
        topics: &[Arc<str>],
    ) {
        let wanted = |topic: &str| topics.iter().any(|wanted| **wanted == *topic);
        let stored_here: Vec<_> = stored
            .iter()
            .filter(|(_, row)| wanted(&row.topic))
            .collect();
        for slice in stored_here.chunks(SLICE) {
            self.pulse.beat();
            let changed = self.hub.change(|replica, heard| {
                let mut events = EventBatch::new();
                for (name, row) in slice {
                    if is_as_before(replica, heard, name, before) && !is_same(replica, name, row) {
                        let event = Event::set(&name.table, &name.key, &row.value);
                        events.push(&event.on(&row.topic));
                    }
                }
                events
            });
            self.metrics.rows_changed_total.add(changed as u64);
        }
        let here = |name: &&RowKey| stored.get(*name).is_some_and(|row| wanted(&row.topic));
        let gone: Vec<_> = before.iter().filter(|name| !here(name)).collect();
        for slice in gone.chunks(SLICE) {
            self.pulse.beat();
            let removed = self.hub.change(|replica, heard| {
                let mut events = EventBatch::new();
                for name in slice {
                    // On a topic that was not asked about when this was ordered, nothing is known.
                    if let Some(row) = replica.get(&name.table, &name.key)
                        && wanted(&row.topic)
                        && is_as_before(replica, heard, name, before)
                    {
                        events.push(&Event::delete(&name.table, &name.key).on(&row.topic));
                    }
                }
                events
            });
            self.metrics.rows_removed_total.add(removed as u64);
        }
    }
}

/// The rows that came without a stamp.
fn before(hub: &Hub) -> HashSet<RowKey> {
    let mut rows = HashSet::new();
    let mut cursor = hub.with_replica(Replica::cursor);
    let mut more = true;
    while more {
        more = hub.with_replica(|replica| {
            replica.walk(&mut cursor, SLICE, |name, row| {
                if row.stamp.is_none() {
                    rows.insert(name.clone());
                }
            })
        });
    }
    rows
}

/// Whether the row is one without a stamp, or none, and has been since before.
fn is_as_before(replica: &Replica, heard: &Heard, name: &RowKey, before: &HashSet<RowKey>) -> bool {
    let is_as_before = match replica.get_any(&name.table, &name.key) {
        Some(row) => row.stamp.is_none() && before.contains(name),
        // It may have gone with its topic.
        None => !before.contains(name),
    };
    is_as_before && !heard.holds(name)
}

fn is_same(replica: &Replica, name: &RowKey, stored: &Stored) -> bool {
    replica.get(&name.table, &name.key).is_some_and(|row| {
        row.value.as_deref() == Some(&stored.value) && *row.topic == *stored.topic
    })
}

/// Where a row stands: the member `topic` of its JSON value, as Dragonflow's objects have it.
fn topic(value: &str) -> String {
    #[derive(Deserialize)]
    struct Object {
        topic: Option<String>,
    }
    let object: Option<Object> = serde_json::from_str(value).ok();
    let topic = object.and_then(|object| object.topic);
    topic
        .filter(|topic| !topic.is_empty())
        .unwrap_or_else(|| SEND_ALL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stamp;
    use crate::store::driver::memory::MemoryStore;
    use crate::util::pulse::Watched;
    use crate::util::testing::within;

    struct Rig {
        hub: Arc<Hub>,
        store: MemoryStore,
        northbound: Northbound,
        /// Whether the next reading waits: it tells the one, and is told by the other.
        paused: Arc<AtomicBool>,
        pause: (Receiver<()>, Sender<()>),
    }

    impl Rig {
        fn new(events: &[Event<'_>]) -> Rig {
            let (hub, store) = (Hub::new(), MemoryStore::new());
            hub.publish(events.iter().copied().collect());
            let (opened, paused) = (store.clone(), Arc::<AtomicBool>::default());
            let ((tell, told), (resume, resumed)) = (bounded(0), bounded(0));
            let waits = Arc::clone(&paused);
            // What is read is the same before and after.
            let open: Open = Box::new(move || {
                if waits.swap(false, Ordering::SeqCst) {
                    tell.send(()).unwrap();
                    resumed.recv().unwrap();
                }
                Ok(Arc::new(opened.clone()) as Arc<dyn NbStore>)
            });
            let options = Options {
                open,
                selective: true,
            };
            Rig {
                northbound: Northbound::start(&hub, options).unwrap(),
                hub,
                store,
                paused,
                pause: (told, resume),
            }
        }

        fn resync(&self) {
            let before = self.hub.metrics.resyncs_asked_total.get();
            self.northbound
                .resync(SyncReason::Requested, vec!["D".into(), "t1".into()]);
            within("handlers start over", || {
                self.hub.metrics.resyncs_asked_total.get() > before
            });
        }

        /// Has `meanwhile` happen after the rows were noted and the store was read.
        fn resync_while(&self, meanwhile: impl FnOnce()) {
            let (asked, resumed) = (self.pause.0.clone(), self.pause.1.clone());
            let before = self.hub.metrics.resyncs_asked_total.get();
            self.paused.store(true, Ordering::SeqCst);
            self.northbound
                .resync(SyncReason::Requested, vec!["D".into(), "t1".into()]);
            asked.recv().unwrap();
            meanwhile();
            resumed.send(()).unwrap();
            within("handlers start over", || {
                self.hub.metrics.resyncs_asked_total.get() > before
            });
        }

        fn value(&self, key: &str) -> Option<String> {
            self.hub
                .with_replica(|replica| replica.get("t", key)?.value.clone())
        }
    }

    #[test]
    fn the_replica_ends_with_the_rows_of_the_store() {
        let stamp = Stamp {
            publisher: [1; 16],
            incarnation: 1,
            seq: 1,
            prev: 0,
            version: 1,
            unix_micros: 1,
        };
        let stamped = |key| Event {
            stamp: Some(stamp),
            ..Event::set("t", key, "stamped")
        };
        let rig = Rig::new(&[
            Event::set("t", "old", "1"),
            Event::set("t", "gone", "1").on("t1"),
            Event::set("t", "same", "1"),
            stamped("theirs"),
            stamped("theirs too"),
        ]);
        let elsewhere = r#"{"topic": "t2"}"#;
        let here = r#"{"topic": "t1"}"#;
        for (key, value) in [
            ("old", "2"),
            ("same", "1"),
            ("new", here),
            ("elsewhere", elsewhere),
            ("theirs", "older"),
        ] {
            rig.store.set("t", key, value).unwrap();
        }
        rig.resync();
        assert_eq!(rig.value("old").as_deref(), Some("2"));
        assert_eq!(rig.value("same").as_deref(), Some("1"));
        assert_eq!(rig.value("new").as_deref(), Some(here));
        assert_eq!(rig.value("gone"), None);
        assert_eq!(rig.value("elsewhere"), None);
        for key in ["theirs", "theirs too"] {
            assert_eq!(rig.value(key).as_deref(), Some("stamped"));
        }
        let metrics = &rig.northbound.metrics;
        assert_eq!(metrics.rows_changed_total.get(), 2);
        assert_eq!(metrics.rows_removed_total.get(), 1);
        rig.hub
            .with_replica(|replica| assert_eq!(*replica.get("t", "new").unwrap().topic, *"t1"));
        // Moved to a topic that is not wanted here.
        rig.store.set("t", "new", elsewhere).unwrap();
        rig.resync();
        assert_eq!(rig.value("new"), None);
    }

    /// Everything is sent on `D` then, whatever topic the rows name.
    #[test]
    fn rows_stand_on_one_topic_where_distribution_is_not_selective() {
        let value = r#"{"topic": "tenant"}"#;
        let rig = Rig::new(&[
            Event::set("t", "old", value),
            Event::set("t", "gone", value),
        ]);
        rig.northbound.set_selective(false);
        for key in ["old", "new"] {
            rig.store.set("t", key, value).unwrap();
        }
        rig.resync();
        for key in ["old", "new"] {
            assert_eq!(rig.value(key).as_deref(), Some(value), "{key}");
            rig.hub
                .with_replica(|replica| assert_eq!(*replica.get("t", key).unwrap().topic, *"D"));
        }
        assert_eq!(rig.value("gone"), None);
    }

    #[test]
    fn a_store_that_fails_or_is_empty_removes_nothing_and_handlers_start_over() {
        let rig = Rig::new(&[Event::set("t", "k", "1")]);
        rig.resync();
        assert_eq!(rig.northbound.metrics.reads_empty_total.get(), 1);
        rig.store.set("t", "other", "1").unwrap();
        rig.store.fail_next(100);
        rig.resync();
        assert_eq!(rig.northbound.metrics.reads_failed_total.get(), 1);
        assert_eq!(rig.value("k").as_deref(), Some("1"));
        rig.store.fail_next(0);
        rig.resync();
        assert_eq!(rig.value("k"), None);
    }

    #[test]
    fn what_changed_while_the_store_was_read_is_newer() {
        let rig = Rig::new(&[
            Event::set("t", "changes", "1"),
            Event::set("t", "ends", "1"),
            Event::set("t", "stays", "1"),
        ]);
        let stored = |value: &str| Stored {
            value: value.into(),
            topic: "D".into(),
        };
        let hearing = rig.hub.hear();
        let before = before(&rig.hub);
        let read: HashMap<_, _> = ["changes", "ends", "stays"]
            .map(|key| (RowKey::new("t", key), stored("read")))
            .into();
        rig.hub.publish(
            [
                Event::set("t", "changes", "2"),
                Event::delete("t", "ends"),
                Event::set("t", "comes", "2"),
            ]
            .into_iter()
            .collect(),
        );
        let (_, inbox) = bounded(1);
        let reader = Reader {
            hub: Arc::clone(&rig.hub),
            open: Box::new(|| Ok(Arc::new(MemoryStore::new()) as Arc<dyn NbStore>)),
            selective: Arc::new(AtomicBool::new(true)),
            inbox,
            pulse: Arc::default(),
            metrics: Arc::default(),
        };
        reader.merge(&before, &read, &["D".into()]);
        drop(hearing);
        assert_eq!(rig.value("changes").as_deref(), Some("2"));
        assert_eq!(rig.value("ends"), None);
        assert_eq!(rig.value("comes").as_deref(), Some("2"));
        assert_eq!(rig.value("stays").as_deref(), Some("read"));
    }

    /// Nothing is left in the replica that tells of it, and it may have been read as it was in between.
    #[test]
    fn what_came_and_went_while_the_store_was_read_does_not_come_back() {
        let rig = Rig::new(&[Event::set("t", "back", "a"), Event::set("t", "stays", "1")]);
        let publish = |event: Event<'_>| rig.hub.publish([event].into_iter().collect());
        for (key, value) in [
            ("fleeting", "1"),
            ("back", "b"),
            ("unheard", "1"),
            ("stays", "2"),
        ] {
            rig.store.set("t", key, value).unwrap();
        }
        rig.resync_while(|| {
            publish(Event::set("t", "fleeting", "1"));
            publish(Event::delete("t", "fleeting"));
            publish(Event::set("t", "back", "b"));
            publish(Event::set("t", "back", "a"));
            // Of which nothing was heard before.
            publish(Event::delete("t", "unheard"));
        });
        assert_eq!(rig.value("fleeting"), None);
        assert_eq!(rig.value("back").as_deref(), Some("a"));
        assert_eq!(rig.value("unheard"), None);
        assert_eq!(rig.value("stays").as_deref(), Some("2"));
        // The next reading is another one.
        rig.resync();
        assert_eq!(rig.value("back").as_deref(), Some("b"));
        assert_eq!(rig.value("unheard").as_deref(), Some("1"));
    }

    /// Its thread may wait for the store for ever, and may end with it.
    #[test]
    fn a_store_that_hangs_shows_and_one_that_panics_ends_no_resync() {
        let (hub, (hold, held)) = (Hub::new(), bounded::<()>(0));
        let open: Open = Box::new(move || {
            let _ = held.recv();
            panic!("as a store's code may");
        });
        let options = Options {
            open,
            selective: true,
        };
        let northbound = Northbound::start(&hub, options).unwrap();
        let resync = || northbound.resync(SyncReason::Requested, vec!["D".into()]);
        resync();
        let mut watched = Watched::new(northbound.pulse(), Instant::now());
        within("it is seen at work on one thing", || {
            let now = Instant::now();
            watched.stuck_for(northbound.pulse(), now) > Duration::from_millis(20)
        });
        assert!(northbound.is_running());
        drop(hold);
        within("its thread ends", || !northbound.is_running());
        assert_eq!(hub.metrics.resyncs_asked_total.get(), 0);
        resync();
        assert_eq!(hub.metrics.resyncs_asked_total.get(), 1);
    }
}
