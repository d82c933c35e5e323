//! Names of files for tables and keys, which anybody may have chosen: pure.
//!
//! Letters a–z, digits, `_`, `-` and a dot that is not the first stand for themselves, each other
//! byte is `%` and two lower-case hexadecimal digits; the empty text is `%`. So a name is never `.`,
//! `..` or hidden, holds no `/` and no NUL, leads back to its text, and two texts never share a
//! file, not even where the file system takes `A` and `a` for the same.

/// Longest name, bytes: file systems take 255, of which the name of a temporary file needs some.
const MAX_NAME: usize = 220;

/// The name for `text`; `None` when it would be too long. It is not cut: two texts with the same
/// beginning would share a file.
pub(super) fn escape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => name.push(byte.into()),
            b'.' if place > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() {
        name.push('%');
    }
    (name.len() <= MAX_NAME).then_some(name)
}

/// The text whose name this is; `None` when it is nobody's.
pub(super) fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(place) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..place]);
        let Some(digits) = rest.get(place + 1..place + 3) else {
            break;
        };
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[place + 3..];
    }
    if name != "%" {
        bytes.extend_from_slice(rest.as_bytes());
    }
    // Whatever reads alike but is written otherwise is not ours.
    String::from_utf8(bytes)
        .ok()
        .filter(|text| escape(text).as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_as_documented() {
        for (text, name) in [
            ("p1.a_b-c", "p1.a_b-c"),
            ("", "%"),
            (".", "%2e"),
            ("..", "%2e."),
            ("../x", "%2e.%2fx"),
            (".hidden", "%2ehidden"),
            ("A/a\0", "%41%2fa%00"),
            ("%", "%25"),
            ("ß", "%c3%9f"),
        ] {
            assert_eq!(escape(text).as_deref(), Some(name));
            assert_eq!(unescape(name).as_deref(), Some(text));
        }
        assert_eq!(escape(&"x".repeat(MAX_NAME)).unwrap().len(), MAX_NAME);
        assert_eq!(escape(&"x".repeat(MAX_NAME + 1)), None);
        assert_eq!(escape(&"X".repeat(MAX_NAME / 3 + 1)), None);
        for foreign in [
            "README", ".x", "%4A", "%61", "%zz", "a%", "%ff", "%+1", "a b",
        ] {
            assert_eq!(unescape(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn a_name_leads_back_and_nowhere_else(text in "(?s).{0,40}", other in "[.%/a-cA-C\0]{0,4}") {
            for text in [text, other] {
                let name = escape(&text).unwrap_or_default();
                prop_assume!(!name.is_empty());
                prop_assert!(!name.starts_with('.') && !name.contains(['/', '\0']));
                prop_assert_eq!(name.to_lowercase(), name.clone());
                prop_assert_eq!(unescape(&name), Some(text));
            }
        }
    }
}
