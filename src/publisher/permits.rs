//! Who may have which topics, as it is in force, and who asked for others.
//!
//! One is shared by the service's thread, which judges subscriptions, and the sync service, which
//! judges requests. The owner of the configuration sets it anew at any time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::security::grants::{Grants, Judgement};
use crate::util::printable;
use crate::util::rate::RateLimit;

crate::metrics! {
    /// What is counted of grants.
    pub struct PermitMetrics {
        grants: Gauge = "Grants in force; 0: every node may have every topic.",
        grants_changed_total: Counter = "Times the grants were changed while the service ran.",
        grants_ended_total: Counter = "Connections ended because what their node may have has changed; they come again.",
        grants_refused_subscriptions_total: Counter = "Subscriptions refused because no grant gives the node the topic.",
        grants_refused_requests_total: Counter = "Requests for what was missed that were refused because no grant gives the node the topic.",
        grants_withheld_total: Counter = "Subscriptions to granted topics refused in the form without NUL, which would bring other topics as well; agents make both.",
    }
}

/// Refusals that are remembered, by node and topic.
const REMEMBERED: usize = 256;

/// Longest name of a topic that is remembered, bytes.
const NAME: usize = 256;

/// What a node was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The node.
    pub node: String,
    /// The topic, printable; of a subscription that is no topic what it is.
    pub topic: String,
    /// Subscriptions refused.
    pub subscriptions: u64,
    /// Requests refused.
    pub requests: u64,
    /// When the last one was.
    pub last: Instant,
}

/// The grants in force.
#[derive(Debug)]
pub struct Permits {
    current: Mutex<(u64, Arc<Grants>)>,
    refused: Mutex<HashMap<(String, String), Refused>>,
    lines: RateLimit,
    /// What is counted.
    pub metrics: PermitMetrics,
}

impl Default for Permits {
    fn default() -> Self {
        Permits::new(Grants::default())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Subscription,
    Request,
}

impl Permits {
    /// These grants.
    pub fn new(grants: Grants) -> Self {
        let metrics = PermitMetrics::default();
        metrics.grants.set(grants.len() as u64);
        Permits {
            current: Mutex::new((0, Arc::new(grants))),
            refused: Mutex::default(),
            lines: RateLimit::new(10, Duration::from_secs(60)),
            metrics,
        }
    }

    /// Puts other grants in force.
    pub fn set(&self, grants: Grants) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current.1 != grants {
            self.metrics.grants.set(grants.len() as u64);
            self.metrics.grants_changed_total.inc();
            *current = (current.0 + 1, Arc::new(grants));
        }
    }

    /// The grants, and how often they were changed.
    pub fn current(&self) -> (u64, Arc<Grants>) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.0, Arc::clone(&current.1))
    }

    /// Whether `node` may subscribe to `prefix` by `grants`; counts and tells it where not.
    pub fn subscription(&self, grants: &Grants, node: Option<&str>, prefix: &[u8]) -> bool {
        match grants.judge(node, prefix) {
            Judgement::Granted => return true,
            Judgement::TooWide => self.metrics.grants_withheld_total.inc(),
            Judgement::Forbidden => {
                self.metrics.grants_refused_subscriptions_total.inc();
                self.tell(node, prefix, What::Subscription);
            }
        }
        false
    }

    /// Whether `node` may ask for `topic` by `grants`; counts and tells it where not.
    pub fn request(&self, grants: &Grants, node: Option<&str>, topic: &str) -> bool {
        let allowed = grants.allow(node, topic);
        if !allowed {
            self.metrics.grants_refused_requests_total.inc();
            self.tell(node, topic.as_bytes(), What::Request);
        }
        allowed
    }

    fn tell(&self, node: Option<&str>, prefix: &[u8], what: What) {
        let node = node.unwrap_or("?");
        let topic = match prefix {
            [] => "(everything)".to_owned(),
            [topic @ .., 0] => printable::name(&String::from_utf8_lossy(topic), NAME).to_string(),
            bare => printable::name(&String::from_utf8_lossy(bare), NAME).to_string(),
        };
        let now = Instant::now();
        if let Some(permit) = self.lines.permit(now) {
            let asked = match what {
                What::Subscription => "subscribes to",
                What::Request => "asks for what it missed of",
            };
            let node = printable::name(node, NAME);
            log::warn!("node {node} {asked} {topic}, which no grant gives it: refused{permit}");
        }
        let mut all = self.refused();
        let key = (node.to_owned(), topic.clone());
        if all.len() >= REMEMBERED && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, refused)| refused.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                all.remove(&oldest);
            }
        }
        let refused = all.entry(key).or_insert_with(|| Refused {
            node: node.to_owned(),
            topic,
            subscriptions: 0,
            requests: 0,
            last: now,
        });
        refused.last = now;
        match what {
            What::Subscription => refused.subscriptions += 1,
            What::Request => refused.requests += 1,
        }
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<(String, String), Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who was refused what, the last first.
    pub fn latest(&self) -> Vec<Refused> {
        let mut all: Vec<Refused> = self.refused().values().cloned().collect();
        all.sort_unstable_by(|a, b| b.last.cmp(&a.last).then_with(|| a.topic.cmp(&b.topic)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::grants::Grant;

    #[test]
    fn what_is_refused_is_counted_and_remembered_within_bounds() {
        let grant = Grant::new(vec!["n1".into()], vec!["t1".into()]);
        let permits = Permits::new(Grants::new(vec![grant]));
        let (_, grants) = permits.current();
        assert!(permits.subscription(&grants, Some("n1"), b"t1\0"));
        assert!(!permits.subscription(&grants, Some("n1"), b"t1"));
        assert!(permits.latest().is_empty(), "{:?}", permits.latest());
        assert!(!permits.subscription(&grants, Some("n1"), b"t2\0"));
        assert!(!permits.request(&grants, Some("n1"), "t2"));
        let [refused] = &permits.latest()[..] else {
            panic!("{:?}", permits.latest());
        };
        assert_eq!((refused.subscriptions, refused.requests), (1, 1));
        for n in 0..2 * REMEMBERED {
            permits.request(&grants, Some("n1"), &format!("x{n}"));
        }
        assert_eq!(permits.latest().len(), REMEMBERED);
        let metrics = &permits.metrics;
        assert_eq!(metrics.grants_withheld_total.get(), 1);
        assert_eq!(metrics.grants_refused_requests_total.get(), 513);
        let (before, _) = permits.current();
        permits.set(Grants::default());
        permits.set(Grants::default());
        assert_eq!(permits.current().0, before + 1);
    }
}
