//! On which line of a TOML file a key stands.
//!
//! A parsed value no longer knows its line. A key can stand only once in a table, so the one line
//! that looks like it is it; where several do (inside a multi-line text, say), none is named.

/// The line, from 1, of the top-level key or table `key`.
pub(super) fn of_key(text: &str, key: &str) -> Option<usize> {
    let top = text.lines().take_while(|line| !is_header(line)).count();
    let found = numbered(text).filter(|(number, line)| {
        (*number <= top && assigns(line, key)) || (is_header(line) && heads(line, key))
    });
    // Of `[[handler]]` tables the first is named.
    first_or_only(found, |line| line.trim_start().starts_with("[["))
}

/// The line of `key` in the `[[table]]` number `index` of `count`; else that of its header.
pub(super) fn of_table_key(
    text: &str,
    table: &str,
    (index, count): (usize, usize),
    key: &str,
) -> Option<usize> {
    let begins = |line: &str| line.trim_start().starts_with("[[") && heads(line, table);
    let headers: Vec<usize> = numbered(text)
        .filter(|(_, line)| begins(line))
        .map(|(number, _)| number)
        .collect();
    if headers.len() != count {
        return None;
    }
    let start = *headers.get(index)?;
    let end = headers.get(index + 1).copied().unwrap_or(usize::MAX);
    let inside = |number: usize| start < number && number < end;
    let found = numbered(text).filter(|(number, line)| inside(*number) && assigns(line, key));
    first_or_only(found, |_| false).or(Some(start))
}

/// The line, from 1, in which the byte at `offset` stands.
pub(super) fn of_offset(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    1 + before.filter(|&byte| byte == b'\n').count()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

fn first_or_only<'a>(
    mut found: impl Iterator<Item = (usize, &'a str)>,
    first_counts: impl Fn(&str) -> bool,
) -> Option<usize> {
    let (number, line) = found.next()?;
    (first_counts(line) || found.next().is_none()).then_some(number)
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

fn heads(line: &str, name: &str) -> bool {
    let inner = line.trim_start().trim_start_matches('[').trim_start();
    after(inner, name).is_some_and(|rest| rest.starts_with([']', '.']))
}

fn assigns(line: &str, key: &str) -> bool {
    after(line.trim_start(), key).is_some_and(|rest| rest.starts_with(['=', '.']))
}

/// What follows `key`, bare or quoted, at the beginning of `line`.
fn after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let quoted = |quote: char| {
        line.strip_prefix(quote)?
            .strip_prefix(key)?
            .strip_prefix(quote)
    };
    let rest = line.strip_prefix(key);
    let rest = rest.or_else(|| quoted('"')).or_else(|| quoted('\''))?;
    Some(rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# topics = ["not this"]
topics = ["a"]
 "quoted-key" = 1
doubt = """
doubt = 2
"""
[section]
state_dir = "/x"
[[handler]]
module = "log"
[[ handler ]]
  topics = ["b"]
  env.A = "x"
[handler.table]
"#;

    #[test]
    fn keys_are_found() {
        for (key, line) in [
            ("topics", Some(3)),
            ("topic", None),
            ("quoted-key", Some(4)),
            ("doubt", None),
            ("section", Some(8)),
            ("state_dir", None),
            ("handler", Some(10)),
        ] {
            assert_eq!(of_key(TEXT, key), line, "{key}");
        }
        let inside = |index, key| of_table_key(TEXT, "handler", (index, 2), key);
        assert_eq!(inside(0, "module"), Some(11));
        assert_eq!(inside(0, "topics"), Some(10), "the header's line");
        assert_eq!(inside(1, "topics"), Some(13));
        assert_eq!(inside(1, "env"), Some(14));
        assert_eq!(of_table_key(TEXT, "handler", (0, 3), "module"), None);
        assert_eq!(of_offset(TEXT, 0), 1);
        assert_eq!(of_offset(TEXT, 1), 2);
        assert_eq!(of_offset(TEXT, usize::MAX), 16);
    }
}
