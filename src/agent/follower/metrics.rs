//! What following one publisher counts.

use crate::agent::recovery::{Note, Standing};

crate::metrics! {
    /// What the recovery of one publisher counts.
    pub struct RecoveryMetrics {
        in_sync: Gauge = "Whether everything the publisher is known to have sent is here (1).",
        incarnation: Gauge = "The number of the publisher's unbroken life.",
        head_seq: Gauge = "The publisher's last seq as of its last hello.",
        topics_behind: Gauge = "Topics that something is missing of.",
        topics_forbidden: Gauge = "Topics that the publisher does not let this node have.",
        held_bytes: Gauge = "Events held until what is before them has come, bytes.",
        gaps_total: Counter = "Times events of a topic were found missing.",
        replays_total: Counter = "Replays completed.",
        replayed_events_total: Counter = "Events fetched by replays.",
        gone_total: Counter = "Times the publisher's journal no longer had what was missed.",
        snapshots_total: Counter = "Snapshots completed.",
        snapshot_rows_total: Counter = "Rows fetched by snapshots.",
        rows_swept_total: Counter = "Rows removed because a complete snapshot lacked them.",
        duplicates_total: Counter = "Events that came although they were applied already.",
        broken_chains_total: Counter = "Events that contradict what came before them.",
        bad_digests_total: Counter = "Snapshots that were not what their digest says.",
        bad_answers_total: Counter = "Answers that did not fit what was asked.",
        unanswered_total: Counter = "Questions not answered in time.",
        asked_to_wait_total: Counter = "Times the sync service asked to come back later.",
        refused_total: Counter = "Questions the sync service refused.",
        not_held_total: Counter = "Events let go because too many were held; they are fetched again.",
        lower_incarnations_total: Counter = "Messages of a lower incarnation than the publisher's: late ones, or two publishers with one id.",
        new_incarnations_total: Counter = "Times the publisher could not prove that it lost nothing and began anew.",
        other_publishers_total: Counter = "Times another publisher answered at the same address.",
        twins_total: Counter = "Times another address was found to lead to a publisher with the same id.",
        topics_not_followed_total: Counter = "Times the publisher was found to have more topics than are followed.",
        unrepaired_total: Counter = "Losses that nothing could be done about: the publisher has no sync service, or says no hello.",
    }
}

impl RecoveryMetrics {
    /// Counts `note`; gives what an operator should read, and how loudly.
    pub(super) fn count(&self, note: Note) -> Option<(log::Level, &'static str)> {
        use log::Level::{Error, Info, Warn};
        let (metric, line) = match note {
            Note::Gap => (&self.gaps_total, Some((Info, "events were missed"))),
            Note::Duplicate => (&self.duplicates_total, None),
            Note::BrokenChain => (
                &self.broken_chains_total,
                Some((Warn, "an event contradicts what came before it")),
            ),
            Note::Replayed(events) => {
                self.replayed_events_total.add(events);
                (&self.replays_total, None)
            }
            Note::Gone => (
                &self.gone_total,
                Some((Info, "what was missed is too old to be replayed")),
            ),
            Note::Loaded(rows) => {
                self.snapshot_rows_total.add(rows);
                (&self.snapshots_total, None)
            }
            Note::BadDigest => (
                &self.bad_digests_total,
                Some((Error, "a snapshot is not what its digest says")),
            ),
            Note::BadAnswer => (
                &self.bad_answers_total,
                Some((Error, "an answer of the sync service does not fit")),
            ),
            Note::Unanswered => (
                &self.unanswered_total,
                Some((Warn, "the sync service does not answer")),
            ),
            Note::AskedToWait => (&self.asked_to_wait_total, None),
            Note::Refused(_) => (
                &self.refused_total,
                Some((Error, "the sync service refuses to answer")),
            ),
            Note::NotHeld => (&self.not_held_total, None),
            Note::LowerIncarnation => (
                &self.lower_incarnations_total,
                Some((
                    Error,
                    "a message of a lower incarnation: are there two publishers with one id?",
                )),
            ),
            Note::NewIncarnation => (
                &self.new_incarnations_total,
                Some((Warn, "the publisher began anew: all is loaded again")),
            ),
            Note::OtherPublisher => (
                &self.other_publishers_total,
                Some((Warn, "another publisher answers here now")),
            ),
            Note::TopicNotFollowed => (
                &self.topics_not_followed_total,
                Some((
                    Error,
                    "it has more topics than are followed: the others are not",
                )),
            ),
            Note::CannotRepair => (
                &self.unrepaired_total,
                Some((
                    Error,
                    "events are lost, and the publisher has no sync service or says no hello",
                )),
            ),
        };
        metric.inc();
        line
    }

    /// Shows where the recovery stands.
    pub(super) fn show(&self, standing: &Standing) {
        self.in_sync.set(standing.in_sync.into());
        self.incarnation
            .set(standing.life.map_or(0, |life| life.incarnation));
        self.head_seq.set(standing.head);
        self.topics_behind.set(standing.behind as u64);
        self.topics_forbidden.set(standing.forbidden as u64);
        self.held_bytes.set(standing.held_bytes as u64);
    }
}
