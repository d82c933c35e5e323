//! The writer's own version of an object, where a JSON field of its value holds it.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

use super::submit::MAX_VERSION;

/// Reads one field of JSON objects.
#[derive(Debug, Clone)]
pub struct VersionField {
    name: String,
}

impl VersionField {
    /// Reads the field called `name`, such as `version`.
    pub fn new(name: impl Into<String>) -> Self {
        VersionField { name: name.into() }
    }

    /// The number in that field; `None` where the value is no JSON object, or the field is missing
    /// or no whole number from 1 to [`MAX_VERSION`]. Nothing else of the value is kept.
    pub fn of(&self, value: &str) -> Option<u64> {
        let mut reader = serde_json::Deserializer::from_str(value);
        let version = self.deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        version.filter(|version| (1..=MAX_VERSION).contains(version))
    }
}

impl<'de> DeserializeSeed<'de> for &VersionField {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &VersionField {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Field {
            Number(u64),
            Other(IgnoredAny),
        }
        let mut version = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if key == self.name.as_str() {
                version = match map.next_value::<Field>()? {
                    Field::Number(number) => Some(number),
                    Field::Other(_) => None,
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_where_it_is_a_number() {
        let field = VersionField::new("version");
        for (value, version) in [
            (r#"{"a": [1, {"version": 9}], "version": 7}"#, Some(7)),
            (r#"{"version": "7"}"#, None),
            (r#"{"version": -1}"#, None),
            (r#"{"version": 0}"#, None),
            (r#"{"version": 9223372036854775807}"#, Some(MAX_VERSION)),
            (r#"{"version": 9223372036854775808}"#, None),
            (r#"{"version": 18446744073709551615}"#, None),
            (r#"{"other": 1}"#, None),
            (r#"{"version": 7} x"#, None),
            ("plain", None),
            ("[7]", None),
        ] {
            assert_eq!(field.of(value), version, "{value}");
        }
    }
}
