//! Which agents may have which topics: a publisher makes those connect anew whose grants change.

use std::collections::BTreeSet;

use fanfare::sync::{Answer, Refusal, Request};

use crate::world::{TOPICS, World};

impl World {
    /// The grants change; the publisher makes the agent connect anew.
    pub fn forbid(&mut self, agent: usize, publisher: usize) {
        if self.agents[agent].follows_all() {
            return;
        }
        let one = *self.rng.choice(&TOPICS).unwrap();
        let all = self.rng.u8(..3) == 0;
        let topics = TOPICS.into_iter().filter(|topic| all || *topic == one);
        self.forbidden
            .extend(topics.map(|topic| (agent, publisher, topic)));
        self.counts.note("fault: grant taken away");
        self.regrant(&[(agent, publisher)]);
    }

    pub fn grant_all(&mut self) {
        let changed = std::mem::take(&mut self.forbidden);
        let changed: Vec<_> = changed.into_iter().map(|(a, p, _)| (a, p)).collect();
        self.regrant(&changed);
    }

    fn regrant(&mut self, changed: &[(usize, usize)]) {
        for (agent, slot) in self.connections() {
            let peer = self.agents[agent].followers[slot].conn.peer;
            if peer.is_some_and(|peer| changed.contains(&(agent, peer))) {
                self.cut_off(agent, slot, true);
            }
        }
    }
}

/// What of a request the agent may ask, and what it named of topics that it may not have, as behind.
#[allow(clippy::type_complexity)]
pub fn granted(
    forbidden: &BTreeSet<(usize, usize, &'static str)>,
    (agent, publisher): (usize, usize),
    request: Request,
) -> Result<(Request, Vec<(String, u64)>), Answer> {
    let may = |name: &str| {
        let known = TOPICS.iter().find(|topic| **topic == name);
        known.is_none_or(|topic| !forbidden.contains(&(agent, publisher, topic)))
    };
    let refused = Answer::Refused {
        code: Refusal::Forbidden,
        reason: String::new(),
    };
    match request {
        Request::Heads {
            incarnation,
            topics,
        } => {
            let (topics, beyond): (Vec<_>, Vec<_>) =
                topics.into_iter().partition(|(name, _)| may(name));
            if topics.is_empty() && !beyond.is_empty() {
                return Err(refused);
            }
            let beyond = beyond.into_iter().map(|(name, has)| (name, has + 1));
            let request = Request::Heads {
                incarnation,
                topics,
            };
            Ok((request, beyond.collect()))
        }
        Request::Replay { ref topic, .. } | Request::Snapshot { ref topic, .. } if !may(topic) => {
            Err(refused)
        }
        other => Ok((other, Vec::new())),
    }
}
