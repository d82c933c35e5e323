//! What a daemon adds to its control socket.

use std::time::Duration;

use serde_json::Value;

use super::reply::Refusal;
use super::request::Request;

/// Answers requests; called on clients' threads, side by side.
pub trait Desk: Send + Sync + 'static {
    /// The answer, or why there is none. May wait for the daemon, for a bounded time.
    fn answer(&self, request: Request) -> Result<Answer, Refusal>;
}

/// An answer.
pub enum Answer {
    /// One value.
    Done(Value),
    /// Items, made as the client takes them; then their number as `rows`.
    Items(Box<dyn Iterator<Item = Value>>),
    /// Items as they come about, until the client has had enough.
    Feed(Box<dyn Feed>),
}

/// What comes about.
pub trait Feed {
    /// What there is within `wait`.
    fn next(&mut self, wait: Duration) -> Fed;
}

/// What a feed gives.
pub enum Fed {
    /// These items, in order.
    Items(Vec<Value>),
    /// Nothing yet.
    Nothing,
    /// The daemon is ending.
    End,
}
