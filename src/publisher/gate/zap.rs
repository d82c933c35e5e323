//! ZAP 1.0 (rfc.zeromq.org/spec/27): questions and answers.

use crate::security::key::PublicKey;

/// Frames of a question about a CURVE client, and the last one's length.
const FRAMES: usize = 7;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted, under this user id.
    Admitted(String),
    /// Not yet authorised. 300: after a 400 libzmq's client would never try again.
    Unknown,
    /// What came is no question of libzmq's.
    Malformed,
}

/// A question that can be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Who asks to be admitted.
    pub key: PublicKey,
    /// Where from.
    pub address: &'a str,
}

/// Reads a question: version, request id, domain, address, identity, mechanism, credentials.
pub fn read<'a>(frames: &'a [Vec<u8>], domain: &str) -> Option<Question<'a>> {
    let [version, _, asked, address, _, mechanism, credentials] = frames else {
        return None;
    };
    let known = version == b"1.0" && mechanism == b"CURVE" && asked == domain.as_bytes();
    let key = credentials.as_slice().try_into().ok().filter(|_| known)?;
    Some(Question {
        key: PublicKey::new(key),
        address: std::str::from_utf8(address).ok()?,
    })
}

/// The answer to a question: version, its request id, status, text, user id, metadata.
pub fn answer(frames: &[Vec<u8>], verdict: &Verdict) -> [Vec<u8>; 6] {
    let id = frames.get(1).filter(|_| frames.len() <= FRAMES);
    let (status, text, user) = match verdict {
        Verdict::Admitted(name) => ("200", "OK", name.as_str()),
        Verdict::Unknown => ("300", "not authorised yet", ""),
        Verdict::Malformed => ("400", "malformed", ""),
    };
    [
        b"1.0".to_vec(),
        id.cloned().unwrap_or_default(),
        status.into(),
        text.into(),
        user.into(),
        Vec::new(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Vec<Vec<u8>> {
        let frames: [&[u8]; 7] = [b"1.0", b"7", b"d", b"10.0.0.1", b"", b"CURVE", &[9; 32]];
        frames.map(<[u8]>::to_vec).into()
    }

    #[test]
    fn a_question_is_read_and_its_id_given_back() {
        let frames = question();
        let read = read(&frames, "d").unwrap();
        assert_eq!(read.key, PublicKey::new([9; 32]));
        assert_eq!(read.address, "10.0.0.1");
        let answer = answer(&frames, &Verdict::Admitted("n1".into()));
        let expected: [&[u8]; 6] = [b"1.0", b"7", b"200", b"OK", b"n1", b""];
        assert_eq!(answer, expected.map(<[u8]>::to_vec));
    }

    #[test]
    fn anything_else_is_malformed() {
        for (place, wrong) in [
            (0, &b"2.0"[..]),
            (2, b"e"),
            (3, &[0xff]),
            (5, b"NULL"),
            (5, b"PLAIN"),
            (6, &[9; 31]),
            (6, &[9; 33]),
        ] {
            let mut frames = question();
            frames[place] = wrong.to_vec();
            assert_eq!(read(&frames, "d"), None, "{place}");
        }
        for length in (0..7).chain([8]) {
            let mut frames = question();
            frames.resize(length, Vec::new());
            assert_eq!(read(&frames, "d"), None, "{length}");
            assert_eq!(answer(&frames, &Verdict::Malformed)[2], b"400");
        }
    }
}
