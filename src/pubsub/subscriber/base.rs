//! `SubscriberAgentBase`: the topic list, the address list, the threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::follow::Passing;
use super::link::Transport;
use super::reader::{Command, Parts, Reader};
use crate::event::topic;
use crate::pubsub::api::{Callback, PubSubError, Source, SubscriberApi, SubscriberOptions};
use crate::pubsub::endpoint::Endpoint;
use crate::util::thread::Thread;
use crate::util::waker::{self, Commands};

/// How long `close` waits for the readers. They wait for nothing that could take longer.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// One publisher.
struct Publisher {
    endpoint: Endpoint,
    source: Arc<Source>,
    running: Option<Running>,
}

/// Its reader, while there is one.
struct Running {
    commands: Commands<Command>,
    thread: Thread,
}

/// The common part of subscribers. A driver adds a [`Transport`]: how to connect and receive.
pub struct SubscriberAgentBase {
    driver: &'static str,
    transport: Arc<dyn Transport>,
    options: SubscriberOptions,
    callback: Option<Arc<dyn Callback>>,
    topics: Vec<String>,
    publishers: BTreeMap<String, Publisher>,
    running: bool,
}

impl SubscriberAgentBase {
    /// A subscriber of the driver called `driver`.
    pub fn new(
        driver: &'static str,
        transport: Arc<dyn Transport>,
        options: SubscriberOptions,
    ) -> Self {
        SubscriberAgentBase {
            driver,
            transport,
            options,
            callback: None,
            topics: Vec::new(),
            publishers: BTreeMap::new(),
            running: false,
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for publisher in self.publishers.values() {
            if let Some(running) = &publisher.running
                && !running.commands.send(command())
            {
                log::error!("{}: its reader has ended", publisher.source.uri);
            }
        }
    }

    /// Starts the reader of `publisher`.
    fn start(&self, publisher: &mut Publisher) -> Result<(), PubSubError> {
        let callback = self.callback.clone().ok_or(NOT_INITIALIZED)?;
        let failed = |error: std::io::Error| PubSubError::System {
            what: format!("{}: cannot start a reader", publisher.source.uri),
            why: error.to_string(),
        };
        let (commands, inbox) = waker::channel().map_err(failed)?;
        // Here and not on the reader's thread: it is told of every topic that comes or goes from now on.
        let follow = callback
            .follow(&publisher.source)
            .unwrap_or_else(|| Box::new(Passing::new(&callback, &publisher.source)));
        let parts = Parts {
            follow,
            endpoint: publisher.endpoint.clone(),
            source: Arc::clone(&publisher.source),
            transport: Arc::clone(&self.transport),
            options: self.options.clone(),
            topics: self.topics.clone(),
            inbox,
            commands: commands.try_clone().map_err(failed)?,
        };
        let thread = Thread::spawn("reader", move || Reader::new(parts).run()).map_err(failed)?;
        publisher.running = Some(Running { commands, thread });
        Ok(())
    }
}

const NOT_INITIALIZED: PubSubError = PubSubError::Misuse("initialize comes before daemonize");

/// Tells every reader to stop before it waits for the first.
fn stop<'a>(publishers: impl Iterator<Item = &'a mut Publisher>) {
    let mut stopping: Vec<(&str, Running)> = publishers
        .filter_map(|publisher| Some((publisher.source.uri.as_str(), publisher.running.take()?)))
        .collect();
    for (uri, running) in &stopping {
        if !running.commands.send(Command::Stop) {
            log::debug!("{uri}: its reader has ended already");
        }
    }
    let deadline = Instant::now() + CLOSE_WITHIN;
    for (uri, running) in &mut stopping {
        if !running.thread.join_by(deadline) {
            log::error!("{uri}: its reader does not end; left behind");
        }
    }
}

impl SubscriberApi for SubscriberAgentBase {
    fn initialize(&mut self, callback: Arc<dyn Callback>) -> Result<(), PubSubError> {
        if self.running {
            return Err(NOT_INITIALIZED);
        }
        self.callback = Some(callback);
        Ok(())
    }

    fn register_listen_address(&mut self, endpoint: &Endpoint) -> Result<bool, PubSubError> {
        let uri = endpoint.to_string();
        if !self.transport.supports(endpoint) {
            return Err(PubSubError::Unsupported {
                driver: self.driver,
                uri,
            });
        }
        if self.publishers.contains_key(&uri) {
            return Ok(false);
        }
        let mut publisher = Publisher {
            endpoint: endpoint.clone(),
            source: Arc::new(Source::new(uri.clone())),
            running: None,
        };
        if self.running {
            self.start(&mut publisher)?;
        }
        self.publishers.insert(uri, publisher);
        Ok(true)
    }

    fn unregister_listen_address(&mut self, endpoint: &Endpoint) -> bool {
        let mut removed = self.publishers.remove(&endpoint.to_string());
        stop(removed.iter_mut());
        removed.is_some()
    }

    fn register_topic(&mut self, name: &str) -> Result<bool, PubSubError> {
        topic::check(name)?;
        if self.topics.iter().any(|known| known == name) {
            return Ok(false);
        }
        self.topics.push(name.to_owned());
        self.tell_all(|| Command::Subscribe(name.to_owned()));
        Ok(true)
    }

    fn unregister_topic(&mut self, name: &str) -> bool {
        let before = self.topics.len();
        self.topics.retain(|known| known != name);
        let removed = self.topics.len() < before;
        if removed {
            self.tell_all(|| Command::Unsubscribe(name.to_owned()));
        }
        removed
    }

    fn daemonize(&mut self) -> Result<(), PubSubError> {
        if self.running {
            return Ok(());
        }
        if self.callback.is_none() {
            return Err(NOT_INITIALIZED);
        }
        let mut publishers = std::mem::take(&mut self.publishers);
        let started = publishers
            .values_mut()
            .try_for_each(|publisher| self.start(publisher));
        self.publishers = publishers;
        if started.is_err() {
            stop(self.publishers.values_mut());
        }
        self.running = started.is_ok();
        started
    }

    fn is_running(&self) -> bool {
        self.running
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        self.publishers
            .values()
            .map(|publisher| Arc::clone(&publisher.source))
            .collect()
    }

    fn close(&mut self) {
        self.running = false;
        stop(self.publishers.values_mut());
    }
}

impl Drop for SubscriberAgentBase {
    fn drop(&mut self) {
        self.close();
    }
}
