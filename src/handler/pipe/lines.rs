//! Bytes of a stream as lines.

/// Longest line, bytes. What is beyond it is thrown away: a child must not make the agent grow.
const MAX_LINE: usize = 64 * 1024;

/// The beginning of a line whose end has not come.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and gives the lines they complete, without their ends. What is no UTF-8 is
    /// replaced.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            line(String::from_utf8_lossy(&self.partial).into_owned());
            self.partial.clear();
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_bounded() {
        let mut lines = Lines::default();
        let mut said = Vec::new();
        for bytes in [&b"a"[..], b"b\n\nc\xff", b"\n"] {
            lines.push(bytes, |line| said.push(line));
        }
        assert_eq!(said, ["ab", "", "c\u{fffd}"]);
        for _ in 0..10 {
            lines.push(&[b'z'; 50_000], |_| panic!("no end yet"));
        }
        said.clear();
        lines.push(b"\nnext\n", |line| said.push(line));
        assert_eq!((said[0].len(), &*said[1]), (MAX_LINE, "next"));
    }
}
