//! The lines of protocol version 1; docs/handlers.md says what they mean.
//!
//! What goes to the child always begins with `type` and `seq` in this order, so that a shell
//! script can tell lines apart without reading JSON. What comes from the child may be in any order.

use serde_json::Value;

use crate::event::Event;
use crate::handler::json;

/// The version that both sides name in their hello.
pub(super) const VERSION: u64 = 1;

/// The first line to the child: `handler` is its name in the configuration, `window` how many
/// lines it may leave without an answer.
pub(super) fn hello(handler: &str, window: usize) -> String {
    let handler = json::string(handler);
    format!(
        r#"{{"type":"hello","seq":0,"protocol":{VERSION},"handler":{handler},"window":{window}}}"#
    )
}

/// All rows follow; what is not among them is gone.
pub(super) fn begin_sync(seq: u64, reason: &str) -> String {
    let reason = json::string(reason);
    format!(r#"{{"type":"begin_sync","seq":{seq},"reason":{reason}}}"#)
}

/// A row (of a resync) or an event.
pub(super) fn change(seq: u64, event: &Event<'_>, in_sync: bool) -> String {
    let kind = if in_sync { "row" } else { "event" };
    let (fields, version) = (json::fields(event), json::version(event));
    format!(r#"{{"type":"{kind}","seq":{seq},{fields}{version}}}"#)
}

/// All rows were given.
pub(super) fn end_sync(seq: u64) -> String {
    format!(r#"{{"type":"end_sync","seq":{seq}}}"#)
}

/// Are you there?
pub(super) fn ping(seq: u64) -> String {
    format!(r#"{{"type":"ping","seq":{seq}}}"#)
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// It is ready, and speaks this version.
    Hello(u64),
    /// It has done everything up to this line.
    Ack(u64),
    /// It could not do this line.
    Nack {
        seq: u64,
        reason: String,
        /// Whether it may work later.
        retry: bool,
    },
    /// It is there.
    Pong(u64),
    /// A line of its own log.
    Log(log::Level, String),
}

/// Reads a line. Whatever is no message of the protocol is a line of the child's log: what libraries
/// print must not be its death.
///
/// # Errors
/// It names a message of the protocol and is none: the child is at fault.
pub(super) fn parse(line: &str) -> Result<Message, String> {
    let plain = || Ok(Message::Log(log::Level::Info, line.trim_end().to_owned()));
    if !line.starts_with('{') {
        return plain();
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
        return plain();
    };
    let Some(kind) = fields.get("type").and_then(Value::as_str) else {
        return plain();
    };
    let number = |name: &str| {
        let number = fields.get(name).and_then(Value::as_u64);
        number.ok_or_else(|| format!("said {kind} without a number {name}"))
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match kind {
        "hello" => Ok(Message::Hello(number("protocol")?)),
        "ack" => Ok(Message::Ack(number("seq")?)),
        "nack" => Ok(Message::Nack {
            seq: number("seq")?,
            reason: text("reason").unwrap_or("no reason").to_owned(),
            retry: fields.get("retry").and_then(Value::as_bool).unwrap_or(true),
        }),
        "pong" => Ok(Message::Pong(number("seq")?)),
        "log" => {
            let level = text("level").and_then(|level| level.parse().ok());
            let message = text("message").unwrap_or_default().to_owned();
            Ok(Message::Log(level.unwrap_or(log::Level::Info), message))
        }
        _ => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lines_are_as_documented() {
        let event = Event::set("lport", "p\n1", "{\"a\":1}").on("t1");
        for (line, expected) in [
            (
                hello("n", 64),
                r#"{"type":"hello","seq":0,"protocol":1,"handler":"n","window":64}"#,
            ),
            (
                begin_sync(1, "started"),
                r#"{"type":"begin_sync","seq":1,"reason":"started"}"#,
            ),
            (
                change(2, &event, true),
                r#"{"type":"row","seq":2,"table":"lport","key":"p\n1","action":"set","value":{"a":1},"topic":"t1"}"#,
            ),
            (end_sync(3), r#"{"type":"end_sync","seq":3}"#),
            (
                change(4, &Event::delete("t", "k"), false),
                r#"{"type":"event","seq":4,"table":"t","key":"k","action":"delete","value":null,"topic":"D"}"#,
            ),
            (ping(5), r#"{"type":"ping","seq":5}"#),
        ] {
            assert_eq!(line, expected);
            serde_json::from_str::<Value>(&line).unwrap();
        }
    }

    #[test]
    fn the_child_is_understood() {
        let log = |level, text: &str| Message::Log(level, text.into());
        for (line, expected) in [
            (r#"{"type":"hello","protocol":1}"#, Message::Hello(1)),
            (r#"{"seq": 7, "type": "ack", "x": []}"#, Message::Ack(7)),
            (r#"{"type":"pong","seq":9}"#, Message::Pong(9)),
            (
                r#"{"type":"log","level":"warn","message":"m"}"#,
                log(log::Level::Warn, "m"),
            ),
            (r#"{"type":"log","level":7}"#, log(log::Level::Info, "")),
            ("plain", log(log::Level::Info, "plain")),
            ("{broken", log(log::Level::Info, "{broken")),
            (r#"{"msg":1}"#, log(log::Level::Info, r#"{"msg":1}"#)),
            (r#"{"type":"x"}"#, log(log::Level::Info, r#"{"type":"x"}"#)),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
        let nack = |line| match parse(line) {
            Ok(Message::Nack { seq, reason, retry }) => (seq, reason, retry),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            nack(r#"{"type":"nack","seq":3,"reason":"r","retry":false}"#),
            (3, "r".into(), false)
        );
        assert_eq!(
            nack(r#"{"type":"nack","seq":3}"#),
            (3, "no reason".into(), true)
        );
        for line in [
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","seq":-1}"#,
            r#"{"type":"nack","seq":"1"}"#,
            r#"{"type":"hello"}"#,
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_child_says_is_read(line in "(?s).{0,40}|\\{\"type\":\"(ack|nack|log|x)\".{0,20}\\}") {
            let _ = parse(&line);
        }
    }
}
