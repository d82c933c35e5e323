//! TOML, whole files and single values.

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

use super::keys::Key;
use super::lines;

/// The values of a file, or the line and the reason of its first fault of syntax.
pub(super) fn file(text: &str) -> Result<Dict, (usize, String)> {
    Toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        (lines::of_offset(text, offset), error.message().to_owned())
    })
}

/// A value in TOML syntax.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let mut dict: Dict = Toml::from_str(&format!("value = {text}"))
        .map_err(|error: <Toml as Format>::Error| error.message().to_owned())?;
    // A line break in `text` could start another key.
    match (dict.remove("value"), dict.is_empty()) {
        (Some(value), true) => Ok(value),
        _ => Err("is more than one value".into()),
    }
}

/// A value from the environment or the command line, where quotes are a burden: for a key whose
/// value is a text, what is not a quoted text is the text itself (`12345678…` as a publisher id,
/// `off` as a log level). For any other key it is TOML, or else a word that the key's check names.
pub(super) fn word_or_value(key: &Key, text: &str) -> Result<Value, String> {
    let parsed = value(text);
    if key.kind.takes_text() {
        return Ok(match parsed {
            Ok(value @ Value::String(..)) => value,
            _ => text.into(),
        });
    }
    match parsed {
        Err(why) if text.starts_with(['[', '{', '"', '\'']) => Err(format!("is not TOML: {why}")),
        Err(_) => Ok(text.into()),
        Ok(value) => Ok(value),
    }
}
