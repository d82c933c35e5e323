//! What the followers of all publishers share: where each stands, and when handlers may begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::metrics::RecoveryMetrics;
use super::rows::Rows;
use crate::agent::recovery::{Positions, Standing};
use crate::handler::SyncReason;

/// Publishers whose positions are kept beside those that are followed.
const MAX_KEPT: usize = 64;

/// Longer than any time between two resyncs.
const LONG_AGO: Duration = Duration::from_secs(100_000);

/// One publisher, as seen from outside its reader.
#[derive(Debug)]
pub struct Followed {
    /// What following it counts.
    pub metrics: RecoveryMetrics,
    since: Instant,
    state: Mutex<FollowedState>,
}

#[derive(Debug, Default)]
struct FollowedState {
    standing: Standing,
    forbidden: Vec<Arc<str>>,
    positions: Option<Positions>,
    /// Topics whose rows went, and how often the reader is still to hear of it. What it says of them
    /// until then is of rows that are no more.
    leaving: BTreeMap<Arc<str>, usize>,
}

impl Followed {
    fn new(now: Instant) -> Self {
        Followed {
            metrics: RecoveryMetrics::default(),
            since: now,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, FollowedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.state().standing
    }

    /// Since when it is followed, until it is proved for the first time that everything is here.
    pub fn unproved(&self) -> Option<Instant> {
        self.state().standing.proved.is_none().then_some(self.since)
    }

    /// How far it was followed a second ago or less; the rows are at least as new.
    pub fn positions(&self) -> Option<Positions> {
        self.state().positions.clone()
    }

    /// The topics that the publisher does not let this node have, some of them where they are many.
    pub fn forbidden(&self) -> Vec<Arc<str>> {
        self.state().forbidden.clone()
    }

    pub(super) fn stands(&self, standing: Standing, forbidden: Vec<Arc<str>>) {
        self.metrics.show(&standing);
        let mut state = self.state();
        (state.standing, state.forbidden) = (standing, forbidden);
    }

    pub(super) fn has_come(&self, positions: Option<Positions>) {
        let mut state = self.state();
        if let Some(mut positions) = positions {
            let stays = |(topic, _): &(Arc<str>, u64)| !state.leaving.contains_key(topic);
            positions.topics.retain(stays);
            state.positions = Some(positions);
        }
    }

    /// The rows of `topic` go, and the reader will be told that it is not wanted.
    fn leaves(&self, topic: &Arc<str>) {
        let mut state = self.state();
        *state.leaving.entry(Arc::clone(topic)).or_default() += 1;
        if let Some(positions) = &mut state.positions {
            drop_topic(positions, topic);
        }
    }

    /// The reader was told so.
    pub(super) fn has_left(&self, topic: &str) {
        let mut state = self.state();
        if let Some(times) = state.leaving.get_mut(topic) {
            *times -= 1;
            if *times == 0 {
                state.leaving.remove(topic);
            }
        }
    }
}

fn drop_topic(positions: &mut Positions, topic: &str) {
    positions.topics.retain(|(known, _)| **known != *topic);
}

/// What the followers share.
pub struct Shared {
    rows: Arc<dyn Rows>,
    publishers: Mutex<BTreeMap<String, Arc<Followed>>>,
    /// Publishers that are configured: handlers begin when so many are in sync, and all known.
    expected: AtomicUsize,
    /// When handlers begin with what there is.
    opens_by: Instant,
    open: AtomicBool,
    /// Positions of an earlier life of this program, and of publishers that are not followed any
    /// more.
    kept: Mutex<Vec<Positions>>,
    /// Topics that are subscribed to, the same at all publishers.
    topics: Mutex<BTreeSet<Arc<str>>>,
    /// The last resync that legacy publishers made necessary.
    resynced: Mutex<Instant>,
    /// How often the rows of a topic went.
    forgotten: AtomicU64,
}

impl Shared {
    /// Whoever is behind `rows` waits for `expected` publishers, at most `patience`.
    pub fn new(
        rows: Arc<dyn Rows>,
        expected: usize,
        patience: Duration,
        kept: Vec<Positions>,
    ) -> Self {
        let now = Instant::now();
        // What a store has is not here yet; what was heard of is.
        let resynced = match rows.has_store() {
            true => now.checked_sub(LONG_AGO).unwrap_or(now),
            false => now,
        };
        let shared = Shared {
            rows,
            publishers: Mutex::default(),
            expected: AtomicUsize::new(expected),
            opens_by: now + patience,
            open: AtomicBool::new(false),
            kept: Mutex::new(kept),
            topics: Mutex::default(),
            resynced: Mutex::new(resynced),
            forgotten: AtomicU64::new(0),
        };
        if expected == 0 {
            shared.open(SyncReason::Started);
        }
        shared
    }

    fn publishers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Followed>>> {
        self.publishers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The publishers that are followed, by address.
    pub fn followed(&self) -> Vec<(String, Arc<Followed>)> {
        let publishers = self.publishers();
        let each = publishers.iter();
        each.map(|(uri, followed)| (uri.clone(), Arc::clone(followed)))
            .collect()
    }

    /// A publisher is followed from now on.
    pub(super) fn join(&self, uri: &str) -> Arc<Followed> {
        let followed = Arc::new(Followed::new(Instant::now()));
        self.publishers()
            .insert(uri.to_owned(), Arc::clone(&followed));
        followed
    }

    /// Another address that leads to a publisher with the same id as the one at `uri`.
    pub(super) fn twin(&self, uri: &str, own: &Standing) -> Option<String> {
        let id = own.life?.publisher;
        let publishers = self.publishers();
        let mut others = publishers.iter().filter(|(other, _)| *other != uri);
        let twin = others.find(|(_, other)| {
            let life = other.standing().life;
            life.is_some_and(|life| life.publisher == id)
        });
        twin.map(|(other, _)| other.clone())
    }

    /// A publisher is followed no longer.
    pub(super) fn leave(&self, uri: &str, followed: &Arc<Followed>) {
        let mut publishers = self.publishers();
        let known = publishers.get(uri);
        if !known.is_some_and(|known| Arc::ptr_eq(known, followed)) {
            // Another reader of the same address has begun already, and this one is told nothing.
            return;
        }
        publishers.remove(uri);
        // Under the lock: what is forgotten is forgotten here or there.
        if let Some(positions) = followed.positions() {
            let mut kept = self.kept_positions();
            kept.retain(|other| other.life.publisher != positions.life.publisher);
            kept.push(positions);
            // Addresses that come and go lead to few publishers.
            if kept.len() > MAX_KEPT {
                kept.remove(0);
            }
        }
    }

    /// How far publishers were followed that are not followed now, by this or an earlier life of
    /// this program.
    pub fn kept(&self) -> Vec<Positions> {
        self.kept_positions().clone()
    }

    fn kept_positions(&self) -> MutexGuard<'_, Vec<Positions>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of `topic` are about to go, and readers to be told that it is not wanted: how far it was
    /// followed, by whomever, counts no more.
    pub fn forget(&self, topic: &str) {
        let topic: Arc<str> = topic.into();
        let publishers = self.publishers();
        for followed in publishers.values() {
            followed.leaves(&topic);
        }
        for positions in self.kept_positions().iter_mut() {
            drop_topic(positions, &topic);
        }
        // Last: whoever sees the new number finds no position from before.
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    /// Changes when rows of a topic are about to go: positions that were asked for before it did may be of
    /// rows that are no more.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// How far every publisher was followed that is, or was, followed. The rows are at least as
    /// new.
    pub fn positions(&self) -> Vec<Positions> {
        let mut all: Vec<Positions> = self
            .followed()
            .iter()
            .filter_map(|(_, followed)| followed.positions())
            .collect();
        for kept in self.kept() {
            if !all.iter().any(|p| p.life.publisher == kept.life.publisher) {
                all.push(kept);
            }
        }
        all
    }

    /// When the handlers begin at the latest; `None` when they have.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.open.load(Ordering::Relaxed)).then_some(self.opens_by)
    }

    /// So many publishers are configured from now on: those that were taken away are waited for no longer.
    pub fn expect(&self, publishers: usize, now: Instant) {
        self.expected.store(publishers, Ordering::Relaxed);
        self.look(now);
    }

    /// Lets the handlers begin if it is time. Each follower calls this; to be called as well when one has
    /// left, for there may be no other.
    pub fn look(&self, now: Instant) {
        if self.open.load(Ordering::Relaxed) {
            return;
        }
        let publishers = self.publishers();
        // One that has said no hello so far may only be late: it is waited for as well.
        let standings = publishers.values().map(|followed| followed.standing());
        let in_sync = standings.filter(Standing::is_current).count();
        let expected = self.expected.load(Ordering::Relaxed);
        let all = in_sync >= expected && in_sync == publishers.len();
        drop(publishers);
        if all {
            self.open(SyncReason::Started);
        } else if now >= self.opens_by {
            log::warn!(
                "handlers begin with what there is: {in_sync} of {expected} publishers are in sync"
            );
            self.open(SyncReason::Incomplete);
        }
    }

    fn open(&self, reason: SyncReason) {
        if !self.open.swap(true, Ordering::SeqCst) {
            self.rows.open(reason);
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic is subscribed to, or is not any more.
    pub(super) fn topic(&self, topic: &Arc<str>, wanted: bool) {
        let mut topics = self.topics();
        match wanted {
            true => topics.insert(Arc::clone(topic)),
            false => topics.remove(topic),
        };
    }

    /// All handlers start over, because nothing else shows what a legacy publisher sent; once for
    /// all that ask for it within `every`.
    pub(super) fn resync(&self, reason: SyncReason, every: Duration, now: Instant) {
        let mut last = self.resynced.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(*last) >= every {
            *last = now;
            let topics = self.topics().iter().cloned().collect();
            self.rows.resync(reason, topics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recovery::Life;
    use crate::dispatch::Hub;

    fn positions(id: u8, topics: &[(&str, u64)]) -> Positions {
        let topics = topics.iter().map(|(name, seq)| ((*name).into(), *seq));
        Positions {
            life: Life {
                publisher: [id; 16],
                incarnation: 1,
            },
            topics: topics.collect(),
        }
    }

    fn shared(kept: Vec<Positions>) -> Shared {
        Shared::new(Hub::new(), 0, Duration::ZERO, kept)
    }

    #[test]
    fn what_was_kept_of_a_topic_goes_with_its_rows() {
        let shared = shared(vec![positions(1, &[("t", 100), ("D", 7)])]);
        let followed = shared.join("tcp://b:1");
        followed.has_come(Some(positions(2, &[("t", 9), ("D", 8)])));
        shared.leave("tcp://b:1", &followed);
        shared.forget("t");
        let rest = [positions(1, &[("D", 7)]), positions(2, &[("D", 8)])];
        assert_eq!(shared.kept(), rest);
        assert_eq!(shared.positions(), rest);
    }

    #[test]
    fn a_reader_that_was_not_told_yet_does_not_bring_it_back() {
        let shared = shared(vec![]);
        let followed = shared.join("tcp://a:1");
        let before = positions(1, &[("D", 7), ("t", 100)]);
        let rest = [positions(1, &[("D", 7)])];
        followed.has_come(Some(before.clone()));
        let forgotten = shared.forgotten();
        shared.forget("t");
        assert_ne!(shared.forgotten(), forgotten);
        assert_eq!(shared.positions(), rest);
        // Wanted again and not again, before the reader comes to it.
        shared.forget("t");
        for _ in 0..2 {
            followed.has_come(Some(before.clone()));
            assert_eq!(shared.positions(), rest);
            followed.has_left("t");
        }
        // Loaded again.
        followed.has_come(Some(before.clone()));
        assert_eq!(shared.positions(), [before]);
    }

    /// A checkpoint that still has the position must see the number change, or it would be complete
    /// with a position of rows that went.
    #[test]
    fn it_is_counted_once_positions_are_without_the_topic() {
        let shared = shared(vec![positions(1, &[("t", 100)])]);
        let before = shared.forgotten();
        std::thread::scope(|scope| {
            let kept = shared.kept_positions();
            let forgets = scope.spawn(|| shared.forget("t"));
            // It waits for the positions.
            std::thread::sleep(Duration::from_millis(200));
            assert!(!forgets.is_finished());
            assert_eq!(shared.forgotten(), before, "the position is still there");
            drop(kept);
        });
        assert_ne!(shared.forgotten(), before);
        assert_eq!(shared.positions(), [positions(1, &[])]);
    }

    /// One that was only busy says hello yet, and then everything has still to be loaded.
    #[test]
    fn silence_is_no_proof_that_everything_is_here() {
        let (now, patience) = (Instant::now(), Duration::from_secs(3600));
        let silent = Standing {
            in_sync: true,
            legacy: true,
            ..Standing::default()
        };
        let greeted = Standing {
            legacy: false,
            ..silent
        };
        for (then, at, reason) in [
            (greeted, now, SyncReason::Started),
            (silent, now + patience * 2, SyncReason::Incomplete),
        ] {
            let opened = Arc::<Opened>::default();
            let shared = Shared::new(Arc::clone(&opened) as Arc<dyn Rows>, 1, patience, vec![]);
            let followed = shared.join("tcp://a:1");
            followed.stands(silent, vec![]);
            shared.look(now);
            assert_eq!(*opened.0.lock().unwrap(), [], "it may be late");
            followed.stands(then, vec![]);
            shared.look(at);
            assert_eq!(*opened.0.lock().unwrap(), [reason]);
        }
    }

    /// Notes why handlers began.
    #[derive(Default)]
    struct Opened(Mutex<Vec<SyncReason>>);

    impl Rows for Opened {
        fn sweep(&self, _: crate::agent::recovery::Sweep) -> u64 {
            0
        }

        fn topics(&self, _: Vec<Arc<str>>) {}

        fn open(&self, reason: SyncReason) {
            self.0.lock().unwrap().push(reason);
        }

        fn resync(&self, _: SyncReason, _: Vec<Arc<str>>) {}
    }

    #[test]
    fn publishers_that_were_taken_away_are_not_waited_for() {
        let (now, patience) = (Instant::now(), Duration::from_secs(3600));
        for stay in [1, 0] {
            let opened = Arc::<Opened>::default();
            let shared = Shared::new(Arc::clone(&opened) as Arc<dyn Rows>, 2, patience, vec![]);
            let [a, b] = ["tcp://a:1", "tcp://b:1"].map(|uri| (uri, shared.join(uri)));
            let standing = Standing {
                in_sync: true,
                ..Standing::default()
            };
            a.1.stands(standing, vec![]);
            shared.look(now);
            assert!(
                opened.0.lock().unwrap().is_empty(),
                "the other is waited for"
            );
            for (uri, followed) in [b, a].iter().take(2 - stay) {
                shared.leave(uri, followed);
            }
            shared.expect(stay, now);
            assert_eq!(*opened.0.lock().unwrap(), [SyncReason::Started]);
        }
    }

    #[test]
    fn a_reader_that_was_replaced_keeps_nothing() {
        let shared = shared(vec![]);
        let (old, new) = (shared.join("tcp://a:1"), shared.join("tcp://a:1"));
        old.has_come(Some(positions(1, &[("t", 100)])));
        shared.leave("tcp://a:1", &old);
        assert_eq!((shared.kept(), shared.followed().len()), (vec![], 1));
        shared.leave("tcp://a:1", &new);
        assert_eq!(shared.followed().len(), 0);
    }
}
