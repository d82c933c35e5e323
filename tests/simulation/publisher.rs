//! A publisher as the history and the service's thread of the real one behave: version, stamp,
//! journal, then send; a hello that lists what moved since the one before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fanfare::agent::recovery::Life;
use fanfare::event::hello::{Hello, topic_hash};
use fanfare::event::{Event, Stamp};

use crate::service::Service;

/// An object: its key, and the topic it is on for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub key: String,
    pub topic: &'static str,
    /// Only this publisher is told of its changes, and may forget that it is gone.
    pub owner: Option<usize>,
}

/// A new state of an object; the version is the writer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub object: Object,
    pub version: u64,
    pub value: Option<String>,
}

/// A stamped write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub write: Write,
    pub stamp: Stamp,
}

impl Sent {
    pub fn event(&self) -> Event<'_> {
        let Write { object, value, .. } = &self.write;
        let event = match value {
            Some(value) => Event::set("lport", &object.key, value),
            None => Event::delete("lport", &object.key),
        };
        Event {
            stamp: Some(self.stamp),
            ..event.on(object.topic)
        }
    }
}

/// What is on the disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub head: u64,
    pub rows: BTreeMap<Object, Sent>,
    pub heads: BTreeMap<&'static str, u64>,
}

/// A seq that no life of a publisher reaches from the one before.
const LEAP: u64 = 1 << 40;

#[derive(Debug)]
pub struct Publisher {
    pub index: usize,
    pub up: bool,
    pub incarnation: u64,
    pub complete_since: u64,
    pub disk: Disk,
    pub journal: VecDeque<Sent>,
    max_events: usize,
    max_recent: usize,
    /// Whether it has a sync service.
    pub serves: bool,
    /// Whether it says no hello and stamps nothing: nobody can know what it sent.
    pub legacy: bool,
    /// Whether no agent can read its hellos, as where it is of a later version.
    pub garbles: bool,
    /// An earlier state of the disk: what is left when its end is lost.
    pub image: Disk,
    said: Option<u64>,
    recent: BTreeMap<u64, u64>,
    pub hello_due: Duration,
    hello_last: Option<Duration>,
    pub service: Service,
}

pub const HELLO_INTERVAL: Duration = Duration::from_secs(1);
pub const MAX_IDLE_TIME: Duration = Duration::from_secs(5);
const JOIN_SPACING: Duration = Duration::from_millis(100);

impl Publisher {
    pub fn new(index: usize, max_events: usize, max_recent: usize) -> Self {
        Publisher {
            index,
            up: true,
            incarnation: 10,
            complete_since: 10,
            disk: Disk::default(),
            journal: VecDeque::new(),
            max_events,
            max_recent,
            serves: true,
            legacy: false,
            garbles: false,
            image: Disk::default(),
            said: None,
            recent: BTreeMap::new(),
            hello_due: Duration::ZERO,
            hello_last: None,
            service: Service::default(),
        }
    }

    pub fn id(&self) -> [u8; 16] {
        [self.index as u8 + 1; 16]
    }

    pub fn life(&self) -> Life {
        Life {
            publisher: self.id(),
            incarnation: self.incarnation,
        }
    }

    pub fn topic_head(&self, topic: &str) -> u64 {
        self.disk.heads.get(topic).copied().unwrap_or(0)
    }

    /// The topics that it has rows of.
    pub fn topics(&self) -> BTreeSet<&'static str> {
        self.disk.rows.keys().map(|object| object.topic).collect()
    }

    /// Takes a write; `None` when a higher version is known.
    pub fn accept(&mut self, write: Write) -> Option<Sent> {
        let known = self.disk.rows.get(&write.object);
        if known.is_some_and(|known| known.write.version >= write.version) {
            return None;
        }
        self.disk.head += 1;
        let seq = self.disk.head;
        let stamp = Stamp {
            publisher: self.id(),
            incarnation: self.incarnation,
            seq,
            prev: self.disk.heads.insert(write.object.topic, seq).unwrap_or(0),
            version: write.version,
            unix_micros: 1,
        };
        let sent = Sent { write, stamp };
        self.disk
            .rows
            .insert(sent.write.object.clone(), sent.clone());
        self.journal.push_back(sent.clone());
        self.recent.insert(topic_hash(sent.write.object.topic), seq);
        Some(sent)
    }

    /// Keeps the journal within its bound; says whether something was removed.
    pub fn trim(&mut self) -> bool {
        let over = self.journal.len().saturating_sub(self.max_events);
        self.journal.drain(..over);
        over > 0
    }

    /// Forgets that objects are gone, as after the time to live of their tombstones: those that no
    /// other publisher knows of.
    pub fn forget_tombstones(&mut self) -> bool {
        let before = self.disk.rows.len();
        let keep =
            |object: &Object, row: &mut Sent| row.write.value.is_some() || object.owner.is_none();
        self.disk.rows.retain(keep);
        self.disk.rows.len() < before
    }

    pub fn sent_events(&mut self, now: Duration) {
        self.hello_due = self.hello_due.min(now + HELLO_INTERVAL);
    }

    pub fn joined(&mut self, now: Duration) {
        let earliest = self
            .hello_last
            .map_or(now, |last| now.max(last + JOIN_SPACING));
        self.hello_due = self.hello_due.min(earliest);
    }

    /// Says hello.
    pub fn hello(&mut self, now: Duration) -> Hello {
        let overflow = self.recent.len() > self.max_recent;
        let recent = std::mem::take(&mut self.recent);
        self.hello_last = Some(now);
        self.hello_due = now + MAX_IDLE_TIME;
        Hello {
            publisher: self.id(),
            incarnation: self.incarnation,
            head: self.disk.head,
            floor: self
                .journal
                .front()
                .map_or(self.disk.head + 1, |first| first.stamp.seq),
            unix_micros: 1,
            since: self.said.replace(self.disk.head).unwrap_or(self.disk.head),
            sync_endpoint: match self.serves {
                true => format!("tcp://{}", self.index),
                false => String::new(),
            },
            authoritative: false,
            recent: recent.into_iter().take(self.max_recent).collect(),
            overflow,
        }
    }

    /// A process ends; what is not on the disk is gone.
    pub fn stop(&mut self) {
        self.up = false;
        self.said = None;
        self.recent.clear();
        self.service = Service::default();
    }

    /// Starts where it ended.
    pub fn start(&mut self, now: Duration) {
        self.up = true;
        self.hello_last = None;
        self.hello_due = now;
    }

    /// The disk is lost.
    pub fn lose_all(&mut self) {
        self.begin(Disk::default());
    }

    /// The end of the disk is lost.
    pub fn lose_end(&mut self) {
        let mut disk = self.image.clone();
        disk.head += LEAP;
        self.begin(disk);
    }

    fn begin(&mut self, disk: Disk) {
        self.incarnation += 7;
        self.complete_since = self.incarnation;
        self.journal.clear();
        self.image = disk.clone();
        self.disk = disk;
    }
}
