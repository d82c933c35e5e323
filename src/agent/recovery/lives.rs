//! Which publisher is there, in which of its lives, and what is kept of the others.

use std::cmp::Ordering;
use std::sync::Arc;

use super::listing::Listing;
use super::{Action, Life, Note, Recovery};

/// Publishers whose positions are kept.
pub(super) const MAX_KEPT: usize = 64;

impl Recovery {
    /// The kept position of `name` in the publisher's present life.
    pub(super) fn position(&self, name: &str) -> Option<u64> {
        let life = self.life?;
        let kept = self.kept.iter().find(|kept| kept.life == life)?;
        kept.topics
            .iter()
            .find(|(topic, _)| **topic == *name)
            .map(|(_, last)| *last)
    }

    /// Another publisher is here. The one before may come back, as where two share an address; its
    /// service is not to be asked in the meantime.
    fn part(&mut self) {
        self.greeted = false;
        let Some(positions) = self.positions() else {
            return;
        };
        let publisher = positions.life.publisher;
        self.kept.retain(|kept| kept.life.publisher != publisher);
        if self.kept.len() >= MAX_KEPT {
            self.kept.remove(0);
        }
        self.kept.push(positions);
    }

    /// The publisher is in this life; `false` when what says so is out of date.
    pub(super) fn meet(&mut self, life: Life, out: &mut Vec<Action>) -> bool {
        if self.life == Some(life) {
            return true;
        }
        let of_same = |known: &Life| known.publisher == life.publisher;
        // A checkpoint may hold two of its lives: they were followed at two addresses.
        let known = self.kept.iter().map(|kept| kept.life).chain(self.life);
        let highest = known.filter(of_same).map(|known| known.incarnation).max();
        match highest.map(|highest| life.incarnation.cmp(&highest)) {
            Some(Ordering::Less) => {
                out.push(Action::Note(Note::LowerIncarnation));
                return false;
            }
            Some(Ordering::Greater) => out.push(Action::Note(Note::NewIncarnation)),
            Some(Ordering::Equal) | None => {}
        }
        if self.life.is_some_and(|known| !of_same(&known)) {
            out.push(Action::Note(Note::OtherPublisher));
            self.part();
        }
        self.life = Some(life);
        self.begin();
        true
    }

    /// A step may have ended in the middle of anything, and what it had to hand on with it.
    pub(super) fn anew(&mut self) {
        (self.connected, self.greeted) = (false, false);
        let life = self.life;
        self.kept.retain(|kept| Some(kept.life) != life);
        self.begin();
    }

    /// Begins with what is kept of this life, on all topics.
    pub(super) fn begin(&mut self) {
        self.covered = 0;
        (self.unsure, self.round_due, self.round) = (false, false, 0);
        self.asks.forget();
        self.listing = Listing::default();
        self.list();
        let names: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        self.topics.clear();
        (self.behind, self.held_bytes) = (0, 0);
        for name in names {
            self.wanted(name);
        }
    }
}
