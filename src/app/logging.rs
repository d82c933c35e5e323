//! Where log lines go: standard error, which the service manager keeps.

use std::io::{self, Write};

/// Starts logging. The flag wins over `RUST_LOG`, which wins over the configuration.
pub fn start(flag: Option<&str>, configured: &str) {
    let environment = std::env::var("RUST_LOG").ok();
    let filter = flag.or(environment.as_deref()).unwrap_or(configured);
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has its own times.
        builder.format_timestamp(None);
    } else {
        builder.format_timestamp_millis();
    }
    if builder.try_init().is_err() {
        log::debug!("logging was started by the program already");
    }
}

/// Tells the one who started the program, before there is a log.
pub fn tell(text: impl std::fmt::Display) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}
