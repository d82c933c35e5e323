//! The questions: what waits to be asked, what is under way, what is to be asked again.
//!
//! What the service wants to be asked later keeps its place among those that may be under way: otherwise
//! one topic after the other would be asked for and told to wait, thousands of times a second, until the
//! service takes the agent for somebody who means harm. To begin a snapshot is waited for apart, since that
//! may take long and costs the service most: what was only missed is replayed meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Options;
use crate::util::backoff::Backoff;

/// What a question is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// What is missing of a topic.
    Topic(Arc<str>),
    /// Which of these topics have moved on.
    Heads(Vec<Arc<str>>),
    /// Which topics there are after this one.
    Topics(String),
}

/// A service that asks for more patience than this is not believed.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// What a question costs the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// A snapshot, or a part of one.
    Load,
    /// Anything else.
    Little,
}

#[derive(Debug)]
struct UnderWay {
    job: Job,
    cost: Cost,
    /// When the answer is given up.
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Asks {
    queue: VecDeque<Job>,
    /// What is to be loaded when those have begun that the service wants to wait.
    loads: VecDeque<Job>,
    /// By tag. Tags rise, and so do the times at which they are given up.
    under_way: BTreeMap<u64, UnderWay>,
    later: Vec<(Instant, Job)>,
    /// What the service wants to be asked later; few more than may be under way.
    held: Vec<(Instant, Job, Cost)>,
    next_tag: u64,
    in_flight: usize,
    timeout: Duration,
    shortest: Duration,
    backoff: Backoff,
}

impl Asks {
    pub fn new(options: &Options, rng: Rng) -> Self {
        Asks {
            queue: VecDeque::new(),
            loads: VecDeque::new(),
            held: Vec::new(),
            under_way: BTreeMap::new(),
            later: Vec::new(),
            next_tag: 1,
            in_flight: options.in_flight.max(1),
            timeout: options.ask_timeout,
            shortest: options.retry_min,
            backoff: Backoff::new(options.retry_min, options.retry_max, rng),
        }
    }

    pub fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    /// What is to be asked next, if another question may be.
    pub fn next(&mut self) -> Option<Job> {
        if self.under_way.len() >= self.in_flight || self.must_wait(Cost::Little) {
            return None;
        }
        let first = self.queue.pop_front();
        first.or_else(|| match self.must_wait(Cost::Load) {
            true => None,
            false => self.loads.pop_front(),
        })
    }

    /// Whether nothing more of this cost is to be asked for now.
    pub fn must_wait(&self, cost: Cost) -> bool {
        let held = self.held.iter().filter(|(.., other)| *other == cost);
        held.count() >= self.in_flight
    }

    /// To be asked as soon as something may be loaded.
    pub fn push_load(&mut self, job: Job) {
        self.loads.push_back(job);
    }

    /// The tag of a question that is asked now.
    pub fn asked(&mut self, job: Job, cost: Cost, now: Instant) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        let until = now + self.timeout;
        self.under_way.insert(tag, UnderWay { job, cost, until });
        tag
    }

    /// What the answer with this tag is for; `None` when nobody waits for it any more.
    pub fn answered(&mut self, tag: u64) -> Option<(Job, Cost)> {
        let asked = self.under_way.remove(&tag)?;
        Some((asked.job, asked.cost))
    }

    /// The service answers what it is asked. Not that it answers at all: one whose snapshots are
    /// always broken must not be asked for them as fast as it can send them.
    pub fn well(&mut self) {
        self.backoff.reset();
    }

    /// Asks again after a while.
    pub fn retry(&mut self, job: Job, now: Instant) {
        let wait = self.backoff.wait();
        self.later.push((now + wait, job));
    }

    /// Asks again after this.
    pub fn retry_in(&mut self, job: Job, wait: Duration, now: Instant) {
        self.later.push((now + wait, job));
    }

    /// Asks again when the service said so.
    pub fn hold(&mut self, job: Job, cost: Cost, wait: Duration, now: Instant) {
        let wait = wait.clamp(self.shortest, self.shortest.max(MAX_PATIENCE));
        self.held.push((now + wait, job, cost));
    }

    /// Nothing that is under way will be answered.
    pub fn all_lost(&mut self, now: Instant) {
        let lost = std::mem::take(&mut self.under_way);
        self.put_off(lost.into_values().map(|asked| asked.job).collect(), now);
    }

    fn put_off(&mut self, jobs: Vec<Job>, now: Instant) {
        if !jobs.is_empty() {
            let at = now + self.backoff.wait();
            self.later.extend(jobs.into_iter().map(|job| (at, job)));
        }
    }

    /// Takes up what was put off until `now`. Where something is not answered, gives up all that is
    /// under way; says how many were late.
    pub fn wake(&mut self, now: Instant) -> usize {
        for (_, job) in self.later.extract_if(.., |(at, _)| *at <= now) {
            self.queue.push_back(job);
        }
        for (_, job, _) in self.held.extract_if(.., |(at, ..)| *at <= now) {
            self.queue.push_front(job);
        }
        let mut late = Vec::new();
        while let Some(first) = self.under_way.first_entry()
            && first.get().until <= now
        {
            late.push(first.remove().job);
        }
        let given_up = late.len();
        if given_up > 0 {
            // The line is given up then, and with it the answers to all others.
            let others = std::mem::take(&mut self.under_way);
            late.extend(others.into_values().map(|asked| asked.job));
        }
        self.put_off(late, now);
        given_up
    }

    pub fn deadline(&self) -> Option<Instant> {
        let due = self.under_way.values().map(|asked| asked.until);
        let later = self.later.iter().map(|(at, _)| *at);
        let held = self.held.iter().map(|(at, ..)| *at);
        due.chain(later).chain(held).min()
    }

    /// What is missing of `topic` is not asked for any more.
    pub fn cancel(&mut self, topic: &str) {
        let is_other = |job: &Job| !matches!(job, Job::Topic(name) if **name == *topic);
        self.queue.retain(is_other);
        self.loads.retain(is_other);
        self.under_way.retain(|_, asked| is_other(&asked.job));
        self.later.retain(|(_, job)| is_other(job));
        self.held.retain(|(_, job, _)| is_other(job));
    }

    /// Nothing is asked any more; answers that still come are passed over.
    pub fn forget(&mut self) {
        self.queue.clear();
        self.loads.clear();
        self.held.clear();
        self.under_way.clear();
        self.later.clear();
        self.backoff.reset();
    }
}
