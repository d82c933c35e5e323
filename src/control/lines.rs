//! Lines of bounded length.

use std::io::{self, BufRead, ErrorKind};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A line lies in the buffer, without its end.
    Line,
    /// The other side has ended; what it sent without an end is dropped.
    End,
    /// The line is longer than allowed; the rest of it was not read.
    TooLong,
}

/// Reads one line of at most `max` bytes, its end included, into `line`.
pub fn read(from: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<Read> {
    line.clear();
    loop {
        let waiting = match from.fill_buf() {
            Ok([]) => return Ok(Read::End),
            Ok(waiting) => waiting,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = waiting.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(waiting.len(), |end| end + 1);
        if line.len() + taken > max {
            return Ok(Read::TooLong);
        }
        line.extend_from_slice(&waiting[..taken]);
        from.consume(taken);
        if end.is_some() {
            line.pop();
            return Ok(Read::Line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_are_bounded_however_they_come() {
        for capacity in [1, 2, 3, 100] {
            let mut from = BufReader::with_capacity(capacity, &b"abc\n\nabcd\nx"[..]);
            let mut line = Vec::new();
            assert_eq!(read(&mut from, &mut line, 4).unwrap(), Read::Line);
            assert_eq!(line, b"abc");
            assert_eq!(read(&mut from, &mut line, 4).unwrap(), Read::Line);
            assert_eq!(line, b"");
            assert_eq!(read(&mut from, &mut line, 4).unwrap(), Read::TooLong);
            let mut from = BufReader::with_capacity(capacity, &b"x"[..]);
            assert_eq!(read(&mut from, &mut line, 4).unwrap(), Read::End);
        }
    }
}
