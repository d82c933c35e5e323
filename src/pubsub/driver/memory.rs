//! A driver within one process, with faults on demand: for tests of everything above the drivers.
//!
//! It stands in no registry: a network is a value, so that tests do not meet each other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::codec::Malformed;
use crate::event::topic;
use crate::pubsub::api::{
    PubSubApi, PubSubError, PublisherApi, PublisherOptions, SubscriberApi, SubscriberOptions,
};
use crate::pubsub::endpoint::Endpoint;
use crate::pubsub::subscriber::{Link, Received, Signal, SubscriberAgentBase, Transport};
use crate::util::poll;

const ALIAS: &str = "memory";

/// Messages that may wait in a link; further ones are lost, as above a high-water mark.
const LINK_CAPACITY: usize = 100_000;

/// What happened on a network, for tests that must know that their fault did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happened {
    /// Links that came up.
    pub connected: u64,
    /// Links that were refused.
    pub refused: u64,
    /// Links that were broken.
    pub broken: u64,
    /// Messages that were lost.
    pub lost: u64,
}

/// Publishers and links that know each other. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<Network>>,
}

#[derive(Debug, Default)]
struct Network {
    bound: HashSet<String>,
    links: HashMap<u64, Wire>,
    next: u64,
    refusing: bool,
    losing: u64,
    happened: Happened,
}

/// The network's end of a link.
#[derive(Debug)]
struct Wire {
    uri: String,
    subscriptions: Vec<Vec<u8>>,
    messages: VecDeque<Vec<Vec<u8>>>,
    signals: VecDeque<Signal>,
    bell: UnixStream,
}

impl Wire {
    fn ring(&self) {
        match (&self.bell).write(&[1]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => log::debug!("a link has ended: {error}"),
        }
    }
}

impl MemoryNetwork {
    /// A network with nobody on it.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, Network> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on connections are refused, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.state().refusing = refuse;
    }

    /// Breaks every connection to `endpoint`.
    pub fn break_links(&self, endpoint: &Endpoint) {
        let uri = endpoint.to_string();
        let mut state = self.state();
        let state = &mut *state;
        for wire in state.links.values_mut().filter(|wire| wire.uri == uri) {
            wire.subscriptions.clear();
            wire.signals.push_back(Signal::Down);
            state.happened.broken += 1;
            wire.ring();
        }
    }

    /// Loses the next `count` deliveries of messages.
    pub fn lose(&self, count: u64) {
        self.state().losing = count;
    }

    /// Delivers any frames to the subscribers of `endpoint`, by the rules of subscription.
    pub fn inject(&self, endpoint: &Endpoint, frames: &[&[u8]]) {
        let frames = frames.iter().map(|frame| frame.to_vec()).collect();
        self.state().deliver(&endpoint.to_string(), frames);
    }

    /// What happened so far.
    pub fn happened(&self) -> Happened {
        self.state().happened
    }

    /// How many subscriptions the links to `endpoint` have together.
    pub fn subscriptions(&self, endpoint: &Endpoint) -> usize {
        let uri = endpoint.to_string();
        let state = self.state();
        let wires = state.links.values().filter(|wire| wire.uri == uri);
        wires.map(|wire| wire.subscriptions.len()).sum()
    }
}

impl Network {
    fn deliver(&mut self, uri: &str, frames: Vec<Vec<u8>>) {
        let topic = frames.first().cloned().unwrap_or_default();
        for wire in self.links.values_mut().filter(|wire| wire.uri == uri) {
            if !wire
                .subscriptions
                .iter()
                .any(|prefix| topic.starts_with(prefix))
            {
                continue;
            }
            if self.losing > 0 || wire.messages.len() >= LINK_CAPACITY {
                self.losing = self.losing.saturating_sub(1);
                self.happened.lost += 1;
                continue;
            }
            wire.messages.push_back(frames.clone());
            wire.ring();
        }
    }
}

impl PubSubApi for MemoryNetwork {
    fn publisher(&self, options: &PublisherOptions) -> Result<Box<dyn PublisherApi>, PubSubError> {
        Ok(Box::new(MemoryPublisher {
            network: self.clone(),
            uri: options.endpoint.to_string(),
            open: false,
        }))
    }

    fn subscriber(
        &self,
        options: &SubscriberOptions,
    ) -> Result<Box<dyn SubscriberApi>, PubSubError> {
        let transport = Arc::new(self.clone());
        Ok(Box::new(SubscriberAgentBase::new(
            ALIAS,
            transport,
            options.clone(),
        )))
    }
}

impl Transport for MemoryNetwork {
    fn supports(&self, endpoint: &Endpoint) -> bool {
        matches!(endpoint, Endpoint::Memory { .. })
    }

    fn open(&self, endpoint: &Endpoint, _uri: &str) -> Result<Box<dyn Link>, PubSubError> {
        let uri = endpoint.to_string();
        let failed = |error: std::io::Error| PubSubError::System {
            what: format!("cannot open a link to {uri}"),
            why: error.to_string(),
        };
        let (bell, theirs) = UnixStream::pair().map_err(failed)?;
        bell.set_nonblocking(true).map_err(failed)?;
        theirs.set_nonblocking(true).map_err(failed)?;
        let mut state = self.state();
        let signal = if !state.bound.contains(&uri) {
            Signal::ConnectFailed("nobody is there".into())
        } else if state.refusing {
            state.happened.refused += 1;
            Signal::Refused("told to".into())
        } else {
            state.happened.connected += 1;
            Signal::Up
        };
        state.next += 1;
        let number = state.next;
        let wire = Wire {
            uri,
            subscriptions: Vec::new(),
            messages: VecDeque::new(),
            signals: VecDeque::from([signal]),
            bell: theirs,
        };
        wire.ring();
        state.links.insert(number, wire);
        drop(state);
        Ok(Box::new(MemoryLink {
            network: self.clone(),
            number,
            bell,
            current: Vec::new(),
        }))
    }
}

struct MemoryLink {
    network: MemoryNetwork,
    number: u64,
    bell: UnixStream,
    current: Vec<Vec<u8>>,
}

impl MemoryLink {
    fn with<T: Default>(&self, act: impl FnOnce(&mut Wire) -> T) -> T {
        self.network
            .state()
            .links
            .get_mut(&self.number)
            .map(act)
            .unwrap_or_default()
    }
}

impl Link for MemoryLink {
    fn subscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError> {
        self.with(|wire| wire.subscriptions.push(prefix.to_vec()));
        Ok(())
    }

    fn unsubscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError> {
        self.with(|wire| {
            if let Some(place) = wire.subscriptions.iter().position(|known| known == prefix) {
                wire.subscriptions.remove(place);
            }
        });
        Ok(())
    }

    fn receive(&mut self) -> Result<Received<'_>, PubSubError> {
        match self.with(|wire| wire.messages.pop_front()) {
            None => Ok(Received::Nothing),
            Some(frames) => {
                self.current = frames;
                match self.current.as_slice() {
                    [topic, payload] => Ok(Received::Message { topic, payload }),
                    _ => Ok(Received::Malformed(Malformed::FrameCount)),
                }
            }
        }
    }

    fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        Ok(self.with(|wire| wire.signals.pop_front()))
    }

    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError> {
        let polled = poll::readable([wakes[0], wakes[1], self.bell.as_fd()], timeout);
        polled.map(drop).map_err(|error| PubSubError::System {
            what: "cannot wait".into(),
            why: error.to_string(),
        })?;
        let mut sink = [0; 64];
        while matches!(self.bell.read(&mut sink), Ok(n) if n > 0) {}
        Ok(())
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.network.state().links.remove(&self.number);
    }
}

struct MemoryPublisher {
    network: MemoryNetwork,
    uri: String,
    open: bool,
}

impl PublisherApi for MemoryPublisher {
    fn initialize(&mut self) -> Result<(), PubSubError> {
        let mut state = self.network.state();
        if !self.open && !state.bound.insert(self.uri.clone()) {
            return Err(PubSubError::InUse {
                uri: self.uri.clone(),
                pid: None,
            });
        }
        self.open = true;
        Ok(())
    }

    fn send_payload(&mut self, topic: &str, payload: &[u8]) -> Result<(), PubSubError> {
        let mut frame = Vec::new();
        topic::write_frame(topic, &mut frame);
        self.network
            .state()
            .deliver(&self.uri, vec![frame, payload.to_vec()]);
        Ok(())
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.network.state().bound.remove(&self.uri);
        }
    }
}

impl Drop for MemoryPublisher {
    fn drop(&mut self) {
        self.close();
    }
}
