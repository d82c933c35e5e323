//! What the daemon says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Which daemon this is: `agent` or `publisher`.
    pub fanfare: String,
    /// Its release.
    pub version: String,
    /// The version of the protocol it speaks.
    pub protocol: u32,
}

/// One line of an answer: items, then one of the other two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// One of many.
    Item(Value),
    /// The end; nothing failed.
    Done(Value),
    /// The end; what was asked is not done, or not wholly.
    Failed(Refusal),
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is no request.
    BadRequest,
    /// It is of another version of the protocol.
    BadVersion,
    /// What it names does not exist.
    NotFound,
    /// What it names cannot be used, such as a topic that nobody can send to.
    Invalid,
    /// This daemon has no such thing.
    Unsupported,
    /// This user may not use the socket.
    Forbidden,
    /// Not now: too many clients, or the daemon is busy or stuck; trying again may help.
    Busy,
    /// What a newer daemon may say.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(code: Code, message: impl std::fmt::Display) -> Self {
        Refusal {
            code,
            message: message.to_string(),
        }
    }
}

/// `value` as one line, with its end. Everything sent here is made of texts and numbers, which JSON
/// always holds.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_form_on_the_wire() {
        for (reply, text) in [
            (Reply::Item(json!({"a": 1})), r#"{"item":{"a":1}}"#),
            (Reply::Done(Value::Null), r#"{"done":null}"#),
            (
                Reply::Failed(Refusal::new(Code::NotFound, "no\nrow")),
                r#"{"failed":{"code":"not-found","message":"no\nrow"}}"#,
            ),
        ] {
            assert_eq!(line(&reply), format!("{text}\n").into_bytes());
            assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), reply);
        }
        let newer = r#"{"failed":{"code":"tired","message":"m"}}"#;
        let Ok(Reply::Failed(refusal)) = serde_json::from_str(newer) else {
            panic!("not read");
        };
        assert_eq!(refusal.code, Code::Other);
    }
}
