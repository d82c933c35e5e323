//! The questions: what waits to be asked, what is under way, what is to be asked again.

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

#[derive(Debug)]
pub(super) struct Asks {
    queue: VecDeque<Job>,
    /// By tag, and when the answer is given up. Tags rise, and so do these times.
    under_way: BTreeMap<u64, (Job, Instant)>,
    later: Vec<(Instant, Job)>,
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
        match self.under_way.len() < self.in_flight {
            true => self.queue.pop_front(),
            false => None,
        }
    }

    /// The tag of a question that is asked now.
    pub fn asked(&mut self, job: Job, now: Instant) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.under_way.insert(tag, (job, now + self.timeout));
        tag
    }

    /// What the answer with this tag is for; `None` when nobody waits for it any more.
    pub fn answered(&mut self, tag: u64) -> Option<Job> {
        self.under_way.remove(&tag).map(|(job, _)| job)
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

    /// Asks again when the service said so.
    pub fn retry_in(&mut self, job: Job, wait: Duration, now: Instant) {
        let wait = wait.clamp(self.shortest, self.shortest.max(MAX_PATIENCE));
        self.later.push((now + wait, job));
    }

    /// Nothing that is under way will be answered.
    pub fn all_lost(&mut self, now: Instant) {
        let lost = std::mem::take(&mut self.under_way);
        self.put_off(lost.into_values().map(|(job, _)| job).collect(), now);
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
        let mut late = Vec::new();
        while let Some(first) = self.under_way.first_entry()
            && first.get().1 <= now
        {
            late.push(first.remove().0);
        }
        let given_up = late.len();
        if given_up > 0 {
            // The line is given up then, and with it the answers to all others.
            let others = std::mem::take(&mut self.under_way);
            late.extend(others.into_values().map(|(job, _)| job));
        }
        self.put_off(late, now);
        given_up
    }

    pub fn deadline(&self) -> Option<Instant> {
        let due = self.under_way.values().map(|(_, due)| *due);
        due.chain(self.later.iter().map(|(at, _)| *at)).min()
    }

    /// What is missing of `topic` is not asked for any more.
    pub fn cancel(&mut self, topic: &str) {
        let is_other = |job: &Job| !matches!(job, Job::Topic(name) if **name == *topic);
        self.queue.retain(is_other);
        self.under_way.retain(|_, (job, _)| is_other(job));
        self.later.retain(|(_, job)| is_other(job));
    }

    /// Nothing is asked any more; answers that still come are passed over.
    pub fn forget(&mut self) {
        self.queue.clear();
        self.under_way.clear();
        self.later.clear();
        self.backoff.reset();
    }
}
