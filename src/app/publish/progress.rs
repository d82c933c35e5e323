//! A line on the terminal that shows how far it is.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::util::printable;

/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// Marks of a whole bar.
const BAR: u64 = 30;

/// Characters of a trouble that are shown; a longer line would wrap and could not be redrawn.
const TROUBLE: usize = 100;

pub(super) struct Progress {
    /// Standard error is a terminal.
    on: bool,
    drawn: Option<Instant>,
}

impl Progress {
    pub fn new(on: bool) -> Self {
        Progress { on, drawn: None }
    }

    /// Draws, unless it was just done.
    pub fn draw(&mut self, done: u64, total: Option<u64>, trouble: Option<&str>) {
        let fresh = self.drawn.is_none_or(|at| at.elapsed() >= INTERVAL);
        if !self.on || !fresh {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = line(done, total, trouble);
        // Where it cannot be shown nothing is lost.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
    }

    /// Takes the line away, before another is written or at the end.
    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: Option<u64>, trouble: Option<&str>) -> String {
    let mut line = match total {
        Some(total) if total > 0 => {
            let done = done.min(total);
            let full = (u128::from(done) * u128::from(BAR) / u128::from(total)) as usize;
            let (full, rest) = ("#".repeat(full), ".".repeat(BAR as usize - full));
            format!("[{full}{rest}] {done} of {total}")
        }
        _ => format!("{done} events"),
    };
    if let Some(trouble) = trouble {
        line += &format!("; {}", printable::text(trouble, TROUBLE));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far() {
        assert_eq!(
            line(1, Some(3), None),
            "[##########....................] 1 of 3"
        );
        assert_eq!(line(7, None, Some("a\nb")), "7 events; a\\nb");
        assert_eq!(line(0, Some(0), None), "0 events");
    }
}
