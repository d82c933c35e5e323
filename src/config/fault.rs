//! What is wrong with a configuration: one line each, all of them at once.

use std::fmt;

/// One fault: where, which key, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `file:line`, `file`, `FANFARE_…`, `--set` or `built-in default`.
    pub at: String,
    /// The key; `None` where a whole file is at fault. A key of a handler's table is
    /// `handler.NAME.KEY`, or `handler#N.KEY` (the Nth table) while it has no name.
    pub key: Option<String>,
    /// What is wrong and, where it can be said, what to write instead.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.iter().flat_map(|key| [key.as_str(), ": "]);
        let parts = [self.at.as_str(), ": "].into_iter();
        // Keys, paths and messages can hold anything; a fault is still one line.
        for part in parts.chain(key).chain([self.why.trim_end()]) {
            for c in part.chars() {
                match c {
                    '\n' => f.write_str("; ")?,
                    c if c.is_control() => write!(f, "{}", c.escape_default())?,
                    c => fmt::Write::write_char(f, c)?,
                }
            }
        }
        Ok(())
    }
}

/// Every fault of a configuration, in the order of the sources and then of the keys.
/// `Display` gives one line each; the process is to end with status 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault of `key`.
    pub(super) fn add(&mut self, at: impl fmt::Display, key: &str, why: impl fmt::Display) {
        self.0.push(Fault {
            at: at.to_string(),
            key: Some(key.into()),
            why: why.to_string(),
        });
    }

    /// Adds a fault of a whole source.
    pub(super) fn add_source(&mut self, at: impl fmt::Display, why: impl fmt::Display) {
        self.0.push(Fault {
            at: at.to_string(),
            key: None,
            why: why.to_string(),
        });
    }

    /// Whether one of these keys is at fault already: then its default stands in for it, and
    /// checks that compare it with others would report what nobody wrote.
    pub(super) fn name_any(&self, keys: &[&str]) -> bool {
        let named = |fault: &Fault| fault.key.as_deref().is_some_and(|key| keys.contains(&key));
        self.0.iter().any(named)
    }

    /// Whether there is no fault.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// `value` when there is no fault.
    pub(super) fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What to say of a key that is not known: the nearest that is.
pub(super) fn unknown_key<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min();
    match near {
        Some((slips, near)) if slips <= 1 + near.len() / 3 => {
            format!("unknown key; did you mean `{near}`?")
        }
        Some((_, near)) => format!("unknown key; the nearest known one is `{near}`"),
        None => "unknown key".into(),
    }
}
