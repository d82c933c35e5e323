//! The files under etc/, printed from the declarations of the keys.

use std::fmt::Write as _;

use super::load::Program;
use super::{agent, publisher};

/// The text of etc/agent.toml: every key with its meaning, commented out at its default.
pub fn agent_toml() -> String {
    file(&agent::AGENT)
}

/// The text of etc/publisher.toml.
pub fn publisher_toml() -> String {
    file(&publisher::PUBLISHER)
}

fn file(program: &Program) -> String {
    let name = program.name;
    let mut out = format!(
        "# /etc/fanfare/{name}.toml: the configuration of fanfare-{name}.\n\
         #\n\
         # Every key stands here with its default; uncomment a line to change it. Read in this order,\n\
         # the last one wins: built-in defaults, this file, conf.d/*.toml beside it by name, the\n\
         # environment (FANFARE_ and the key in capitals), the command line (--set key=value).\n\
         # Where nothing is said of a reload, a key takes effect at the next start.\n\
         #\n\
         # Generated from src/config; to change a text, change it there.\n"
    );
    for key in program.keys {
        out.push('\n');
        for line in key.doc.lines() {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        // Writing to a String cannot fail.
        for line in key.value() {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "#{} = {}", key.name, key.default);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::parse;
    use super::*;

    /// `BLESS=1 cargo test config::doc` writes the files anew.
    #[test]
    fn the_files_under_etc_are_as_generated() {
        for (name, text) in [("agent", agent_toml()), ("publisher", publisher_toml())] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("etc/{name}.toml"));
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &text).unwrap();
            }
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                stored == text,
                "{} is not what src/config declares; run: BLESS=1 cargo test config::doc",
                path.display()
            );
        }
    }

    #[test]
    fn the_files_list_every_key_at_its_default() {
        for program in [agent::AGENT, publisher::PUBLISHER] {
            let text = file(&program);
            assert_eq!(parse::file(&text).unwrap(), parse::file("").unwrap());
            let is_key =
                |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
            let uncommented: String = text
                .lines()
                .filter(|line| is_key(line))
                .map(|line| format!("{}\n", &line[1..]))
                .collect();
            let values = parse::file(&uncommented).unwrap();
            assert_eq!(values.len(), program.keys.len());
            for key in program.keys {
                let default = parse::file(&format!("{} = {}", key.name, key.default)).unwrap();
                assert_eq!(values.get(key.name), default.get(key.name), "{}", key.name);
            }
            for line in text.lines() {
                assert!(line.chars().count() <= 98, "{line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }
}
