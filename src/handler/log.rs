//! `module = "log"`: every event as a line of the agent's own log.

use std::fmt;

use log::Level;

use super::{BuildError, Handler, HandlerError, Module, Settings, SyncReason};
use crate::event::Event;
use crate::util::printable;
use crate::util::stop::StopToken;

/// What `RUST_LOG` and log filters name to get these lines or to leave them out.
pub const TARGET: &str = "fanfare::event";

/// Bytes of a value that are shown when `max_value` is not set.
const MAX_VALUE: usize = 256;
/// Bytes of a table, key or topic that are shown.
const MAX_NAME: usize = 256;

/// The registry's entry. Keys: `level` (error, warn, info, debug or trace; default info),
/// `values` (default true), `max_value` (bytes of a value that are shown, default 256).
pub const MODULE: Module = Module {
    name: "log",
    about: "writes a line to the agent's log for each event",
    keys: &["level", "max_value", "values"],
    build,
};

struct Log {
    name: String,
    level: Level,
    max_value: Option<usize>,
    /// Rows given in the open bracket.
    rows: Option<u64>,
    logger: fn() -> &'static dyn log::Log,
}

fn build(
    name: &str,
    settings: &Settings,
    _stop: &StopToken,
) -> Result<Box<dyn Handler>, BuildError> {
    Ok(Box::new(Log::new(name, settings)?))
}

impl Log {
    fn new(name: &str, settings: &Settings) -> Result<Self, BuildError> {
        let level = match settings.get::<String>("level")? {
            None => Level::Info,
            Some(level) => level.parse().map_err(|_| {
                let why = format!("{level:?} is not one of error, warn, info, debug and trace");
                BuildError::setting("level", why)
            })?,
        };
        let max_value = settings.get("max_value")?.unwrap_or(MAX_VALUE);
        let values = settings.get("values")?.unwrap_or(true);
        Ok(Log {
            name: name.to_owned(),
            level,
            max_value: values.then_some(max_value),
            rows: None,
            logger: log::logger,
        })
    }

    fn write(&self, what: impl fmt::Display) {
        let logger = (self.logger)();
        log::log!(logger: logger, target: TARGET, self.level, "{}: {what}", self.name);
    }
}

/// An event as its line; the value, which may hold anything, comes last.
struct Line<'a> {
    event: &'a Event<'a>,
    sync: bool,
    max_value: Option<usize>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        let name = |text| printable::name(text, MAX_NAME);
        write!(
            f,
            "{}{} table={} key={} topic={}",
            if self.sync { "sync " } else { "" },
            name(event.action.as_str()),
            name(event.table),
            name(event.key),
            name(event.topic_or_all()),
        )?;
        if let Some(stamp) = &event.stamp {
            write!(f, " version={}", stamp.version)?;
        }
        if let (Some(max), Some(value)) = (self.max_value, event.value) {
            write!(f, " value={}", printable::text(value, max))?;
        }
        Ok(())
    }
}

impl Handler for Log {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.rows = Some(0);
        self.write(format_args!("resync begins ({})", reason.as_str()));
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        if let Some(rows) = &mut self.rows {
            *rows += 1;
        }
        self.write(Line {
            event,
            sync: self.rows.is_some(),
            max_value: self.max_value,
        });
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        let rows = self.rows.take().unwrap_or(0);
        self.write(format_args!("resync ended, {rows} rows"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stamp;
    use crate::handler::registry::settings;
    use std::cell::RefCell;

    thread_local!(static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

    struct Collect;

    impl log::Log for Collect {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {} {}", record.target(), record.level(), record.args());
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
        fn flush(&self) {}
    }

    fn collecting(toml: &str) -> Log {
        log::set_max_level(log::LevelFilter::Trace);
        let mut made = Log::new("audit", &settings(toml)).unwrap();
        made.logger = || &Collect;
        made
    }

    fn lines() -> Vec<String> {
        LINES.take()
    }

    #[test]
    fn events_and_resyncs_are_logged() {
        let mut log = collecting("level = \"warn\"");
        let mut event = Event::set("lport", "p1", "{\"a\":1}").on("t1");
        log.begin_sync(SyncReason::Started).unwrap();
        log.apply(&event).unwrap();
        log.end_sync().unwrap();
        event.stamp = Some(Stamp {
            version: 9,
            ..Stamp::default()
        });
        log.apply(&event).unwrap();
        log.apply(&Event::delete("lport", "p1")).unwrap();
        assert_eq!(
            lines(),
            [
                "fanfare::event WARN audit: resync begins (started)",
                r#"fanfare::event WARN audit: sync set table=lport key=p1 topic=t1 value={"a":1}"#,
                "fanfare::event WARN audit: resync ended, 1 rows",
                r#"fanfare::event WARN audit: set table=lport key=p1 topic=t1 version=9 value={"a":1}"#,
                "fanfare::event WARN audit: delete table=lport key=p1 topic=D",
            ]
        );
    }

    #[test]
    fn an_event_cannot_forge_a_line_or_a_field() {
        let mut log = collecting("max_value = 4");
        log.apply(&Event::set("t", "k\nERROR x value=1", "\r\n€€"))
            .unwrap();
        assert_eq!(
            lines(),
            [
                r#"fanfare::event INFO audit: set table=t key="k\nERROR x value=1" topic=D value=\r\n…(and 6 bytes)"#
            ]
        );
    }

    #[test]
    fn values_can_be_left_out() {
        let mut log = collecting("values = false");
        log.apply(&Event::set("t", "k", "secret")).unwrap();
        assert_eq!(
            lines(),
            ["fanfare::event INFO audit: set table=t key=k topic=D"]
        );
    }

    #[test]
    fn a_wrong_level_is_named() {
        let error = Log::new("audit", &settings("level = \"loud\"")).err();
        assert_eq!(
            error.unwrap().to_string(),
            "level: \"loud\" is not one of error, warn, info, debug and trace"
        );
    }
}
