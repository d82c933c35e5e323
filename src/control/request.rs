//! What a client asks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PROTOCOL;

/// One request. On the wire an object with `"v"`, `"do"` (the name below in lower case, words
/// joined by `-`) and the members of its kind; an optional one may be left out or null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon is; `done` is its report.
    Status {},
    /// Changes as they happen, an item each, until the client ends the connection. An item
    /// `{"lost":n}` says that the client was too slow for n events.
    Watch {
        /// Only these tables; none means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tables: Vec<String>,
        /// Only these topics; none means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        topics: Vec<String>,
    },
    /// Rows of the replica, an item each, by key; `done` has their number.
    Get {
        /// The table.
        table: String,
        /// Only this row; `not-found` when it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The topics with their rows, an item each.
    TopicsList {},
    /// Subscribes to a topic until the next start; `done` has `changed`.
    TopicsAdd {
        /// The topic.
        topic: String,
    },
    /// Unsubscribes from a topic until the next start; `done` has `changed`.
    TopicsRemove {
        /// The topic.
        topic: String,
    },
    /// Has a handler, or all, start over.
    Resync {
        /// The handler's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handler: Option<String>,
    },
    /// Rows that handlers have given up on, an item each.
    QuarantineList {
        /// Only of this handler.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handler: Option<String>,
    },
    /// Gives rows in quarantine to their handler again; `done` has `released`.
    QuarantineRelease {
        /// Only of this handler.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handler: Option<String>,
        /// Only of this table.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<String>,
        /// Only this key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Tells, and with `level` changes, what is logged; until the next start.
    LogLevel {
        /// As the configuration's `log_level`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<String>,
    },
}

/// Why a line is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It is of another version of the protocol; use a tool and a daemon of one release.
    #[error("protocol version {0} is not known; this is version {PROTOCOL}")]
    Version(String),
    /// It is no request; the text says why.
    #[error("{0}")]
    Request(String),
}

impl Request {
    /// Reads one line, with or without its end.
    pub fn decode(line: &[u8]) -> Result<Self, Bad> {
        let bad = |error: serde_json::Error| Bad::Request(error.to_string());
        let value: Value = serde_json::from_slice(line).map_err(bad)?;
        let Value::Object(mut members) = value else {
            return Err(Bad::Request("a request is an object".into()));
        };
        match members.remove("v") {
            Some(version) if version == PROTOCOL => {}
            Some(version) => {
                let text = version.to_string();
                return Err(Bad::Version(crate::util::printable::cut(&text, 32).into()));
            }
            None => return Err(Bad::Request(r#"member "v" is missing"#.into())),
        }
        serde_json::from_value(Value::Object(members)).map_err(bad)
    }

    /// The line that [`Request::decode`] reads, with its end.
    pub fn encode(&self) -> String {
        // A struct of texts cannot fail to become JSON; a request without members is refused.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(members) = &mut value {
            members.insert("v".into(), PROTOCOL.into());
        }
        format!("{value}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Request> {
        let text = || any::<String>();
        let maybe = || proptest::option::of(any::<String>());
        let texts = || proptest::collection::vec(any::<String>(), 0..3);
        prop_oneof![
            Just(Request::Status {}),
            Just(Request::TopicsList {}),
            (texts(), texts()).prop_map(|(tables, topics)| Request::Watch { tables, topics }),
            (text(), maybe()).prop_map(|(table, key)| Request::Get { table, key }),
            text().prop_map(|topic| Request::TopicsAdd { topic }),
            text().prop_map(|topic| Request::TopicsRemove { topic }),
            maybe().prop_map(|handler| Request::Resync { handler }),
            maybe().prop_map(|handler| Request::QuarantineList { handler }),
            (maybe(), maybe(), maybe()).prop_map(|(handler, table, key)| {
                Request::QuarantineRelease {
                    handler,
                    table,
                    key,
                }
            }),
            maybe().prop_map(|level| Request::LogLevel { level }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(request in requests()) {
            let line = request.encode();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Request::decode(line.as_bytes()), Ok(request));
        }

        #[test]
        fn nothing_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&line);
        }

        #[test]
        fn nothing_close_to_a_request_panics(
            request in requests(),
            place in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut line = request.encode().into_bytes();
            let place = place.index(line.len());
            line[place] = byte;
            let _ = Request::decode(&line);
            line.truncate(place);
            let _ = Request::decode(&line);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("", "EOF"),
            ("[]", "an object"),
            ("{}", r#""v" is missing"#),
            (r#"{"v":1}"#, "do"),
            (r#"{"v":1,"do":"reboot"}"#, "unknown variant `reboot`"),
            (
                r#"{"v":1,"do":"status","table":"t"}"#,
                "unknown field `table`",
            ),
            (r#"{"v":1,"do":"get"}"#, "missing field `table`"),
            (
                r#"{"v":2,"do":"status"}"#,
                "version 2 is not known; this is version 1",
            ),
            (r#"{"v":"1","do":"status"}"#, "version \"1\" is not known"),
            (&"[".repeat(10_000), "recursion limit"),
        ] {
            let error = Request::decode(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert_eq!(
            Request::decode(b" {\"do\":\"get\",\"table\":\"t\",\"key\":null,\"v\":1}\r\n"),
            Ok(Request::Get {
                table: "t".into(),
                key: None
            })
        );
    }
}
