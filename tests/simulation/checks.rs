//! What must hold: at every step, and when all faults are over.

use std::collections::BTreeMap;

use fanfare::event::{Action as Change, Event};
use fanfare::replica::{Row, RowKey};

use crate::agent::Follower;
use crate::publisher::Object;
use crate::world::{TOPICS, World};

pub fn as_event<'a>(name: &'a RowKey, row: &'a Row) -> Event<'a> {
    Event {
        table: &name.table,
        key: &name.key,
        action: if row.is_tombstone() {
            Change::Delete
        } else {
            Change::Set
        },
        value: row.value.as_deref(),
        topic: Some(&row.topic),
        stamp: row.stamp,
    }
}

impl World {
    pub fn check_follower(&self, agent: usize, slot: usize) {
        let Follower {
            recovery,
            cursors,
            promised,
            listed,
            ledger,
            ..
        } = &self.agents[agent].followers[slot];
        let standing = recovery.standing();
        let options = &self.agents[agent].options;
        assert!(
            standing.held_bytes <= options.held_bytes,
            "it holds too much"
        );
        let Some(positions) = recovery.positions() else {
            assert!(!standing.in_sync || ledger.is_vague());
            return;
        };
        let topics: BTreeMap<&str, u64> = positions
            .topics
            .iter()
            .map(|(name, seq)| (&**name, *seq))
            .collect();
        for (name, seq) in &topics {
            // So it never goes back either: cursors do not.
            let cursor = cursors.get(&(positions.life, name.to_string()));
            assert_eq!(
                Some(seq),
                cursor,
                "the position of {name} is not what was applied"
            );
        }
        if !standing.in_sync {
            return;
        }
        let model = &self.agents[agent];
        if ledger.is_vague() {
            // Nobody can tell what was missed.
            return;
        }
        assert_eq!((standing.behind, standing.held_bytes), (0, 0));
        let (life, heads) = promised.as_ref().expect("in sync without a hello");
        if *life != positions.life {
            return;
        }
        let publisher = &self.publishers[usize::from(life.publisher[0]) - 1];
        if model.options.all_topics >= TOPICS.len() {
            for (Object { topic, .. }, row) in &publisher.disk.rows {
                // It was there when the last hello was said.
                let was = heads.get(topic).is_some_and(|head| row.stamp.seq <= *head);
                let known = !was || listed.contains(topic);
                assert!(
                    known,
                    "a{agent}.{slot} is in sync and does not know {topic}"
                );
            }
        }
        for topic in model.topics(slot) {
            let head = heads.get(topic).copied().unwrap_or(0);
            let position = topics.get(topic).copied();
            assert!(
                position >= Some(head),
                "a{agent}.{slot} is in sync and has {topic} up to {position:?}; the last hello was said at {head}"
            );
        }
    }

    /// The highest versions of all publishers.
    fn truth(&self) -> BTreeMap<Object, u64> {
        let mut truth = BTreeMap::new();
        for (object, row) in self
            .publishers
            .iter()
            .flat_map(|publisher| &publisher.disk.rows)
        {
            let version = truth.entry(object.clone()).or_insert(0);
            *version = row.write.version.max(*version);
        }
        truth
    }

    /// I1: the rows of `agent` are those of the publishers. A fresh agent has exactly these; another
    /// may have what only a state that was lost knew, from before it was lost.
    pub fn check_rows(&mut self, agent: usize, fresh: bool) {
        let truth = self.truth();
        let mut lost = 0;
        for object in &self.objects {
            let model = &self.agents[agent];
            let followed = match model.options.all_topics {
                0 => model.wanted.contains(object.topic),
                // With fewer, each publisher may be followed on others.
                most => most >= TOPICS.len(),
            };
            if !followed {
                continue;
            }
            let row = model.replica.get_any("lport", &object.key);
            let has = row.map_or(0, |row| row.stamp.unwrap().version);
            let wanted = truth.get(object).copied().unwrap_or(0);
            let exists = |version: u64| {
                self.written
                    .get(&version)
                    .is_some_and(|write| write.value.is_some())
            };
            if has == wanted || (!exists(has) && !exists(wanted)) {
                continue;
            }
            let stamp = row.and_then(|row| row.stamp).unwrap_or_default();
            let publisher = self
                .publishers
                .iter()
                .find(|model| model.id() == stamp.publisher);
            let excused = has > wanted
                && publisher.is_some_and(|publisher| stamp.incarnation < publisher.complete_since);
            assert!(
                excused && !fresh,
                "a{agent} has {} at version {has} ({stamp:?}), the publishers at {wanted}",
                object.key
            );
            lost += 1;
        }
        (0..lost).for_each(|_| self.counts.note("check: row that only a lost state knew"));
    }

    /// I3: all is live, and there is nothing that was not noticed.
    pub fn check_settled(&self, agent: usize) -> Result<(), String> {
        for (slot, follower) in self.agents[agent].followers.iter().enumerate() {
            let publisher = &self.publishers[self.addresses[slot]];
            let standing = follower.recovery.standing();
            if !standing.in_sync || standing.life != Some(publisher.life()) {
                return Err(format!(
                    "a{agent}.{slot} is not in sync: {:?}",
                    follower.recovery
                ));
            }
            let model = &self.agents[agent];
            let most = model.options.all_topics.min(publisher.topics().len());
            if follower.listed.len() < most {
                return Err(format!("a{agent}.{slot} follows {:?}", follower.listed));
            }
            for topic in model.topics(slot) {
                let cursor = follower.cursors.get(&(publisher.life(), topic.to_string()));
                let head = publisher.topic_head(topic);
                if cursor.is_none_or(|cursor| *cursor < head) {
                    return Err(format!(
                        "a{agent}.{slot} has {topic} up to {cursor:?} of {head}"
                    ));
                }
            }
        }
        Ok(())
    }
}
