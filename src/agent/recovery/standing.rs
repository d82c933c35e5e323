//! What a recovery shows of itself.

use std::sync::Arc;
use std::time::Instant;

use super::Recovery;

/// One unbroken life of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Life {
    /// Its identity.
    pub publisher: [u8; 16],
    /// The number of the life.
    pub incarnation: u64,
}

/// How far a publisher was followed: what a checkpoint keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    /// Whose seqs these are.
    pub life: Life,
    /// Topics and the seq of their last applied events.
    pub topics: Vec<(Arc<str>, u64)>,
}

/// Where a recovery stands, for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The publisher as it last showed itself.
    pub life: Option<Life>,
    /// Its last seq as of its last hello.
    pub head: u64,
    /// Whether all it is known to have sent is here.
    pub in_sync: bool,
    /// Whether it says no hello, so that nothing tells what is missing.
    pub legacy: bool,
    /// Topics that something is missing of.
    pub behind: usize,
    /// Topics among these that the publisher does not let this node have.
    pub forbidden: usize,
    /// When its last hello came.
    pub hello_at: Option<Instant>,
    /// As of when everything is known to be here.
    pub proved: Option<Instant>,
    /// Events held until what is before them has come, bytes.
    pub held_bytes: usize,
}

impl Standing {
    /// Whether hellos prove that everything is here.
    pub fn is_current(&self) -> bool {
        self.in_sync && !self.legacy
    }
}

impl Recovery {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        Standing {
            life: self.life,
            head: self.covered,
            in_sync: self.is_in_sync(),
            legacy: self.legacy,
            behind: self.behind,
            forbidden: self.topics.values().filter(|topic| topic.forbidden).count(),
            hello_at: self.hello_at,
            proved: self.proved,
            held_bytes: self.held_bytes,
        }
    }

    /// The topics that the publisher does not let this node have, some of them where they are many.
    pub fn forbidden(&self, most: usize) -> Vec<Arc<str>> {
        let forbidden = self.topics.iter().filter(|(_, topic)| topic.forbidden);
        let names = forbidden.map(|(name, _)| Arc::clone(name));
        names.take(most).collect()
    }

    /// How far it has come; `None` before it has met the publisher.
    pub fn positions(&self) -> Option<Positions> {
        let topics = self.topics.iter();
        Some(Positions {
            life: self.life?,
            topics: topics
                .filter_map(|(name, topic)| Some((Arc::clone(name), topic.position()?)))
                .collect(),
        })
    }
}
