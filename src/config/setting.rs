//! How a checked value becomes a Rust value, and how it is shown in messages.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Num, Value};

use super::text;
use crate::pubsub::endpoint::Transport;

/// A Rust type that a checked value becomes.
pub(super) trait Setting: Sized {
    /// `None` only when the kind of the key does not fit the type of its field.
    fn from_value(value: &Value) -> Option<Self>;
}

impl Setting for bool {
    fn from_value(value: &Value) -> Option<Self> {
        value.to_bool()
    }
}

impl Setting for u16 {
    fn from_value(value: &Value) -> Option<Self> {
        integer(value)?.try_into().ok()
    }
}

impl Setting for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        integer(value)?.try_into().ok()
    }
}

impl Setting for i32 {
    fn from_value(value: &Value) -> Option<Self> {
        integer(value)?.try_into().ok()
    }
}

impl Setting for usize {
    fn from_value(value: &Value) -> Option<Self> {
        integer(value)?.try_into().ok()
    }
}

impl Setting for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        integer(value)?.try_into().ok()
    }
}

impl Setting for Duration {
    fn from_value(value: &Value) -> Option<Self> {
        Duration::try_from_secs_f64(number(value)?).ok()
    }
}

impl Setting for Option<std::net::SocketAddr> {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        }
    }
}

impl Setting for String {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for PathBuf {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(PathBuf::from)
    }
}

impl Setting for Vec<String> {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::from_value).collect()
    }
}

impl Setting for Transport {
    fn from_value(value: &Value) -> Option<Self> {
        Transport::parse(value.as_str()?)
    }
}

impl Setting for Option<[u8; 16]> {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "" => Some(None),
            text => text::id(text).map(Some),
        }
    }
}

/// A value as it stands in a message.
pub(super) fn show(value: &Value) -> String {
    match value {
        // Written in the wrong place, it must not go to a log as well.
        Value::String(_, text) if text.contains("secret:") => "a secret key".into(),
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, Num::F32(n)) => format!("{n:?}"),
        Value::Num(_, Num::F64(n)) => format!("{n:?}"),
        Value::Num(..) => integer(value).map_or("a number".into(), |n| n.to_string()),
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
    }
}

pub(super) fn integer(value: &Value) -> Option<i64> {
    let unsigned = || value.to_u128().and_then(|n| i64::try_from(n).ok());
    let signed = || value.to_i128().and_then(|n| i64::try_from(n).ok());
    signed().or_else(unsigned)
}

pub(super) fn number(value: &Value) -> Option<f64> {
    value.to_f64().or_else(|| integer(value).map(|n| n as f64))
}
