//! The events of a file or pipe, in bounded memory.

use std::io::{self, BufRead, Read};

use crate::event::codec;
use crate::publisher::json_line::JsonLine;
use crate::publisher::submit::{MAX_EVENT, check};

/// Longest line, bytes.
const MAX_LINE: usize = MAX_EVENT;

/// One line that is not blank.
pub(super) struct Line {
    /// From 1.
    pub number: u64,
    /// The event, or what is wrong with the line.
    pub event: Result<JsonLine, String>,
}

/// All lines that are not blank. An error of reading is the last.
pub(super) fn lines(mut input: impl BufRead) -> impl Iterator<Item = Line> {
    let mut bytes = Vec::new();
    let mut number = 0;
    let mut broken = false;
    std::iter::from_fn(move || {
        while !broken {
            number += 1;
            let event = match next(&mut input, &mut bytes) {
                Ok(Some(text)) if text.trim_ascii().is_empty() => continue,
                Ok(Some(text)) => parse(text),
                Ok(None) => return None,
                Err(error) => {
                    // One that is too long was passed over; after any other nothing comes.
                    broken = error.kind() != io::ErrorKind::FileTooLarge;
                    Err(error.to_string())
                }
            };
            return Some(Line { number, event });
        }
        None
    })
}

fn parse(text: &[u8]) -> Result<JsonLine, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the line is not UTF-8".to_owned())?;
    let line = JsonLine::parse(text).map_err(|error| error.to_string())?;
    check(&line.event(), line.version()).map_err(|(_, reason)| reason)?;
    let mut payload = Vec::new();
    codec::encode(&line.event(), &mut payload);
    match payload.len() > MAX_EVENT {
        true => Err(format!("an event has at most {MAX_EVENT} bytes")),
        false => Ok(line),
    }
}

fn next<'a>(input: &mut impl BufRead, bytes: &'a mut Vec<u8>) -> io::Result<Option<&'a [u8]>> {
    bytes.clear();
    let read = input.take(MAX_LINE as u64 + 1).read_until(b'\n', bytes)?;
    if read == 0 {
        return Ok(None);
    }
    if read > MAX_LINE && !bytes.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        let why = format!("a line has at most {MAX_LINE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(Some(bytes))
}
