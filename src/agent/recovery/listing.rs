//! Which topics the publisher has, for who follows it on all of them.
//!
//! Hellos list topics by hash only, so one that is not known makes the whole list be asked for. It is
//! asked for too at first, whenever it is not certain that all hellos came, and from time to time.

use std::sync::Arc;

use super::asks::Job;
use super::{Action, Note, Recovery};

/// Where the list stands.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Whether it is to be asked for.
    due: bool,
    /// Whether it is being asked for.
    under_way: bool,
    /// Whether there may be topics that are not known yet. That the list is asked for from time to
    /// time is no reason for doubt.
    unsure: bool,
}

impl Listing {
    pub fn is_open(&self) -> bool {
        self.unsure
    }
}

impl Recovery {
    /// There may be topics that are not known.
    pub(super) fn list(&mut self) {
        self.list_again();
        self.listing.unsure |= self.listing.due;
    }

    /// The time has come to ask for the list.
    pub(super) fn list_again(&mut self) {
        // Where no more are followed, there is nothing to learn.
        self.listing.due |= self.topics.len() < self.options.all_topics;
    }

    /// Begins to ask, if that is due.
    pub(super) fn begin_listing(&mut self) {
        let listing = &mut self.listing;
        if listing.due && !listing.under_way {
            (listing.due, listing.under_way) = (false, true);
            self.asks.push(Job::Topics(String::new()));
        }
    }

    /// The page of the list that follows `after`; `false` when it leads nowhere.
    pub(super) fn listed(
        &mut self,
        after: &str,
        names: Vec<String>,
        more: bool,
        out: &mut Vec<Action>,
    ) -> bool {
        let mut next = names.last().filter(|_| more).cloned();
        if more && next.as_deref().is_none_or(|next| next <= after) {
            return false;
        }
        self.asks.well();
        let mut new: Vec<Arc<str>> = Vec::new();
        for name in names {
            if self.topics.contains_key(name.as_str()) {
                continue;
            }
            if self.topics.len() >= self.options.all_topics {
                out.push(Action::Note(Note::TopicNotFollowed));
                next = None;
                break;
            }
            let name: Arc<str> = name.into();
            self.wanted(Arc::clone(&name));
            new.push(name);
        }
        if !new.is_empty() {
            out.push(Action::Topics(new));
        }
        match next {
            Some(after) => self.asks.push(Job::Topics(after)),
            None => {
                self.listing.under_way = false;
                self.listing.unsure = self.listing.due;
            }
        }
        true
    }
}
