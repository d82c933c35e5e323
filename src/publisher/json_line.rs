//! Events as JSON lines: how people and scripts write them.
//!
//! `{"table": "lport", "key": "p1", "action": "set", "value": {…}, "topic": "tenant1", "version": 7}`;
//! `action` defaults to `set`, `topic` to all, `version` (the object's own, from 1) to one that the
//! publisher gives. A string as `value` is the value's text itself, any other JSON is the value as
//! it is written.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::submit::MAX_VERSION;
use crate::event::topic::{self, TopicError};
use crate::event::{Action, Event};

/// Why a line is no event; the writer must mend it.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or not of the form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Table and key name the row.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// A control action, or a slip.
    #[error("action {0:?} is none of create, set, delete")]
    Action(String),
    /// A deleted row has no value.
    #[error("a delete has no value")]
    DeleteWithValue,
    /// A row that is set has one.
    #[error("`value` is missing; only a delete has none")]
    NoValue,
    /// Versions are from 1 to [`MAX_VERSION`].
    #[error("`version` is not a number from 1 to {MAX_VERSION}")]
    Version,
    /// See [`topic::check`].
    #[error(transparent)]
    Topic(#[from] TopicError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    table: String,
    key: String,
    action: Option<String>,
    value: Option<Box<RawValue>>,
    topic: Option<String>,
    version: Option<u64>,
}

/// One line, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonLine {
    table: String,
    key: String,
    action: String,
    value: Option<String>,
    topic: Option<String>,
    version: Option<u64>,
}

impl JsonLine {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, LineError> {
        let fields: Fields = serde_json::from_str(line)?;
        let value = match &fields.value {
            Some(raw) if raw.get().starts_with('"') => Some(serde_json::from_str(raw.get())?),
            Some(raw) if raw.get() != "null" => Some(raw.get().to_owned()),
            _ => None,
        };
        for (name, text) in [("table", &fields.table), ("key", &fields.key)] {
            if text.is_empty() {
                return Err(LineError::Empty(name));
            }
        }
        let action = fields.action.unwrap_or_else(|| "set".into());
        match (Action::parse(&action), &value) {
            (Action::Other(_), _) => return Err(LineError::Action(action)),
            (Action::Delete, Some(_)) => return Err(LineError::DeleteWithValue),
            (Action::Create | Action::Set, None) => return Err(LineError::NoValue),
            _ => {}
        }
        let good = |version: &u64| (1..=MAX_VERSION).contains(version);
        if !fields.version.as_ref().is_none_or(good) {
            return Err(LineError::Version);
        }
        if let Some(topic) = &fields.topic {
            topic::check(topic)?;
        }
        Ok(JsonLine {
            table: fields.table,
            key: fields.key,
            action,
            value,
            topic: fields.topic,
            version: fields.version,
        })
    }

    /// The writer's own version of the object, where the line has one.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The event.
    pub fn event(&self) -> Event<'_> {
        Event {
            table: &self.table,
            key: &self.key,
            action: Action::parse(&self.action),
            value: self.value.as_deref(),
            topic: self.topic.as_deref(),
            stamp: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        for (value, text) in [
            (r#"{"a": 1.0}"#, r#"{"a": 1.0}"#),
            (r#""plain""#, "plain"),
            ("12", "12"),
        ] {
            let line =
                JsonLine::parse(&format!(r#"{{"table":"t","key":"k","value":{value}}}"#)).unwrap();
            assert_eq!(line.event(), Event::set("t", "k", text));
        }
        let line =
            JsonLine::parse(r#"{"table":"t","key":"k","action":"delete","topic":"x"}"#).unwrap();
        assert_eq!(line.event(), Event::delete("t", "k").on("x"));
        assert_eq!(line.version(), None);
        let line =
            JsonLine::parse(r#"{"table":"t","key":"k","value":1,"version":9223372036854775807}"#);
        assert_eq!(line.unwrap().version(), Some(MAX_VERSION));
    }

    #[test]
    fn a_slip_is_told() {
        for (line, why) in [
            (
                r#"{"table":"t","key":"","value":1}"#,
                "`key` must not be empty",
            ),
            (r#"{"table":"t","key":"k"}"#, "`value` is missing"),
            (
                r#"{"table":"t","key":"k","value":null}"#,
                "`value` is missing",
            ),
            (
                r#"{"table":"t","key":"k","action":"delete","value":1}"#,
                "a delete has no value",
            ),
            (
                r#"{"table":"t","key":"k","action":"sync"}"#,
                "action \"sync\" is none of",
            ),
            (
                r#"{"table":"t","key":"k","value":1,"topic":""}"#,
                "a topic must not be empty",
            ),
            (
                r#"{"table":"t","kee":"k","value":1}"#,
                "unknown field `kee`",
            ),
            (
                r#"{"table":"t","key":"k","value":1,"version":0}"#,
                "`version` is not a number from 1 to 9223372036854775807",
            ),
            (
                r#"{"table":"t","key":"k","value":1,"version":9223372036854775808}"#,
                "`version` is not a number from 1",
            ),
            (
                r#"{"table":"t","key":"k","value":1,"version":"7"}"#,
                "invalid type: string",
            ),
            ("[]", "invalid"),
        ] {
            let error = JsonLine::parse(line).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
