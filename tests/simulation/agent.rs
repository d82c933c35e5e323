//! An agent: a recovery for each address, one replica for all, a checkpoint now and then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use fanfare::agent::recovery::{Life, Options, Positions, Recovery, Sweep};
use fanfare::event::{EventBatch, Stamp};
use fanfare::replica::{Replica, Row, RowKey};
use fastrand::Rng;

use crate::ledger::Ledger;
use crate::network::Conn;

/// Up to which seq all events of a topic were handed on, in each life of each publisher.
pub type Cursors = HashMap<(Life, String), u64>;

pub struct Follower {
    pub recovery: Recovery,
    pub conn: Conn,
    /// Which publisher's service is asked.
    pub endpoint: Option<usize>,
    pub cursors: Cursors,
    /// The last events handed on where they were followed with a hole.
    pub loose: Cursors,
    /// The topics it is subscribed to because the publisher has them.
    pub listed: BTreeSet<&'static str>,
    pub ledger: Ledger,
    /// Whether a snapshot was taken in this run.
    pub loaded: bool,
    /// What the last hello says of topics: it was all there by then.
    pub promised: Option<(Life, BTreeMap<&'static str, u64>)>,
    pub tick_at: Option<Duration>,
}

/// What a restarted agent finds.
#[derive(Default)]
pub struct Checkpoint {
    pub positions: Vec<Positions>,
    rows: EventBatch,
}

pub struct Agent {
    pub up: bool,
    /// Which process it is.
    pub run: u64,
    pub wanted: BTreeSet<&'static str>,
    pub replica: Replica,
    pub followers: Vec<Follower>,
    pub checkpoint: Checkpoint,
    pub options: Options,
    /// Whether it lets go of the rows of topics that are not wanted any more.
    pub drops_rows: bool,
    /// Questions asked so far.
    pub asked: u64,
}

impl Agent {
    /// One that is not running yet.
    pub fn new(options: Options, wanted: BTreeSet<&'static str>, drops_rows: bool) -> Self {
        Agent {
            up: false,
            run: 0,
            wanted,
            replica: Replica::new(),
            followers: Vec::new(),
            checkpoint: Checkpoint::default(),
            options,
            drops_rows,
            asked: 0,
        }
    }

    /// A process starts from the checkpoint.
    pub fn start(&mut self, addresses: usize, now: Instant, rng: &mut Rng) {
        self.up = true;
        self.run += 1;
        self.replica = Replica::new();
        for row in self.checkpoint.rows.iter() {
            self.replica.apply(&row, now);
        }
        let kept = &self.checkpoint.positions;
        let mut cursors = Cursors::new();
        for positions in kept {
            for (topic, seq) in &positions.topics {
                cursors
                    .entry((positions.life, topic.to_string()))
                    .or_insert(*seq);
            }
        }
        let epochs: Vec<u64> = match self.followers.as_slice() {
            [] => vec![0; addresses],
            known => known
                .iter()
                .map(|follower| follower.conn.epoch + 1)
                .collect(),
        };
        let follow = |epoch| Follower {
            recovery: Recovery::new(self.options.clone(), kept.clone(), rng.fork()),
            conn: Conn {
                epoch,
                ..Conn::default()
            },
            endpoint: None,
            cursors: cursors.clone(),
            loose: Cursors::new(),
            listed: BTreeSet::new(),
            ledger: Ledger::new(&self.options, kept),
            loaded: false,
            promised: None,
            tick_at: None,
        };
        self.followers = epochs.into_iter().map(follow).collect();
    }

    /// Whether it follows publishers on every topic they have, not only on those it wants.
    pub fn follows_all(&self) -> bool {
        self.options.all_topics > 0
    }

    /// The topics that are followed at an address.
    pub fn topics(&self, slot: usize) -> &BTreeSet<&'static str> {
        match self.follows_all() {
            true => &self.followers[slot].listed,
            false => &self.wanted,
        }
    }

    /// Writes a checkpoint: positions are never ahead of the rows.
    pub fn save(&mut self) {
        let mut positions: Vec<Positions> = Vec::new();
        for follower in &self.followers {
            let new = follower.recovery.positions();
            // Two addresses may just have been exchanged.
            let known = |new: &Positions| positions.iter().any(|old| old.life == new.life);
            positions.extend(new.filter(|new| !known(new)));
        }
        let names = self.replica.keys_any(|_| true);
        let rows = names.iter().map(|name| {
            let row = self.replica.get_any(&name.table, &name.key).unwrap();
            crate::checks::as_event(name, row)
        });
        let rows = rows.collect();
        self.checkpoint = Checkpoint { positions, rows };
    }

    /// Removes what a complete snapshot lacks; says which rows.
    pub fn sweep(&mut self, sweep: &Sweep, now: Instant) -> Vec<(RowKey, Stamp)> {
        let goes = |row: &Row, key: &str| {
            !row.is_tombstone() && sweep.ends(&RowKey::new("lport", key), row)
        };
        self.remove(goes, now)
    }

    pub fn remove(
        &mut self,
        goes: impl Fn(&Row, &str) -> bool,
        now: Instant,
    ) -> Vec<(RowKey, Stamp)> {
        let names = self.replica.keys_any(|_| true);
        let mut kept = Replica::new();
        let mut removed = Vec::new();
        for name in &names {
            let row = self.replica.get_any(&name.table, &name.key).unwrap();
            if goes(row, &name.key) {
                removed.push((name.clone(), row.stamp.unwrap_or_default()));
            } else {
                kept.apply(&crate::checks::as_event(name, row), now);
            }
        }
        if !removed.is_empty() {
            self.replica = kept;
        }
        removed
    }
}
