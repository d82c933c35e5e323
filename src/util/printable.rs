//! Foreign text in log lines and error messages.
//!
//! Keys, values and the output of commands are made by others. Written raw, a newline or a
//! terminal escape in them could forge a log line or repaint an operator's screen.

use std::fmt::{self, Write as _};

/// Shows foreign text on one line, escaped and cut.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a> {
    text: &'a str,
    max: usize,
    quoted: bool,
}

/// Running text, such as a value: control characters and backslashes are escaped, quotation marks
/// are not. At most `max` bytes of it are shown, and how many bytes were left out. To be put at
/// the end of a line, where it cannot be taken for another field.
pub fn text(text: &str, max: usize) -> Printable<'_> {
    Printable {
        text,
        max,
        quoted: false,
    }
}

/// A name, such as a key: as [`text`], and quoted unless it is made of letters, digits and
/// `-_.:/@` only, so that it cannot be taken for other fields of the line.
pub fn name(text: &str, max: usize) -> Printable<'_> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    Printable {
        text,
        max,
        quoted: text.is_empty() || !text.bytes().all(plain),
    }
}

/// The longest beginning of `text` that has at most `max` bytes and ends between two characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = cut(self.text, self.max);
        if self.quoted {
            f.write_char('"')?;
        }
        for c in shown.chars() {
            match c {
                '\'' => f.write_char(c)?,
                '"' if !self.quoted => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        if self.quoted {
            f.write_char('"')?;
        }
        match self.text.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "…(and {more} bytes)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_line() {
        let shown = text("a\nb\r\u{1b}[2J\u{2028}\u{202e}\\ \"x\"", 100).to_string();
        assert_eq!(shown, r#"a\nb\r\u{1b}[2J\u{2028}\u{202e}\\ "x""#);
    }

    #[test]
    fn names_cannot_look_like_fields() {
        assert_eq!(name("lport/a-1", 100).to_string(), "lport/a-1");
        assert_eq!(name("p\" value=x", 100).to_string(), r#""p\" value=x""#);
        assert_eq!(name("", 100).to_string(), r#""""#);
    }

    #[test]
    fn it_is_cut_between_characters() {
        assert_eq!(text("aßc", 2).to_string(), "a…(and 3 bytes)");
        assert_eq!(text("aßc", 3).to_string(), "aß…(and 1 bytes)");
        assert_eq!(text("aßc", 4).to_string(), "aßc");
        assert_eq!(text("ß", 0).to_string(), "…(and 2 bytes)");
    }
}
