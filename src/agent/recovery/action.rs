//! What a recovery decides.

use std::sync::Arc;

use super::Life;
use crate::event::EventBatch;
use crate::handler::SyncReason;
use crate::replica::{Row, RowKey};
use crate::sync::Request;

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Hand these on: they are next, or are rows of a snapshot.
    Apply(EventBatch),
    /// Send this question to the sync service.
    Ask(u64, Request),
    /// The sync service is at this endpoint now, as the hello names it; `None`: there is none.
    Endpoint(Option<String>),
    /// Remove the rows that a complete snapshot lacks.
    Sweep(Sweep),
    /// Subscribe to these, which the publisher has; they are wanted from now on.
    Topics(Vec<Arc<str>>),
    /// All handlers must start over: what a legacy publisher sent meanwhile is unknown.
    Resync(SyncReason),
    /// Count and log it.
    Note(Note),
    /// Log that the publisher does not let this node have this topic.
    Forbidden(Arc<str>),
}

/// A complete snapshot of a topic, by what it holds.
#[derive(Debug)]
pub struct Sweep {
    /// Who made it.
    pub life: Life,
    /// Of which topic.
    pub topic: Arc<str>,
    /// Only rows that the publisher stamped in this or a later incarnation are vouched for.
    pub complete_since: u64,
    /// Rows stamped after this are newer than the snapshot.
    pub seq: u64,
    /// The rows it has, by [`name_hash`].
    pub has: std::collections::HashSet<u64>,
}

impl Sweep {
    /// Whether this row exists no longer.
    pub fn ends(&self, name: &RowKey, row: &Row) -> bool {
        let life = self.life;
        row.topic == self.topic
            && row.stamp.is_some_and(|stamp| {
                // A row of a later incarnation may have come through another publisher that has it.
                let newer = (stamp.incarnation, stamp.seq) > (life.incarnation, self.seq);
                stamp.publisher == life.publisher
                    && stamp.incarnation >= self.complete_since
                    && !newer
            })
            && !self.has.contains(&name_hash(&name.table, &name.key))
    }
}

/// What an operator wants to hear of, and counters count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Events of a topic were missed.
    Gap,
    /// Events came that are applied already.
    Duplicate,
    /// A chain of events that cannot be: the topic is loaded anew.
    BrokenChain,
    /// A replay is complete, with so many events.
    Replayed(u64),
    /// The journal no longer has what was missed.
    Gone,
    /// A snapshot is complete, with so many rows.
    Loaded(u64),
    /// A snapshot was not what its digest says.
    BadDigest,
    /// An answer did not fit what was asked, or held what is no event.
    BadAnswer,
    /// A question was not answered in time; whoever asks the service for us is to begin anew, since
    /// no answer to what is under way is waited for any more.
    Unanswered,
    /// The service asked for patience.
    AskedToWait,
    /// The service refused a question.
    Refused(crate::sync::Refusal),
    /// An event could not be held; it will be fetched.
    NotHeld,
    /// Something of a lower incarnation: an old message, or two publishers with one id.
    LowerIncarnation,
    /// The publisher has begun a new incarnation.
    NewIncarnation,
    /// Another publisher answers at this address.
    OtherPublisher,
    /// Something was missed and there is no sync service to ask.
    CannotRepair,
    /// The publisher has more topics than are followed.
    TopicNotFollowed,
}

/// A name of a row within a sweep. A collision keeps a row that should go, so it is wide and seeded.
pub fn name_hash(table: &str, key: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    static SEED: std::sync::LazyLock<foldhash::quality::RandomState> =
        std::sync::LazyLock::new(Default::default);
    let mut hasher = SEED.build_hasher();
    hasher.write(table.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(key.as_bytes());
    hasher.finish()
}
