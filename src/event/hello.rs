//! The publisher's heartbeat: who it is, how far it is, what moved lately.
//!
//! It is the payload of messages on [`super::topic::HELLO`]. Legacy subscribers never see it: they
//! do not subscribe to topics that begin with byte 0x01.
//!
//! ```text
//!  0  version, 1            26  head seq, u64
//!  1  flags                 34  floor seq, u64
//!  2  publisher id, 16      42  unix microseconds, u64
//! 18  incarnation, u64      50  since, u64
//!                           58  length of the sync endpoint, u8, then the endpoint
//!                               number of recent topics, u16, then per topic:
//!                               hash of the topic, u64; its last seq, u64
//! ```
//!
//! Numbers are big-endian. Flags: 1 = the publisher's rows are authoritative, 2 = more topics moved
//! than are listed. Bytes that follow are for later versions and passed over.

/// The version written, and the only one read.
const VERSION: u8 = 1;

const AUTHORITATIVE: u8 = 1;
const OVERFLOW: u8 = 2;

/// Most recent topics in one hello.
pub const MAX_RECENT: usize = 256;

/// The heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// Who it is.
    pub publisher: [u8; 16],
    /// The number of its unbroken life.
    pub incarnation: u64,
    /// Its last seq; 0 when it has sent nothing yet.
    pub head: u64,
    /// The oldest seq it can replay; above `head` when there is none.
    pub floor: u64,
    /// When it was made, microseconds since the Unix epoch.
    pub unix_micros: u64,
    /// Its last seq when it said the hello before this one, which `recent` goes back to; 0 at first.
    /// Whoever missed that one does not know what moved before.
    pub since: u64,
    /// Where to ask for what was missed, at most 255 bytes; empty when nowhere. In `tcp://*:port` the
    /// `*` stands for the address that the agent is connected to.
    pub sync_endpoint: String,
    /// Whether a row that is not in its snapshot does not exist, whoever stamped it and when.
    pub authoritative: bool,
    /// Topics changed lately, by [`topic_hash`], and their last seq; at most [`MAX_RECENT`].
    pub recent: Vec<(u64, u64)>,
    /// Whether more topics changed than `recent` lists.
    pub overflow: bool,
}

/// Why bytes are no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadHello {
    /// A version this one does not know.
    #[error("a hello of version {0}; this is version {VERSION}")]
    Version(u8),
    /// The bytes end too early.
    #[error("the hello is cut short")]
    Truncated,
    /// More recent topics than [`MAX_RECENT`].
    #[error("the hello lists more than {MAX_RECENT} topics")]
    TooMany,
    /// The sync endpoint is not UTF-8.
    #[error("the sync endpoint is not UTF-8")]
    InvalidUtf8,
}

/// FNV-1a, 64 bits: a name for a topic that is the same everywhere. A collision costs a question
/// that was not needed, never a loss.
pub fn topic_hash(topic: &str) -> u64 {
    fnv(topic.as_bytes())
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Hello {
    /// Writes it into `out`, which is emptied first. What is over a limit is left out and, for
    /// topics, flagged.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let recent = &self.recent[..self.recent.len().min(MAX_RECENT)];
        let overflow = self.overflow || recent.len() < self.recent.len();
        let endpoint = Some(self.sync_endpoint.as_str()).filter(|name| name.len() <= 255);
        let endpoint = endpoint.unwrap_or("").as_bytes();
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.clear();
        out.extend([
            VERSION,
            flag(self.authoritative, AUTHORITATIVE) | flag(overflow, OVERFLOW),
        ]);
        out.extend(self.publisher);
        for number in [
            self.incarnation,
            self.head,
            self.floor,
            self.unix_micros,
            self.since,
        ] {
            out.extend(number.to_be_bytes());
        }
        out.push(endpoint.len() as u8);
        out.extend(endpoint);
        out.extend((recent.len() as u16).to_be_bytes());
        for (hash, last) in recent {
            out.extend(hash.to_be_bytes());
            out.extend(last.to_be_bytes());
        }
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHello> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(BadHello::Version(version));
        }
        let [flags] = take(&mut rest)?;
        let publisher = take(&mut rest)?;
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (incarnation, head, floor) = (number()?, number()?, number()?);
        let (unix_micros, since) = (number()?, number()?);
        let [len] = take(&mut rest)?;
        let (endpoint, after) = rest
            .split_at_checked(len.into())
            .ok_or(BadHello::Truncated)?;
        rest = after;
        let endpoint = std::str::from_utf8(endpoint).map_err(|_| BadHello::InvalidUtf8)?;
        let count = usize::from(u16::from_be_bytes(take(&mut rest)?));
        if count > MAX_RECENT {
            return Err(BadHello::TooMany);
        }
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let recent: Result<Vec<_>, _> = (0..count).map(|_| Ok((number()?, number()?))).collect();
        Ok(Hello {
            publisher,
            incarnation,
            head,
            floor,
            unix_micros,
            since,
            sync_endpoint: endpoint.to_owned(),
            authoritative: flags & AUTHORITATIVE != 0,
            recent: recent?,
            overflow: flags & OVERFLOW != 0,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadHello> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(BadHello::Truncated)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            publisher: *b"0123456789abcdef",
            incarnation: 7,
            head: 100,
            floor: 1,
            unix_micros: 5,
            since: 90,
            sync_endpoint: "tcp://10.0.0.1:8867".into(),
            authoritative: true,
            recent: vec![(topic_hash("D"), 100), (topic_hash("t1"), 99)],
            overflow: false,
        }
    }

    #[test]
    fn the_wire_form_is_the_contract() {
        let mut out = Vec::new();
        hello().encode(&mut out);
        assert_eq!(&out[..2], [1, 1]);
        assert_eq!(&out[2..18], b"0123456789abcdef");
        assert_eq!(out[33], 100);
        assert_eq!(&out[50..58], 90u64.to_be_bytes());
        assert_eq!((out[58], &out[59..78]), (19, &b"tcp://10.0.0.1:8867"[..]));
        assert_eq!(&out[78..80], [0, 2]);
        assert_eq!(topic_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(topic_hash("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn it_is_bounded_and_says_so() {
        let recent = (0..1000).map(|n| (n, n)).collect();
        let mut out = Vec::new();
        Hello {
            recent,
            sync_endpoint: "x".repeat(300),
            ..hello()
        }
        .encode(&mut out);
        let read = Hello::decode(&out).unwrap();
        assert_eq!((read.recent.len(), read.overflow), (MAX_RECENT, true));
        assert_eq!(read.sync_endpoint, "");
        assert_eq!(Hello::decode(&[9]), Err(BadHello::Version(9)));
    }

    proptest! {
        #[test]
        fn every_prefix_is_refused_and_later_bytes_are_passed_over(extra in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            hello().encode(&mut out);
            for cut in 0..out.len() {
                prop_assert!(Hello::decode(&out[..cut]).is_err());
            }
            out.extend(extra);
            prop_assert_eq!(Hello::decode(&out), Ok(hello()));
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in any::<Vec<u8>>()) {
            let _ = Hello::decode(&bytes);
        }
    }
}
