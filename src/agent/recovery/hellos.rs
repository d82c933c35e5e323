//! What a hello says of what is missing, and of who can be asked for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Action, Life, Note, Recovery};
use crate::event::hello::{Hello, topic_hash};

impl Recovery {
    pub(super) fn hello(&mut self, hello: &Hello, now: Instant, out: &mut Vec<Action>) {
        let life = Life {
            publisher: hello.publisher,
            incarnation: hello.incarnation,
        };
        if !self.meet(life, out) {
            return;
        }
        // The link is read on after the connection was lost: what it held says nothing of now.
        self.greeted = self.connected;
        let was_legacy = std::mem::replace(&mut self.legacy, false);
        self.hello_at = Some(now);
        let service = Some(hello.sync_endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
        if service != self.service {
            self.asks.all_lost(now);
            self.service = service;
            out.push(Action::Endpoint(self.service.clone()));
            self.load_holed();
        } else if was_legacy && self.service.is_some() {
            self.load_holed();
        }
        // Where a hello was missed, what it listed is not known; nor what this one leaves out. The
        // first one of all lists nothing that was before it.
        let tells_all = hello.since <= self.covered && !hello.overflow;
        // Its state is older than what it sent. There is nothing to be had, but it is to hear of it.
        let went_back = hello.head < self.covered;
        if went_back || (hello.head != self.covered && !tells_all) {
            self.doubt();
            self.list();
        }
        self.covered = self.covered.max(hello.head);
        if self.heads_due.is_none() {
            self.put_off_heads(now);
        }
        let recent: HashMap<u64, u64> = hello.recent.iter().copied().collect();
        let names = self.topics.keys();
        let moved: Vec<(Arc<str>, u64)> = names
            .filter_map(|name| Some((Arc::clone(name), *recent.get(&topic_hash(name))?)))
            .collect();
        if moved.len() < recent.len() {
            self.list();
        }
        for (name, last) in moved {
            self.claim(&name, last, out);
        }
    }

    /// There is nobody to ask for what is missing, nor whether anything is.
    pub(super) fn go_blind(&mut self, out: &mut Vec<Action>) {
        for topic in self.topics.values_mut() {
            if !self.unsure && topic.is_live() {
                continue;
            }
            self.behind -= usize::from(!topic.is_live());
            self.held_bytes -= topic.held_bytes();
            out.push(Action::Note(Note::CannotRepair));
            let held = topic.go_blind();
            if !held.is_empty() {
                out.push(Action::Apply(held));
            }
        }
        (self.unsure, self.round_due) = (false, false);
    }

    /// There is somebody to ask now: what was passed over before is loaded.
    pub(super) fn load_holed(&mut self) {
        let holed = self.topics.iter().filter(|(_, topic)| topic.holed);
        let holed: Vec<Arc<str>> = holed.map(|(name, _)| Arc::clone(name)).collect();
        for name in holed {
            if let Some(topic) = self.topics.get_mut(&name) {
                self.behind += usize::from(topic.is_live());
                // What it was followed up to, with holes, says nothing of what is here.
                topic.restart();
                self.want(&name);
            }
        }
    }
}
