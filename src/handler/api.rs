//! The contract between the agent and a handler module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::topics::TopicRequests;
use crate::event::Event;
use crate::metrics::Counts;
use crate::util::stop::StopToken;

/// Why a handler is told to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncReason {
    /// The handler was just started.
    Started,
    /// The handler was just started, and something is known to be missing: not every publisher could
    /// be heard in time. What is missing follows as events.
    Incomplete,
    /// A legacy publisher was reconnected; what it sent meanwhile is unknown.
    Reconnected,
    /// The handler's queue overflowed and it was promised every event.
    Overflow,
    /// The handler panicked or its child died.
    HandlerRestarted,
    /// The operator asked for it, or the periodic resync of legacy publishers is due.
    Requested,
    /// The handler failed to start over before, or with more rows than can be given again one by
    /// one.
    Failed,
}

impl SyncReason {
    /// A stable name for logs, metrics and child processes.
    pub fn as_str(self) -> &'static str {
        match self {
            SyncReason::Started => "started",
            SyncReason::Incomplete => "incomplete",
            SyncReason::Reconnected => "reconnected",
            SyncReason::Overflow => "overflow",
            SyncReason::HandlerRestarted => "handler-restarted",
            SyncReason::Requested => "requested",
            SyncReason::Failed => "failed",
        }
    }
}

/// What a handler says about a call that did not work, named by what the agent does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// It may work later. The row is given again after a wait that doubles from half a second to a
    /// minute, jittered, while other rows go on; from `begin_sync` and `end_sync` it means that the
    /// handler must start over later.
    #[error("{0}; may work later")]
    Retry(String),
    /// It will never work for this event: the row is not given again until it has a newer state,
    /// the operator says so, or the handler starts over.
    #[error("{0}")]
    Permanent(String),
    /// The handler is lost, as when its child died: it is dropped, made again after a wait, and
    /// starts over.
    #[error("{0}; the handler must be made again")]
    Lost(String),
}

/// The bounds within which a handler must come to an end.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    /// The agent does not wait for the handler beyond this.
    pub deadline: Instant,
}

/// A local consumer of events. Each handler has a lane: a thread of its own and a bounded queue.
///
/// What it may assume: one thread calls it, one call at a time; rows of one key come in their
/// order; `begin_sync`, any number of `apply` and `end_sync` come as a bracket, and no bracket
/// opens inside another; a bracket that is not closed is followed by a new `begin_sync`.
///
/// What it must not do: assume that it sees every intermediate state of a row (a slow handler is
/// given the newest one), take part in process-wide signals, or rely on `Drop` for its last state
/// (that is what [`Handler::close`] is for; a handler that is stuck at the end is abandoned).
/// It may block: only its own lane waits. But a call that can take longer than about a second must
/// end early when the [`StopToken`] given to [`Module::build`] says so, with
/// [`HandlerError::Retry`]; [`Handler::close`] follows, or, where the call ran longer than the
/// handler's `time_limit`, the handler is dropped and made again.
pub trait Handler: Send {
    /// Start over: what is not given between this and `end_sync` is gone.
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError>;

    /// One change, or one row of a resync. `event.action` is never [`crate::event::Action::Other`].
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError>;

    /// Every row has been given.
    fn end_sync(&mut self) -> Result<(), HandlerError>;

    /// Called when the queue is empty and when the time it last returned has come; returns when
    /// it wants to be called again (`None`: only after the next event). After an error it is
    /// called again within a second or so, so that it can say when it wants to try again. It is shown
    /// as failing until that time has come and it does not fail, or until it has nothing more to do.
    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        let _ = now;
        Ok(None)
    }

    /// Called once, before anything else, with the handle by which the handler adds and removes
    /// topics while it runs. Not given to [`Module::build`], which must change nothing outside.
    fn attach(&mut self, topics: TopicRequests) {
        let _ = topics;
    }

    /// Called once, after [`Handler::attach`]: what the handler itself counts, for its status.
    fn counts(&self) -> Option<Arc<dyn Counts>> {
        None
    }

    /// Called after each `begin_sync`, `apply` and `idle`: names events that `apply` took and that
    /// have failed since, such as those a child did not acknowledge. What it names after `begin_sync` is
    /// let go, since the resync has it; of events from before, none may be named later.
    fn late_failures(&mut self, tell: &mut dyn FnMut(&Event<'_>, HandlerError)) {
        let _ = tell;
    }

    /// The last call. Anything that must survive is written here, before `closing.deadline`.
    fn close(&mut self, closing: Closing) -> Result<(), HandlerError> {
        let _ = closing;
        Ok(())
    }
}

/// Why a handler could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The operator must mend this key of the handler's table.
    #[error("{key}: {why}")]
    Setting {
        /// The key within the `[[handler]]` table.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// Something outside is in the way now; trying again may help.
    #[error("{0}")]
    Environment(String),
}

impl BuildError {
    /// A fault of the setting `key`.
    pub fn setting(key: impl Into<String>, why: impl ToString) -> Self {
        BuildError::Setting {
            key: key.into(),
            why: why.to_string(),
        }
    }
}

/// A module's own keys of its `[[handler]]` table (name, module and filters are taken out).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: figment::value::Dict,
}

/// The same keys with the same values, wherever they were read.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        // A value of figment also knows its source, which is another one each time.
        let plain = |settings: &Settings| serde_json::to_value(&settings.values).ok();
        plain(self) == plain(other)
    }
}

impl Settings {
    /// The settings with these values.
    pub fn new(values: figment::value::Dict) -> Self {
        Settings { values }
    }

    /// The keys that are set.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of `key`, `None` when it is not set.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, BuildError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => value
                .deserialize()
                .map(Some)
                .map_err(|error| BuildError::setting(key, plain(&error))),
        }
    }

    /// The value of `key`, which must be set.
    pub fn require<T: DeserializeOwned>(&self, key: &str) -> Result<T, BuildError> {
        self.get(key)?
            .ok_or_else(|| BuildError::setting(key, "must be set"))
    }

    /// A duration given in seconds (fractions allowed) between `min` and `max`.
    pub fn seconds(
        &self,
        key: &str,
        default: Duration,
        min: Duration,
        max: Duration,
    ) -> Result<Duration, BuildError> {
        let Some(seconds) = self.get::<f64>(key)? else {
            return Ok(default);
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time >= min && time <= max => Ok(time),
            _ => Err(BuildError::setting(
                key,
                format_args!(
                    "{seconds} is not between {} and {} seconds",
                    min.as_secs_f64(),
                    max.as_secs_f64()
                ),
            )),
        }
    }
}

/// figment's error without its "for key … in …" tail: the caller names the key itself.
fn plain(error: &figment::Error) -> String {
    error.kind.to_string()
}

/// Makes a handler called `name`, which ends what it is doing when `stop` says so.
///
/// Must not block, must change nothing outside, and must leave nothing behind on error: it is also
/// how a configuration is checked, maybe beside a running agent.
pub type Build =
    fn(name: &str, settings: &Settings, stop: &StopToken) -> Result<Box<dyn Handler>, BuildError>;

/// One entry of the registry: how a module is named, checked and made.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// What `module = "…"` says.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// The keys the module knows, sorted; see [`Module::unknown_keys`].
    pub keys: &'static [&'static str],
    /// Makes a handler.
    pub build: Build,
}
