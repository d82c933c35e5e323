//! The publisher client: how an API worker hands events to the publisher service of its host and
//! knows that they are safe.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use fanfare::event::Event;
//! # use fanfare::publisher::client::{ClientOptions, PublisherClient};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = PublisherClient::new(ClientOptions::beside("/run/fanfare/publisher.sock".as_ref()));
//! client.publish(&Event::set("lport", "p1", "{}").on("tenant1"), None)?;
//! let summary = client.flush(Duration::from_secs(5))?;
//! assert_eq!(summary.pending, 0);
//! # Ok(())
//! # }
//! ```
//!
//! [`PublisherClient::publish`] puts an event into a bounded spool and returns; a thread sends what
//! is there, many events in one request and several requests at once, and sends again what was not
//! acknowledged after the service was restarted, was busy or did not answer. The service knows the
//! client's numbers, so that an event is published once however often it is sent.
//!
//! # Threads and forks
//!
//! A client may be used by many threads. It opens nothing before the first event, so that it may be
//! made before a server forks its workers: each worker then has a client of its own. One that was
//! used before the fork has no thread in the child; there `publish` fails with
//! [`ClientError::Forked`].

mod link;
mod options;
mod shared;
#[cfg(test)]
mod tests;
mod window;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use super::submit::{Code, MAX_EVENT, Producer, check};
use crate::event::{Event, codec};
use crate::pubsub::endpoint::check_ipc_path;
use crate::util::thread::Thread;
use crate::util::waker::{self, Commands};

pub use super::submit::Refusal;
pub use options::{ClientError, ClientOptions, Identity, Summary};

use self::shared::Shared;
use self::worker::Worker;

/// How much longer than `linger` closing takes at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Publishes events through the publisher service of this host. Dropping it does what
/// [`PublisherClient::close`] does.
pub struct PublisherClient {
    options: ClientOptions,
    context: Option<zmq::Context>,
    starting: Mutex<()>,
    running: OnceLock<Running>,
}

/// What there is from the first event on.
struct Running {
    /// The process that started it.
    pid: u32,
    shared: Arc<Shared>,
    bell: Commands<()>,
    thread: Mutex<Thread>,
}

impl PublisherClient {
    /// A client that is not yet connected; it will have a ZeroMQ context of its own.
    pub fn new(options: ClientOptions) -> Self {
        Self::make(options, None)
    }

    /// The same in a process that has a context already.
    pub fn with_context(options: ClientOptions, context: &zmq::Context) -> Self {
        Self::make(options, Some(context.clone()))
    }

    fn make(options: ClientOptions, context: Option<zmq::Context>) -> Self {
        PublisherClient {
            options,
            context,
            starting: Mutex::new(()),
            running: OnceLock::new(),
        }
    }

    /// Takes an event for sending and gives its number, the first being 1. `version` is the
    /// writer's own version of the object (its revision), from 1 to [`super::submit::MAX_VERSION`];
    /// with `None` the service gives one. A stamp of the event is not sent.
    ///
    /// Returns at once, or after at most `send_timeout` with [`ClientError::SpoolFull`]. Whether
    /// the event was acknowledged is known by [`PublisherClient::flush`] and
    /// [`PublisherClient::refusals`].
    pub fn publish(&self, event: &Event<'_>, version: Option<u64>) -> Result<u64, ClientError> {
        check(event, version).map_err(|(code, reason)| ClientError::Event { code, reason })?;
        let texts = event.table.len() + event.key.len() + event.value.map_or(0, str::len);
        // Room for the names of the map's keys, the action and the topic, so that it is not moved.
        let mut payload = Vec::with_capacity(texts + 64 + event.topic.map_or(0, str::len));
        let bare = Event {
            stamp: None,
            ..*event
        };
        codec::encode(&bare, &mut payload);
        if payload.len() > MAX_EVENT {
            let (code, len) = (Code::TooLarge, payload.len());
            let reason = format!("{len} bytes are more than the {MAX_EVENT} of a request");
            return Err(ClientError::Event { code, reason });
        }
        let running = self.running()?;
        let deadline = Instant::now() + self.options.send_timeout;
        let (number, ring) = running.shared.push(version, payload, deadline)?;
        if ring {
            running.bell.send(());
        }
        Ok(number)
    }

    /// Waits until every event published so far is acknowledged or refused, at most `within`. What
    /// is not by then is the summary's `pending`; it goes on being sent.
    pub fn flush(&self, within: Duration) -> Result<Summary, ClientError> {
        match self.running.get() {
            None => Ok(Summary::default()),
            Some(running) => {
                running.check_process()?;
                Ok(running.shared.flush(Instant::now() + within))
            }
        }
    }

    /// What became of the events so far, without waiting.
    pub fn summary(&self) -> Summary {
        self.running
            .get()
            .filter(|running| running.check_process().is_ok())
            .map_or_else(Summary::default, |running| running.shared.summary())
    }

    /// The events that were refused since the last call, in the order in which that was known. The
    /// newest are kept, twice as many as the spool holds events; [`Summary::refused`] counts all.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.running
            .get()
            .filter(|running| running.check_process().is_ok())
            .map_or_else(Vec::new, |running| running.shared.take_refusals())
    }

    /// Why events are not acknowledged just now; `None` when all is well.
    pub fn trouble(&self) -> Option<String> {
        let running = self.running.get()?;
        running.check_process().ok()?;
        running.shared.trouble()
    }

    /// Waits at most `linger` for acknowledgements and ends. The summary's `pending` events are
    /// lost, unless the service has them and only its answer is missing.
    pub fn close(self) -> Summary {
        self.end()
    }

    fn end(&self) -> Summary {
        let Some(running) = self.running.get() else {
            return Summary::default();
        };
        if running.check_process().is_err() {
            return Summary::default();
        }
        let summary = running.shared.flush(Instant::now() + self.options.linger);
        running.shared.close();
        running.bell.send(());
        let mut thread = lock(&running.thread);
        if !thread.join_by(Instant::now() + PATIENCE) {
            log::error!("the thread of the publisher client does not end; left behind");
        }
        summary
    }

    fn running(&self) -> Result<&Running, ClientError> {
        if let Some(running) = self.running.get() {
            running.check_process()?;
            return Ok(running);
        }
        let _one_at_a_time = lock(&self.starting);
        match self.running.get() {
            Some(running) => Ok(running),
            None => {
                let running = self.start()?;
                Ok(self.running.get_or_init(|| running))
            }
        }
    }

    fn start(&self) -> Result<Running, ClientError> {
        let cannot = |why: &dyn std::fmt::Display| ClientError::Start(why.to_string());
        let options = &self.options;
        check_ipc_path(&options.socket.to_string_lossy()).map_err(|error| cannot(&error))?;
        let identity = match options.identity {
            Some(identity) => identity,
            None => Identity {
                producer: random_producer().map_err(|error| cannot(&error))?,
                first: 1,
            },
        };
        let (bell, inbox) = waker::channel().map_err(|error| cannot(&error))?;
        let shared = Arc::new(Shared::new(identity, options));
        let context = self.context.clone().unwrap_or_default();
        let worker = Worker::new(context, &options.socket, Arc::clone(&shared), inbox);
        let thread =
            Thread::spawn("client", move || worker.run()).map_err(|error| cannot(&error))?;
        Ok(Running {
            pid: std::process::id(),
            shared,
            bell,
            thread: Mutex::new(thread),
        })
    }
}

impl Drop for PublisherClient {
    fn drop(&mut self) {
        self.end();
        let forked = |running: &mut Running| running.check_process().is_err();
        if self.running.get_mut().is_some_and(forked) {
            // Its context would wait for sockets whose threads are in the parent only.
            std::mem::forget(self.running.take());
            std::mem::forget(self.context.take());
        }
    }
}

impl Running {
    fn check_process(&self) -> Result<(), ClientError> {
        match self.pid == std::process::id() {
            true => Ok(()),
            false => Err(ClientError::Forked),
        }
    }
}

/// From the system: a generator of the process would give the same id to every forked worker.
fn random_producer() -> std::io::Result<Producer> {
    let mut producer = Producer::default();
    // Up to 256 bytes are given whole.
    getrandom(&mut producer, GetRandomFlags::empty())?;
    Ok(producer)
}

/// A panic while the lock was held leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
