//! The JSON forms of an event and of a value: what commands and files are given.
//!
//! A value is opaque text, JSON in practice. Sound JSON is embedded as it stands (numbers keep
//! their digits, objects their order), anything else as a string: whoever reads the result with an
//! ordinary parser can always read it, whatever a publisher sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::event::Event;

/// Deepest nesting of a value that is embedded as it stands. Common parsers give up at 128 levels
/// and the value stands inside other brackets; one deep row must not make the others unreadable.
pub const MAX_DEPTH: u8 = 64;

/// `text` as a JSON string.
pub fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value as JSON on one line: `null` where there is none, the text itself when it is sound JSON
/// of at most [`MAX_DEPTH`] levels, else the text as a string.
pub fn value(value: Option<&str>) -> Cow<'_, str> {
    let Some(text) = value else {
        return Cow::Borrowed("null");
    };
    if !is_sound(text) {
        return Cow::Owned(string(text));
    }
    let text = text.trim_ascii();
    // Within its strings JSON has no raw line breaks, so these stand between tokens.
    if text.contains(['\n', '\r']) {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// What every form of an event has in common: the fields `table`, `key`, `action`, `value` and
/// `topic`, without brackets.
pub fn fields(event: &Event<'_>) -> String {
    format!(
        r#""table":{},"key":{},"action":{},"value":{},"topic":{}"#,
        string(event.table),
        string(event.key),
        string(event.action.as_str()),
        value(event.value),
        string(event.topic_or_all()),
    )
}

/// The field `version` with a comma before it; nothing when the event is not stamped.
pub fn version(event: &Event<'_>) -> String {
    event.stamp.map_or(String::new(), |stamp| {
        format!(r#","version":{}"#, stamp.version)
    })
}

/// An event as one line of JSON without the line's end. `sync`: it is a row of a resync.
/// `version` is there only when the event is stamped.
pub fn event(event: &Event<'_>, sync: bool) -> String {
    let (fields, version) = (fields(event), version(event));
    format!(r#"{{{fields},"sync":{sync}{version}}}"#)
}

/// The mark before (`begin_sync`) or after (`end_sync`) the rows of a resync: the shape of an
/// event that names no row, with the `reason` where there is one.
pub fn sync_mark(action: &str, reason: Option<&str>) -> String {
    let reason = reason.map_or(String::new(), |reason| {
        format!(r#","reason":{}"#, string(reason))
    });
    format!(
        r#"{{"table":null,"key":null,"action":{},"value":null,"topic":null,"sync":true{reason}}}"#,
        string(action)
    )
}

/// Whether any parser will read `text`. A `RawValue` would not do: it lets pass numbers that no
/// f64 holds, halves of surrogate pairs and any depth, on all of which common parsers fail.
fn is_sound(text: &str) -> bool {
    let mut parser = serde_json::Deserializer::from_str(text);
    Sound { depth: MAX_DEPTH }.deserialize(&mut parser).is_ok() && parser.end().is_ok()
}

/// Reads everything, keeps nothing; fails below `depth` levels, so its recursion is bounded.
#[derive(Clone, Copy)]
struct Sound {
    depth: u8,
}

impl Sound {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        depth
            .map(|depth| Sound { depth })
            .ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while fields.next_key_seed(inner)?.is_some() {
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stamp;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn sound_json_stays_as_it_is() {
        for text in [
            r#"{"b":1,"a":[1.50,-0,12345678901234567890123]}"#,
            r#""text""#,
            "null",
            "true",
        ] {
            assert_eq!(value(Some(text)), text);
        }
        assert_eq!(value(Some(" {\r\n\"a\":\n1}\n")), "{  \"a\": 1}");
        assert_eq!(value(None), "null");
    }

    #[test]
    fn anything_else_is_a_string() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for text in [
            "",
            "plain",
            "{\"a\":1",
            "{} {}",
            "1e999",
            "[\"\\ud800\"]",
            "{\"\\ud800\":1}",
            "a\nb",
            "\u{feff}{}",
            "NaN",
            &deep,
            &"[".repeat(1_000_000),
        ] {
            let line = value(Some(text));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), *text);
        }
    }

    #[test]
    fn depth_is_kept_up_to_the_limit() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        let limit = usize::from(MAX_DEPTH);
        assert!(value(Some(&nested(limit))).starts_with('['));
        assert!(value(Some(&nested(limit + 1))).starts_with('"'));
    }

    #[test]
    fn an_event_is_this_line() {
        let mut set = Event::set("lport", "p\"1\n", "{\n\"a\":1}").on("tenant1");
        assert_eq!(
            event(&set, true),
            r#"{"table":"lport","key":"p\"1\n","action":"set","value":{ "a":1},"topic":"tenant1","sync":true}"#
        );
        set.stamp = Some(Stamp {
            version: 7,
            ..Stamp::default()
        });
        assert!(event(&set, false).ends_with(r#""sync":false,"version":7}"#));
        assert_eq!(
            event(&Event::delete("lport", "p1"), false),
            r#"{"table":"lport","key":"p1","action":"delete","value":null,"topic":"D","sync":false}"#
        );
    }

    #[test]
    fn marks_have_the_shape_of_events() {
        let mark: Value = serde_json::from_str(&sync_mark("begin_sync", Some("started"))).unwrap();
        assert_eq!(mark["action"], "begin_sync");
        assert_eq!(mark["reason"], "started");
        assert_eq!(mark["table"], Value::Null);
        let mark: Value = serde_json::from_str(&sync_mark("end_sync", None)).unwrap();
        assert_eq!(mark.get("reason"), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_one_readable_line(
            table in ".*", key in ".*", text in "(?s)[\\[\\]{}\",:0-9eE\\\\ud \n\r\ta-z.-]{0,24}",
        ) {
            let line = event(&Event::set(&table, &key, &text), false);
            prop_assert!(!line.contains(['\n', '\r']));
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["table"], &table);
            prop_assert_eq!(&read["key"], &key);
            let expected = serde_json::from_str(&text).unwrap_or(Value::String(text));
            prop_assert_eq!(&read["value"], &expected);
        }
    }
}
