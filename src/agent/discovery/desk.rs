//! The owner's side of discovery: from noted rows to the subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::{Discovery, Step};
use crate::dispatch::Hub;
use crate::pubsub::SubscriberApi;
use crate::pubsub::endpoint::{Defaults, Endpoint};
use crate::store::PUBLISHER_TABLE;

/// A row of table `publisher` changed; to be given to [`crate::agent::Agent::discover`].
#[derive(Debug)]
pub struct Hint(pub(super) Option<String>);

/// Applies what was noted.
#[derive(Debug)]
pub struct Desk {
    discovery: Discovery,
    hub: Arc<Hub>,
    hints: Receiver<Hint>,
    overflow: Arc<AtomicBool>,
}

impl Desk {
    /// The owner's end of what `hub` notes.
    pub fn new(
        discovery: Discovery,
        hub: &Arc<Hub>,
        hints: Receiver<Hint>,
        overflow: Arc<AtomicBool>,
    ) -> Self {
        Desk {
            discovery,
            hub: Arc::clone(hub),
            hints,
            overflow,
        }
    }

    /// Where hints come from.
    pub fn hints(&self) -> &Receiver<Hint> {
        &self.hints
    }

    /// What is decided and counted.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Applies `hint`, and those that wait behind it, to `subscriber`.
    pub fn apply(&mut self, hint: Hint, subscriber: &mut dyn SubscriberApi) {
        let mut next = Some(hint);
        // As many as the channel holds, so that a flood of changes does not keep the owner here.
        for _ in 0..=self.hints.capacity().unwrap_or(0) {
            let Some(hint) = next.take().or_else(|| self.hints.try_recv().ok()) else {
                break;
            };
            if let Some(key) = hint.0 {
                self.look(&key, subscriber);
            }
        }
        if self.overflow.swap(false, Ordering::SeqCst) {
            self.discovery.metrics.rereads_total.inc();
            self.reread(subscriber);
        } else if self.discovery.has_room_again() {
            self.reread(subscriber);
        }
    }

    /// From now on `configured` is followed whatever the table says, and nothing else is; `defaults`
    /// completes the addresses in the table.
    pub fn set_configured(
        &mut self,
        configured: &[Endpoint],
        defaults: &Defaults,
        subscriber: &mut dyn SubscriberApi,
    ) {
        self.discovery.set_configured(configured, defaults);
        self.reread(subscriber);
    }

    /// Looks at one row's newest state.
    fn look(&mut self, key: &str, subscriber: &mut dyn SubscriberApi) {
        let value = self.hub.with_replica(|replica| {
            let row = replica.get(PUBLISHER_TABLE, key)?;
            Some(row.value.clone().unwrap_or_default())
        });
        let steps = match value {
            Some(value) => self.discovery.set(key, &value, Instant::now()),
            None => self.discovery.delete(key),
        };
        self.follow(steps, subscriber);
    }

    /// Looks at all rows.
    fn reread(&mut self, subscriber: &mut dyn SubscriberApi) {
        let rows: Vec<(String, String)> = self.hub.with_replica(|replica| {
            let keys = replica.keys(|table, _| table == PUBLISHER_TABLE);
            let rows = keys.iter().filter_map(|name| {
                let row = replica.get(&name.table, &name.key)?;
                Some((name.key.to_string(), row.value.clone().unwrap_or_default()))
            });
            rows.collect()
        });
        let rows = rows
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let steps = self.discovery.replace(rows, Instant::now());
        self.follow(steps, subscriber);
    }

    fn follow(&mut self, steps: Vec<Step>, subscriber: &mut dyn SubscriberApi) {
        for step in steps {
            match step {
                Step::Add(endpoint) => match subscriber.register_listen_address(&endpoint) {
                    Ok(true) => log::info!("publisher {endpoint} is discovered"),
                    Ok(false) => self.discovery.leave_alone(&endpoint),
                    Err(error) => {
                        log::error!(
                            "publisher {endpoint} is discovered and cannot be followed: {error}"
                        );
                        self.discovery.forget(&endpoint);
                    }
                },
                Step::Remove(endpoint) => {
                    if subscriber.unregister_listen_address(&endpoint) {
                        log::info!("publisher {endpoint} is gone from table publisher: removed");
                    }
                }
            }
        }
    }
}
