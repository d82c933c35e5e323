//! What a Rust file imports, read without a parser: text and comments are blanked, items for tests
//! are cut, what remains is searched for paths.

/// The code without comments, texts, and items that are compiled for tests only.
pub fn code(text: &str) -> String {
    without_tests(&blank(text))
}

/// Comments, strings and characters become spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let starts =
        |place: usize, what: &str| what.chars().enumerate().all(|(n, c)| at(place + n) == c);
    let mut out = String::new();
    let mut place = 0;
    while place < chars.len() {
        let word_before = place > 0 && is_word(at(place - 1));
        let hashes = (place + 1..).take_while(|n| at(*n) == '#').count();
        // Not a lifetime.
        let is_char = at(place) == '\'' && (at(place + 1) == '\\' || at(place + 2) == '\'');
        let end = if starts(place, "//") {
            (place..chars.len())
                .find(|n| at(*n) == '\n')
                .unwrap_or(chars.len())
        } else if starts(place, "/*") {
            end_of_comment(&chars, place)
        } else if at(place) == 'r' && !word_before && at(place + 1 + hashes) == '"' {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = place + 2 + hashes;
            let end = (inside..chars.len()).find(|n| starts(*n, &close));
            end.map_or(chars.len(), |n| n + close.len())
        } else if at(place) == '"' || is_char {
            end_of_quote(&chars, place)
        } else {
            out.push(at(place));
            place += 1;
            continue;
        };
        let lines = chars[place..end].iter().filter(|c| **c == '\n').count();
        out.push(' ');
        out.extend(std::iter::repeat_n('\n', lines));
        place = end;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut place) = (0, start);
    while place < chars.len() {
        match (chars[place], chars.get(place + 1)) {
            ('/', Some('*')) => (depth, place) = (depth + 1, place + 2),
            ('*', Some('/')) => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place
}

fn end_of_quote(chars: &[char], start: usize) -> usize {
    let mut place = start + 1;
    while place < chars.len() && chars[place] != chars[start] {
        place += if chars[place] == '\\' { 2 } else { 1 };
    }
    (place + 1).min(chars.len())
}

/// Cuts every item behind `#[cfg(test)]`: up to its `;`, or to the end of its braces.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let item = &rest[start + MARK.len()..];
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && matches!(c, '}' | ';')
        });
        rest = end.map_or("", |(place, _)| &item[place + 1..]);
    }
    out + rest
}

/// How often `word` stands in the code by itself.
pub fn count(code: &str, word: &str) -> usize {
    code.split(|c| !is_word(c))
        .filter(|found| *found == word)
        .count()
}

/// The top-level modules that a file of the module `path` (`["pubsub", "api"]`) names by
/// `crate::…` or by as many `super::` as lead to the root.
pub fn imports(code: &str, path: &[&str]) -> Vec<String> {
    let words: Vec<&str> = words(code);
    let mut found = Vec::new();
    let mut place = 0;
    while place < words.len() {
        let mut depth = match words[place] {
            "crate" => 0,
            "super" => path.len() - 1,
            _ => {
                place += 1;
                continue;
            }
        };
        place += 1;
        while words.get(place) == Some(&"::") && words.get(place + 1) == Some(&"super") {
            depth = depth.saturating_sub(1);
            place += 2;
        }
        if depth == 0 && words.get(place) == Some(&"::") {
            found.extend(heads(&words[place + 1..]));
        }
    }
    found
}

/// The first names of what follows: one, or those of a group.
fn heads(words: &[&str]) -> Vec<String> {
    if words.first() != Some(&"{") {
        return words
            .first()
            .map(|name| (*name).to_owned())
            .into_iter()
            .collect();
    }
    let (mut depth, mut names, mut first) = (0, Vec::new(), true);
    for word in words {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            name if depth == 1 && first => {
                names.push(name.to_owned());
                first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Names, `::`, and every other sign by itself.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        words.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    words
}
