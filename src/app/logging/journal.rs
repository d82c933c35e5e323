//! What the journal of the service manager wants of a line: its priority first, as sd-daemon(3) says. Without,
//! all lines are of priority info, and `journalctl -p warning` finds none.

use std::io::{self, Write};
use std::sync::OnceLock;

use log::{Level, Record};

/// Whether standard error is the journal's. `JOURNAL_STREAM` names the device and inode that it was given:
/// the variable alone is inherited by whoever has standard error led elsewhere.
pub(super) fn is_stderr() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stat = rustix::fs::fstat(io::stderr());
        stat.is_ok_and(|stat| told == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// Writes a line of the log. The journal notes the time itself.
pub(super) fn record(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let (level, target, text) = (record.level(), record.target(), record.args());
    // Further lines of a message are indented, as env_logger does.
    let text = format_args!("[{level:<5} {target}] {text}");
    lines(out, level, &text.to_string().replace('\n', "\n    "))
}

/// Writes `text`. Each line of it is an entry of its own to the journal, with a priority of its own.
pub(super) fn lines(out: &mut impl Write, level: Level, text: &str) -> io::Result<()> {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    for line in text.lines() {
        writeln!(out, "<{priority}>{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(level: Level, text: &str) -> String {
        let mut out = Vec::new();
        let target = "fanfare::dispatch";
        let mut builder = Record::builder();
        let builder = builder.level(level).target(target);
        record(&mut out, &builder.args(format_args!("{text}")).build()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_begins_with_its_priority_and_says_what_it_says_elsewhere() {
        for (level, line) in [
            (Level::Error, "<3>[ERROR fanfare::dispatch] text\n"),
            (Level::Warn, "<4>[WARN  fanfare::dispatch] text\n"),
            (Level::Info, "<6>[INFO  fanfare::dispatch] text\n"),
            (Level::Debug, "<7>[DEBUG fanfare::dispatch] text\n"),
            (Level::Trace, "<7>[TRACE fanfare::dispatch] text\n"),
        ] {
            assert_eq!(written(level, "text"), line);
        }
    }

    /// Else the journal would have the rest as info.
    #[test]
    fn each_line_of_a_message_has_its_priority() {
        assert_eq!(
            written(Level::Warn, "one\n<6>two"),
            "<4>[WARN  fanfare::dispatch] one\n<4>    <6>two\n"
        );
    }
}
